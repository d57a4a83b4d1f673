; IRETD inside the kernel, again and again: flags, selectors, descriptors that change, interrupts that wait, page faults.
%macro own_descriptors 0
alike:  dq      0x00CF9B000000FFFF      ; 30h: as CODE
%endmacro
%include "flat.inc"
ALIKE    equ     0x30
TABLES  equ     0x300000
HOLE    equ     0x200000

%macro  return 3                        ; flags, selector, target
        push    dword %1
        push    dword %2
        push    dword %3
        iretd
%endmacro
%macro  refused 3+                      ; name, flags, selector
        print   %1, ": "
        try     %%on
        return  %2, %3, %%wrong
%%wrong:
        print   "returned"
        call    newline
%%on:
%endmacro

main:   mov     al, 0xFF                ; no interrupt while flags with IF are tried
        out     0x21, al
        out     0xA1, al
        mov     ecx, 3
.round: push    ecx
%assign n 0
%rep 9
        mov     eax, [images + 4 * n]
        xor     ebx, ebx                ; ZF and PF
        return  eax, CODE, .came %+ n
        ud2
.came %+ n:
        pushfd
        cld
        cli
        pop     edx
        push    dword 2
        popfd
        show    "flags", edx
  %assign n n + 1
%endrep
        refused "null", 2, 0
        refused "data", 2, DATA
        refused "ring 3", 2, CODE + 3
        refused "nothing there", 2, 0x1000
        push    dword 0x4002
        popfd
        refused "nested", 0x4002, CODE
        pop     ecx
        dec     ecx
        jnz     .round

        ; from one code segment to another and back
        mov     edi, 4
.swap:  return  2, ALIKE, .there
.there: mov     eax, cs
        show    "cs", eax
        return  2, CODE, .back
.back:  mov     eax, cs
        show    "cs", eax
        dec     edi
        jnz     .swap
        ; a descriptor that goes and comes back
        mov     edi, 3
.gone:  jmp     ALIKE:.away
.away:  mov     esi, 3
.stay:  return  2, ALIKE, .stayed
.stayed:
        dec     esi
        jnz     .stay
        and     byte [alike + 5], 0x7F
        refused "absent", 2, ALIKE
        or      byte [alike + 5], 0x80
        jmp     CODE:.again
.again: dec     edi
        jnz     .gone

        ; an interrupt that waits comes before the instruction that is returned to
        gate    0x20, tick, 0x8E00
        mov     al, 0x11                ; the PIC: vectors 20h, all but the timer masked
        out     0x20, al
        mov     al, 0x20
        out     0x21, al
        mov     al, 4
        out     0x21, al
        mov     al, 1
        out     0x21, al
        mov     al, 0xFE
        out     0x21, al
        mov     edi, 4
.wait:  mov     al, 0x30                ; one tick
        out     0x43, al
        mov     al, 0x40
        out     0x40, al
        xor     al, al
        out     0x40, al
.poll:  mov     al, 0x0A                ; it stands in the IRR
        out     0x20, al
        in      al, 0x20
        test    al, 1
        jz      .poll
        return  2, CODE, .quiet
.quiet: return  2, CODE, .still
.still: mov     dword [came_at], 0
        return  0x202, CODE, .open
.open:  cli
        mov     eax, [came_at]
        sub     eax, .open
        show    "tick at", eax
        dec     edi
        jnz     .wait

        ; the frame runs on into a page that is not there
        mov     edi, TABLES
        mov     eax, TABLES + 0x1003
        stosd
        xor     eax, eax
        mov     ecx, 1023
        rep stosd
        mov     eax, 3
        mov     ecx, 1024
.fill:  stosd
        add     eax, 0x1000
        loop    .fill
        mov     dword [TABLES + 0x1000 + (HOLE >> 12) * 4], 0
        gate    14, on_page, 0x8E00
        mov     eax, TABLES
        mov     cr3, eax
        mov     eax, cr0
        or      eax, 0x80000000
        mov     cr0, eax
        mov     edi, 3
        mov     [kept_esp], esp
.frame: return  2, CODE, .paged
.paged: mov     dword [HOLE - 4], CODE
        mov     dword [HOLE - 8], .frame
        mov     esp, HOLE - 8
        mov     eax, 0x12345678
        mov     ecx, 0x9ABCDEF0
        stc
        iretd
faulted:
        mov     esp, [kept_esp]
        show    "eax", eax
        show    "ecx", ecx
        show    "flags", edx
        mov     dword [HOLE - 4], .frame
        mov     esp, HOLE - 4
        iretd
.frame: ud2
twice:  mov     esp, [kept_esp]
        dec     edi
        jnz     main.frame
        quit    0

tick:   push    eax
        mov     eax, [esp + 4]
        mov     [came_at], eax
        mov     al, 0x20
        out     0x20, al
        pop     eax
        iretd

on_page:
        add     esp, 4
        mov     edx, [esp + 8]
        and     edx, 0x8D5
        xor     byte [second], 1
        jz      twice
        jmp     faulted

        section .data
images: dd      0x2, 0x8D7, 0x602, 0x3002, 0x200002, 0x40002, 0x46, 0xC93, 0x8B
came_at: dd     0
kept_esp: dd    0
second: db      0
        end_guest
