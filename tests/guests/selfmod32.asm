; Self-modifying code in flat protected mode, on its own page, across pages, and through stores of every kind.
%include "flat.inc"
%macro  emit 0
        out     DEBUG, al
%endmacro
main:   ; the very next instruction, by stores of each size
        mov     byte [.n1 + 1], 'A'
.n1:    mov     al, 'x'
        emit
        mov     word [.n2], 0x42B0      ; MOV AL, 'B'
.n2:    mov     al, 'x'
        emit
        mov     dword [.n4], 0x909043B0
.n4:    mov     al, 'x'
        nop
        nop
        emit
        ; read-modify-write
        add     byte [.rmw + 1], 1
.rmw:   mov     al, 'C'
        emit
        mov     bl, 'E'
        xchg    bl, [.xchg + 1]
.xchg:  mov     al, 'x'
        emit
        mov     al, 'x'
        mov     bl, 'F'
        lock cmpxchg [.cas + 1], bl
.cas:   mov     al, 'x'
        emit
        ; by the stack
        mov     ebx, esp
        mov     esp, .pushed + 4
        push    dword 0x909047B0
        mov     esp, ebx
.pushed:
        mov     al, 'x'
        nop
        nop
        emit
        ; a conditional branch turned round
        mov     byte [.branch], 0x75    ; JNZ instead of JZ
        xor     eax, eax
.branch:
        jz      .wrong
        mov     al, 'H'
        emit
        jmp     .right
.wrong: mov     al, 'x'
        emit
.right: ; a call's target
        mov     dword [.call + 1], print_i - .call - 5
.call:  call    print_x
        ; a loop that changes an instruction that follows it, in each turn
        mov     ecx, 4
        mov     byte [.turn + 1], 'J' - 1
.loop:  inc     byte [.turn + 1]
.turn:  mov     al, 'x'
        emit
        loop    .loop
        ; a routine on the next page, rewritten and called a hundred times
        mov     ecx, 100
        xor     edx, edx
.again: mov     [routine + 1], ecx
        call    routine
        add     edx, eax
        loop    .again
        call    newline
        show    "sum", edx              ; 5050 = 13BAh
        ; an instruction across two pages, its second half rewritten
        mov     dword [split + 1], 0x12345678
        call    split
        show    "split", eax
        mov     byte [split + 4], 0xAB
        call    split
        show    "split", eax
        ; REP MOVSD copies a routine over the one that just ran, and REP STOSD wipes it
        mov     ecx, 3
.copies:
        push    ecx
        mov     esi, first
        test    cl, 1
        jz      .other
        mov     esi, second
.other: mov     edi, copied
        mov     ecx, 2
        rep movsd
        call    copied
        show    "copied", eax
        pop     ecx
        loop    .copies
        ; data and code on one page: a counter beside a hot loop
        mov     ecx, 1000
        xor     eax, eax
.hot:   inc     dword [counter]
        add     eax, [counter]
        loop    .hot
        show    "hot", eax              ; 500500 = 7A314h
        ; a store of the x87 over code (64 bits that FILD and FISTP keep)
        fild    qword [.nops]
        fistp   qword [.x87]
        mov     eax, 7
        jmp     .x87
        align   8
.x87:   db      0xB8, 1, 0, 0, 0, 0x90, 0x90, 0x90
        show    "x87", eax
        quit    0
        align   8
.nops:  db      0x40, 0x40, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90      ; INC EAX twice, NOPs
counter:
        dd      0
print_x:
        mov     al, 'x'
        emit
        ret
print_i:
        mov     al, 'I'
        emit
        ret
first:  mov     eax, 0x11111111
        ret
        align   8
second: mov     eax, 0x22222222
        ret
        align   8
        align   4096
routine:
        mov     eax, 0
        ret
copied: times   8 nop
        times   4096 - 3 - ($ - routine) nop
split:  mov     eax, 0
        ret
        end_guest
