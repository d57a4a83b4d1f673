; Global pages of code: each time they are mapped another way, in a space that has not run them, INVLPG, a change of
; CR4.PGE, or of the page directory makes the new code seen.
%include "flat.inc"
CODE_AT equ     0x400000                ; linear: one of two pages with code
ONE     equ     0x200000
TWO     equ     0x201000
TABLES  equ     0x300000                ; two directories, the table of the first 4 MiB, two of the second 4 MiB
LOW     equ     TABLES + 0x2000
HIGH    equ     TABLES + 0x3000         ; and HIGH + 1000h
GLOBAL_P equ     0x103
CALLS   equ     3

%macro  space 1                         ; 0 or 1
        mov     eax, TABLES + 0x1000 * %1
        mov     cr3, eax
%endmacro

%macro  called 1                        ; from two places, by a register too
        mov     ecx, CALLS
%%next: mov     ebx, CODE_AT
        call    ebx
        loop    %%next
        show    %1, eax
%endmacro

main:   mov     edi, TABLES
        xor     eax, eax
        mov     ecx, 0x1400
        rep stosd
        mov     edi, LOW
        mov     eax, GLOBAL_P
        mov     ecx, 1024
.low:   stosd
        add     eax, 0x1000
        loop    .low
        mov     edi, TABLES
.fill:  mov     dword [edi], LOW + 3
        mov     dword [edi + 4], HIGH + 3
        add     edi, 0x1000
        cmp     edi, TABLES + 0x2000
        jb      .fill
        mov     dword [HIGH], ONE + GLOBAL_P
        mov     dword [HIGH + 0x1000], TWO + GLOBAL_P
        mov     dword [ONE], 0x000001B8         ; mov eax, 1; ret
        mov     word [ONE + 4], 0xC300
        mov     dword [TWO], 0x000002B8         ; mov eax, 2; ret
        mov     word [TWO + 4], 0xC300
        space   0
        mov     eax, cr4
        or      al, 0x80
        mov     cr4, eax
        mov     eax, cr0
        or      eax, 0x80000000
        mov     cr0, eax

        called  "first"
        space   1
        mov     dword [HIGH], TWO + GLOBAL_P      ; this space has not run the page
        invlpg  [CODE_AT]
        called  "invlpg"
        space   0
        called  "the other"

        mov     dword [HIGH], ONE + GLOBAL_P
        space   1
        mov     eax, cr4
        and     al, 0x7F
        mov     cr4, eax
        or      al, 0x80
        mov     cr4, eax
        called  "PGE"
        space   0
        called  "the other"

        mov     dword [TABLES + 0x1004], HIGH + 0x1003  ; another table, and more entries of the directory
        mov     dword [TABLES + 0x1008], HIGH + 0x1003
        mov     dword [TABLES + 0x100C], HIGH + 0x1003
        space   1
        invlpg  [CODE_AT]
        called  "directory"
        invlpg  [CODE_AT]
        space   0
        invlpg  [CODE_AT]
        called  "the other"
        quit    0
        end_guest
