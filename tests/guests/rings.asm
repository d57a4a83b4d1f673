; Ring 3 and back: IRET down, INT and call gates up (with parameters), privileged and sensitive instructions in ring 3.
%macro own_descriptors 0
gate0:  dq      0x0000EC0200080000      ; 30h: a call gate for ring 3, two parameters
gate0b: dq      0x00008C0000080000      ; 38h: a call gate for ring 0 only
        dq      0x00CFBB000000FFFF      ; 40h: code of ring 1
        dq      0x00CFB3000000FFFF      ; 48h: data of ring 1
        dq      0x00CFFF000000FFFF      ; 50h: conforming code, DPL 3
%endmacro
%include "flat.inc"
GATE    equ     0x30
GATE_0  equ     0x38
CODE1   equ     0x40 + 1
DATA1   equ     0x48 + 1
PRINT   equ     0x30                    ; INT 30h: print the character in AL
BACK   equ     0x31                    ; INT 31h: go on in ring 0 at EDX
main:   mov     al, 0xFF                ; no timer tick while IF is tried
        out     0x21, al
          mov     eax, callee
        mov     [gate0], ax
        mov     [gate0b], ax
        shr     eax, 16
        mov     [gate0 + 6], ax
        mov     [gate0b + 6], ax
        mov     dword [tss + 12], stack1
        mov     dword [tss + 16], DATA1
        gate    PRINT, print_service, 0xEE00
        gate    BACK, leave_service, 0xEF00
        gate    0x32, ring1_service, 0xEE00
        mov     word [idt + 0x32 * 8 + 2], CODE1 - 1
        gate    0x33, print_service, 0x8E00

%macro  in_ring3 1                      ; enter ring 3 at the label; INT BACK comes back here
        push    dword DATA3
        push    dword stack3
        pushfd
        push    dword CODE3
        push    dword %1
        mov     [ring0_esp], esp
        add     dword [ring0_esp], 20
        mov     dword [ring0_eip], %%back
        iretd
%%back:
%endmacro
%macro  in_ring3_faulting 2+            ; name, instruction
        print   %1, ": "
        try     %%fault
        in_ring3 %%user
        line    "no exception"
        jmp     %%next
%%user: %2
        int     BACK
%%fault:
%%next:
%endmacro
        in_ring3 user
        line    "back in ring 0"
        in_ring3_faulting "cli", cli
        in_ring3_faulting "sti", sti
        in_ring3_faulting "hlt", hlt
        in_ring3_faulting "in", in al, 0x80
        in_ring3_faulting "out", out 0x80, al
        in_ring3_faulting "lgdt", lgdt [gdtr]
        in_ring3_faulting "lidt", lidt [idtr]
        in_ring3_faulting "lldt", lldt ax
        in_ring3_faulting "ltr", ltr ax
        in_ring3_faulting "lmsw", lmsw ax
        in_ring3_faulting "clts", clts
        in_ring3_faulting "mov from cr0", mov eax, cr0
        in_ring3_faulting "mov to cr3", mov cr3, eax
        in_ring3_faulting "mov from dr7", mov eax, dr7
        in_ring3_faulting "invd", invd
        in_ring3_faulting "wbinvd", wbinvd
        in_ring3_faulting "invlpg", invlpg [0]
        in_ring3_faulting "rdmsr", rdmsr
        in_ring3_faulting "wrmsr", wrmsr
        in_ring3_faulting "int of a gate for ring 0", int 0x33
        in_ring3_faulting "int 6", int 6
        in_ring3_faulting "int3 through a gate for ring 0", int3
        in_ring3_faulting "call of a gate for ring 0", call GATE_0:0
        in_ring3_faulting "jmp to ring 0", jmp CODE:0
        in_ring3_faulting "data of ring 0", call user_data0
        in_ring3_faulting "stack of ring 0", call user_stack0
        in_ring3_faulting "divide by zero", call user_divide
        in_ring3_faulting "retf to ring 0", call user_retf
        in_ring3_faulting "jmp to a TSS", jmp TSS:0

        ; POPF in ring 3 neither changes IOPL nor, with IOPL 0, IF
        in_ring3 user_popf
        show    "popf", [flags]
        ; with IOPL 3 it does change IF; and IN, CLI and STI work
        pushfd
        or      dword [esp], 0x3000
        popfd
        in_ring3 user_popf
        show    "popf, iopl 3", [flags]
        in_ring3_faulting "cli, iopl 3", cli
        in_ring3_faulting "out, iopl 3", out 0x80, al
        pushfd
        and     dword [esp], ~0x3000
        popfd
        ; SGDT, SIDT, SLDT, STR, SMSW are not privileged
        in_ring3 user_looks
        mov     eax, [looks]
        cmp     eax, [gdtr]
        sete    al
        movzx   eax, al
        show    "sgdt", eax
        show    "str", [looks + 8]
        show    "sldt", [looks + 12]
        mov     eax, [looks + 16]
        and     eax, 1
        show    "smsw pe", eax
        ; data segments of ring 0 are cleared on the way down
        mov     ax, DATA
        mov     fs, ax
        mov     ax, DATA3
        mov     gs, ax
        in_ring3 user_segments
        show    "ds, es", [segments]
        show    "fs, gs", [segments + 4]
        ; ring 1 by a gate from ring 3, and back
        in_ring3 user_ring1
        show    "ring 1 cs, ss", [ring1]
        quit    0

