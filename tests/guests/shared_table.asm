; One page table at two places of a directory: what changes in it is seen at either after INVLPG there.
%include "flat.inc"
TABLES  equ     0x300000                ; a directory, its table, the table of two places
PAIR    equ     TABLES + 0x2000
FIRST   equ     0x400000
SECOND  equ     0x800000

main:   mov     edi, TABLES
        mov     eax, TABLES + 0x1003
        stosd
        mov     eax, PAIR + 0x23        ; accessed already
        stosd
        stosd
        xor     eax, eax
        mov     ecx, 1021
        rep stosd
        mov     eax, 3
        mov     ecx, 1024
.fill:  stosd
        add     eax, 0x1000
        loop    .fill
        xor     eax, eax
        mov     ecx, 1024
        rep stosd
        mov     dword [0x310000], 0x1111
        mov     dword [0x311000], 0x2222
        mov     dword [0x312000], 0x3333
        mov     dword [PAIR + 4], 0x312023
        mov     eax, TABLES
        mov     cr3, eax
        mov     eax, cr0
        or      eax, 0x80000000
        mov     cr0, eax
        mov     edi, 3
.round: mov     dword [PAIR], 0x310003
        mov     eax, cr3
        mov     cr3, eax
        mov     ebx, [FIRST]            ; cached at the first place
        mov     dword [PAIR], 0x311003  ; and changed
        mov     ecx, [SECOND + 0x1000]  ; the second place has not been looked at before
        invlpg  [FIRST]
        mov     edx, [FIRST]
        push    edx
        push    ecx
        show    "before", ebx
        pop     ecx
        show    "second", ecx
        pop     edx
        show    "after", edx
        mov     dword [TABLES + 8], 0   ; the second place is new in the next round
        dec     edi
        jz      .end
        mov     eax, cr3
        mov     cr3, eax
        mov     dword [TABLES + 8], PAIR + 0x23
        jmp     .round
.end:   quit    0
        end_guest
