; A breakpoint on code that indirect calls come to, in two address spaces.
%include "flat.inc"
TABLES  equ     0x300000                ; a directory and its table, twice

main:   mov     edi, TABLES
        xor     eax, eax
        mov     ecx, 0x1000
        rep stosd
        mov     esi, 0
.space: mov     ebx, esi
        shl     ebx, 13
        add     ebx, TABLES
        lea     eax, [ebx + 0x1003]
        mov     [ebx], eax
        lea     edi, [ebx + 0x1000]
        mov     eax, 3
        mov     ecx, 1024
.fill:  stosd
        add     eax, 0x1000
        loop    .fill
        inc     esi
        cmp     esi, 2
        jb      .space
        gate    1, on_debug, 0x8E00
        mov     eax, TABLES
        mov     cr3, eax
        mov     eax, cr0
        or      eax, 0x80000000
        mov     cr0, eax
        mov     eax, met
        mov     dr0, eax
        mov     eax, 0x403
        mov     dr7, eax
        mov     edi, 0
.round: mov     eax, edi
        and     eax, 1
        shl     eax, 13
        add     eax, TABLES
        mov     cr3, eax
        mov     ebx, beside
        call    ebx
        mov     ebx, met
        call    ebx
        show    "met", dword [debugs]
        inc     edi
        cmp     edi, 6
        jb      .round
        quit    0

on_debug:
        inc     dword [debugs]
        or      dword [esp + 8], 0x10000        ; RF
        iretd

        align   4096
beside: inc     dword [calls]
        ret
met:    inc     dword [calls]
        ret
        align   4096

        section .data
debugs:  dd      0
calls:  dd      0
        end_guest
