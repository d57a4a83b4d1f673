; Segment loads that repeat: by MOV and POP, while their descriptors change, in and out of other classes of segments.
%macro own_descriptors 0
moving: dq      0x00CF92000000FFFF      ; 30h: 4 GiB, its base moves; not accessed yet
small:  dq      0x0040930000000003      ; 38h: four bytes from the base
flat:   dq      0x00CF93000000FFFF      ; 40h: flat
fixed:  dq      0x00CF91000000FFFF      ; 48h: read only
%endmacro
%include "flat.inc"
MOVING  equ     0x30
SMALL   equ     0x38
FLAT    equ     0x40
FIXED   equ     0x48

%macro  base 2                          ; descriptor, EAX: its base
        mov     [%1 + 2], ax
        rol     eax, 16
        mov     [%1 + 4], al
        mov     [%1 + 7], ah
        rol     eax, 16
%endmacro

main:   mov     eax, words
        base    small, eax
        mov     edi, 4
.moves: mov     eax, edi                ; each time the base is another, at the same code
        lea     eax, [words + eax * 4 - 4]
        base    moving, eax
        mov     ax, MOVING
        mov     fs, ax
        show    "fs", dword [fs:0]
        push    dword MOVING
        pop     gs
        show    "gs", dword [gs:4]
        dec     edi
        jnz     .moves
        show    "descriptor", dword [moving + 4]

        mov     edi, 4                  ; null, small, based and flat in turn; flags and ECX stay
.turns: try     .null
        xor     eax, eax
        mov     ecx, 0x12345678
        stc
        mov     fs, ax
        setc    bl
        show    "ecx", ecx
        movzx   ebx, bl
        show    "carry", ebx
%ifdef LIMITS
        mov     eax, [fs:0]
        line    "read by a null selector"
%endif
.null:  try     .small
        mov     ax, SMALL
        mov     fs, ax
        show    "small", dword [fs:0]
%ifdef LIMITS
        mov     eax, [fs:1]
        line    "read beyond the limit"
%endif
.small: mov     ax, MOVING
        mov     fs, ax
        show    "based", dword [fs:4]
        mov     ax, FLAT
        mov     fs, ax
        show    "flat", dword [fs:words]
        dec     edi
        jnz     .turns

        mov     edi, 3                  ; DS and ES, that everything goes by
.data:  push    ds
        push    es
        mov     ax, MOVING
        mov     ds, ax
        mov     ebx, [4]
        mov     ax, FLAT
        mov     es, ax
        mov     edx, [es:words]
        o16 pop es
        o16 pop ax
        pop     ds
        show    "ds", ebx
        show    "es", edx
        show    "data", dword [words + 8]
        dec     edi
        jnz     .data

        mov     edi, 4                  ; VERW; in the third round the segment is not writable any more
.verw:  mov     ax, MOVING
        cmp     edi, edi
        stc
        verw    ax
        call    flags
        mov     word [selector], FIXED
        verw    [selector]
        call    flags
        cmp     edi, 3
        jne     .same
        mov     byte [moving + 5], 0x91
.same:  dec     edi
        jnz     .verw
        mov     byte [moving + 5], 0x93

        mov     edi, 4                  ; a load that comes to be refused
.refused:
        try     .fault
        mov     ax, FLAT
        mov     gs, ax
        show    "gs", dword [gs:words]
        mov     byte [flat + 5], 0x13   ; not present
        dec     edi
        jnz     .refused
.fault: show    "left", edi
        mov     byte [flat + 5], 0x93

        mov     esi, gdt                ; another table with another base at the same selector
        mov     edi, copy
        mov     ecx, gdt_end - gdt
        rep movsb
        mov     eax, words + 12
        base    moving + (copy - gdt), eax
        mov     edi, 4
.table: test    edi, 1
        jz      .first
        lgdt    [copied]
        jmp     .load
.first: lgdt    [gdtr]
.load:  mov     ax, MOVING
        mov     fs, ax
        show    "table", dword [fs:0]
        dec     edi
        jnz     .table

        mov     edi, 3                  ; the null selectors are four
.null3: mov     ax, di
        mov     gs, ax
        mov     ax, gs
        movzx   eax, ax
        show    "null", eax
        push    gs
        pop     fs
        mov     ax, fs
        movzx   eax, ax
        show    "null", eax
        dec     edi
        jns     .null3
        quit    0

flags:  pushfd
        pop     eax
        and     eax, 0x8D5
        show    "flags", eax
        ret

        section .data
        align   8
words:  dd      0x11111111, 0x22222222, 0x33333333, 0x44444444, 0x55555555
selector:
        dw      0
copied: dw      gdt_end - gdt - 1
        dd      copy
        section .bss
copy:   resb    256
        end_guest
