; An instruction across two pages, of which the second is another page in each of three address spaces, or none.
%include "flat.inc"
ONE     equ     0x400000                ; linear: the same page in all spaces
FIRST   equ     0x200000                ; physical
NEXT    equ     0x201000                ; physical: one for each space
TABLES  equ     0x300000                ; a directory and a table for each, and the table of the first 4 MiB

main:   mov     edi, TABLES
        xor     eax, eax
        mov     ecx, 0x2000
        rep stosd
        mov     edi, TABLES + 0x6000    ; the first 4 MiB as they are
        mov     eax, 3
        mov     ecx, 1024
.low:   stosd
        add     eax, 0x1000
        loop    .low
        mov     esi, 0
.space: mov     ebx, esi
        shl     ebx, 13
        add     ebx, TABLES             ; directory, and its table behind it
        mov     dword [ebx], TABLES + 0x6000 + 3
        lea     eax, [ebx + 0x1003]
        mov     [ebx + 4], eax
        mov     dword [ebx + 0x1000], FIRST + 3
        mov     eax, esi
        shl     eax, 12
        add     eax, NEXT + 3
        mov     [ebx + 0x1004], eax
        inc     esi
        cmp     esi, 3
        jb      .space
        and     dword [TABLES + 0x5004], ~1     ; the third space has no second page

        mov     dword [FIRST + 0xFF9], 0x90909043       ; inc ebx; nop; nop; nop
        mov     word [FIRST + 0xFFD], 0xB890            ; nop; mov eax, ...
        mov     byte [FIRST + 0xFFF], 0x44
        mov     dword [NEXT], 0xC3332211                ; ... 33221144h; ret
        mov     dword [NEXT + 0x1000], 0xC3665577       ; ... 66557744h; ret

        mov     eax, TABLES
        mov     cr3, eax
        mov     eax, cr0
        or      eax, 0x80000000
        mov     cr0, eax
        mov     esi, 3
.round: mov     edi, 0
.next:  mov     eax, edi
        shl     eax, 13
        add     eax, TABLES
        mov     cr3, eax
        try     .fault
        xor     ebx, ebx
        call    ONE + 0xFF9
        show    "loaded", eax
        inc     edi
        jmp     .next
.fault: show    "counted", ebx
        mov     eax, cr2
        show    "at", eax
        dec     esi
        jnz     .round
        quit    0
        end_guest