leave_service:
        mov     ax, DATA
        mov     ds, ax
        mov     es, ax
        mov     esp, [ring0_esp]
        jmp     [ring0_eip]
print_service:
        out     DEBUG, al
        iretd
ring1_service:
        push    eax
        push    ds
        mov     ax, DATA3
        mov     ds, ax
        mov     [ring1], cs
        mov     [ring1 + 2], ss
        pop     ds
        pop     eax
        iretd
callee:                                 ; a far procedure of ring 0 with two doubleword parameters
        mov     eax, [esp + 8]
        shl     eax, 4
        add     eax, [esp + 12]
        xor     ecx, ecx
        mov     cx, cs
        mov     edx, [esp + 4]          ; the caller's CS
        xor     ebx, ebx
        mov     bx, ss
        retf    8

%macro  say 1                           ; print a character through INT 30h
        mov     al, %1
        int     PRINT
%endmacro
user:   mov     ax, DATA3
        mov     ds, ax
        mov     es, ax
        say     'r'
        say     'i'
        say     'n'
        say     'g'
        mov     ax, cs
        and     al, 3
        add     al, '0'
        int     PRINT
        say     10
        push    dword 5
        push    dword 0x123
        mov     ebp, esp
        call    GATE:0xDEAD0000         ; the offset is not used
        mov     [results], eax
        mov     [results + 4], ecx
        mov     [results + 8], edx
        mov     [results + 12], ebx
        sub     esp, ebp
        mov     [results + 16], esp
        add     esp, ebp
        mov     esi, results
        mov     ecx, 5
.show:  lodsd
        mov     edx, eax
        mov     ebx, 8
.digit: rol     edx, 4
        mov     al, dl
        and     al, 15
        cmp     al, 10
        sbb     al, 0x69
        das
        int     PRINT
        dec     ebx
        jnz     .digit
        say     ' '
        loop    .show
        say     10
        jmp     0x53:.conforming        ; conforming code of DPL 3
.conforming:
        mov     ax, cs
        cmp     ax, 0x53
        je      .right
        say     '!'
.right: int     BACK
user_data0:
        mov     ax, DATA
        mov     ds, ax
        ret
user_stack0:
        mov     ax, DATA
        mov     ss, ax
        ret
user_divide:
        xor     ecx, ecx
        div     ecx
        ret
user_retf:
        push    dword CODE
        push    dword main
        retf
user_popf:
        mov     ax, DATA3
        mov     ds, ax
        push    dword 0x3202
        popfd
        pushfd
        pop     dword [flags]
        int     BACK
user_looks:
        mov     ax, DATA3
        mov     ds, ax
        sgdt    [looks]
        str     [looks + 8]
        sldt    [looks + 12]
        smsw    [looks + 16]
        int     BACK
user_segments:
        mov     ax, ds
        mov     bx, es
        mov     cx, fs
        mov     dx, gs
        push    dword DATA3
        pop     ds
        mov     [segments], ax
        mov     [segments + 2], bx
        mov     [segments + 4], cx
        mov     [segments + 6], dx
        int     BACK
user_ring1:
        mov     ax, DATA3
        mov     ds, ax
        int     0x32
        int     BACK

        section .data
ring0_esp:
        dd      0
ring0_eip:
        dd      0
flags:  dd      0
looks:  times   5 dd 0
segments:
        dd      0, 0
ring1:  dd      0
results:
        times   5 dd 0
        section .bss
        alignb  16
        resb    1024
stack1:
        end_guest
