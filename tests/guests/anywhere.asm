; One page of a program's code at many addresses: side by side, with the low 16 bits of each other, in two address spaces.
%include "flat.inc"
TABLES  equ     0x300000                ; directory, first 4 MiB, the next 4 MiB; directory and next 4 MiB of another space
ALIASES equ     TABLES + 0x2000         ; page table of 400000h and up
OTHER   equ     TABLES + 0x3000
OTHERS  equ     TABLES + 0x4000
WHERE   equ     0x800
SHOW    equ     0x30                    ; INT 30h: print EIP and EAX
BACK    equ     0x31                    ; INT 31h: go on in ring 0

%macro  map 3                           ; page table, linear address, physical address: for everybody
        mov     dword [%1 + ((%2 >> 12) & 1023) * 4], %3 + 7
%endmacro
%macro  run_at 1                        ; the user's code at a linear address
        show    "at", %1
        mov     dword [ring0_eip], %%back
        push    dword DATA3
        push    dword stack3
        pushfd
        push    dword CODE3
        push    dword %1
        mov     [ring0_esp], esp
        add     dword [ring0_esp], 20
        iretd
%%back:
%endmacro
%macro  skip 1+                         ; an instruction that faults
        mov     edi, %%next - user
        %1
%%next:
%endmacro

main:   mov     edi, TABLES
        xor     eax, eax
        mov     ecx, 0x5000 / 4
        rep stosd
        mov     eax, 7
        mov     edi, TABLES + 0x1000
        mov     ecx, 1024
.fill:  stosd
        add     eax, 0x1000
        loop    .fill
        mov     dword [TABLES], TABLES + 0x1007
        mov     dword [TABLES + 4], ALIASES + 7
        mov     dword [OTHER], TABLES + 0x1007
        mov     dword [OTHER + 4], OTHERS + 7
        map     ALIASES, 0x400000, user
        map     ALIASES, 0x401000, beyond
        map     ALIASES, 0x410000, user
        map     ALIASES, 0x411000, beyond
        map     ALIASES, 0x425000, user
        map     ALIASES, 0x426000, beyond
        map     ALIASES, 0x7FE000, user
        map     ALIASES, 0x7FF000, beyond
        map     ALIASES, 0x440000, stranger
        map     ALIASES, 0x450000, stranger
        map     OTHERS, 0x440000, stranger
        map     OTHERS, 0x450000, user
        map     OTHERS, 0x400000, stranger
        map     OTHERS, 0x410000, user
        map     OTHERS, 0x411000, beyond
        map     OTHERS, 0x453000, user
        map     OTHERS, 0x454000, beyond
        gate    0, on_fault, 0x8E00
        gate    6, on_fault, 0x8E00
        gate    13, on_error, 0x8E00
        gate    14, on_error, 0x8E00
        gate    SHOW, on_show, 0xEE00
        gate    BACK, on_back, 0xEE00
        mov     eax, TABLES
        mov     cr3, eax
        mov     eax, cr0
        or      eax, 0x80000000
        mov     cr0, eax

        mov     ax, DATA3
        mov     ds, ax
        mov     es, ax
        mov     dword [rounds], 3
.round: run_at  0x400000
        run_at  0x410000
        run_at  user
        run_at  0x7FE000
        mov     eax, OTHER
        mov     cr3, eax
        run_at  0x453000
        run_at  0x400000
        run_at  0x410000
        mov     eax, TABLES
        mov     cr3, eax
        inc     dword [user.value + 1]  ; seen at all addresses
        map     ALIASES, 0x425000, stranger
        invlpg  [0x425000]
        run_at  0x425000
        map     ALIASES, 0x425000, user
        invlpg  [0x425000]
        run_at  0x425000
        dec     dword [rounds]
        jnz     .round
        quit    0

on_show:
        push    eax
        mov     eax, [esp + 4]
        call    hex32
        print   " "
        pop     eax
        call    hex32
        call    newline
        iretd
on_error:
        add     esp, 4
on_fault:
        push    dword [esp]
        print   "fault "
        pop     eax
        call    hex32
        call    newline
        lea     eax, [esi + edi]
        mov     [esp], eax
        iretd
on_back:
        mov     esp, [ring0_esp]
        jmp     [ring0_eip]

        align   4096
user:   call    .here
.here:  pop     esi
        and     esi, 0xFFFFF000
        mov     ecx, 3
.loop:  inc     dword [calls]
        call    .near
        loop    .loop
        call    beyond
        int     SHOW
.value: mov     eax, 0x1000
        lea     edx, [esi + .near - user]
        call    edx
        push    eax
        call    [esi + .table - user]
        pop     eax
        int     SHOW
        xor     eax, eax
        cpuid
        xor     eax, eax
        int     SHOW
        xor     eax, eax
        mov     ebx, 0x400000 + WHERE   ; the same slot of the lookup table, for two pages, then at other addresses
        mov     ebp, 12
.same:  call    ebx
        add     ebx, 0x40000
        call    ebx
        sub     ebx, 0x40000
        cmp     ebp, 7
        jne     .stay
        add     ebx, 0x10000
.stay:  dec     ebp
        jnz     .same
        int     SHOW
        skip    cli
        skip    ud2
        xor     ecx, ecx
        skip    div ecx
        skip    mov eax, [0x500000]
        skip    inc dword [0x500000]
        mov     edi, .landed - user
        mov     edx, 0x500000
        jmp     edx                     ; its EIP is where it went
.landed:
        mov     eax, [calls]
        int     SHOW
        int     BACK
.near:  inc     eax
        ret
.table: dd      .near                   ; where it was linked, whichever way the page is reached
        times   WHERE - ($ - user) db 0x90
        call    .there                  ; adds where it is
.there: pop     edx
        add     eax, edx
        ret
        align   4096
beyond: lea     eax, [esi + user.near - user]
        call    eax
        mov     edx, esi
        call    .other
        mov     eax, ecx
        ret
.other: add     edx, user.near - user
        jmp     edx
        align   4096
stranger:
        mov     eax, 0x57A9E
        int     SHOW
        int     BACK
        times   WHERE - ($ - stranger) db 0x90
        call    .there                  ; adds as much and more
.there: pop     edx
        lea     eax, [eax + edx * 4]
        ret
        align   4096

        section .data
calls:  dd      0
rounds: dd      0
ring0_esp: dd   0
ring0_eip: dd   0
        end_guest
