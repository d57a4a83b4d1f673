; SYSENTER and SYSEXIT, again and again: rings, registers, flags, MSRs, segments and address spaces that change in between.
%macro own_descriptors 0
        dq      0x00CF9B000000FFFF      ; 30h: code and data of ring 0, then of ring 3, in the order that SYSEXIT wants
        dq      0x00CF93000000FFFF      ; 38h
        dq      0x00CFFB000000FFFF      ; 40h
        dq      0x00CFF3000000FFFF      ; 48h
        dq      0x00CFF3100000FFFF      ; 50h: data of ring 3 at 100000h
        dq      0x0041FB000000FFFF      ; 58h: code of ring 3 that ends at 1FFFFh
%endmacro
%include "flat.inc"
FAST    equ     0x30
TABLES  equ     0x300000                ; directory and its table; another directory, another table
OTHER   equ     TABLES + 0x2000
HIGH    equ     0x200000                ; the user's code again
LOW     equ     0x10000                 ; and again
LITTLE  equ     0x58 + 3
SECRET  equ     0x210000                ; a page of ring 0's

%macro  msr 2
        mov     ecx, %1
        mov     eax, %2
        xor     edx, edx
        wrmsr
%endmacro
main:   mov     edi, TABLES
        mov     eax, TABLES + 0x1007
        call    directory
        mov     edi, OTHER
        mov     eax, OTHER + 0x1007
        call    directory
        mov     eax, OTHER
        mov     dword [eax + 0x1000 + (SECRET >> 12) * 4], SECRET + 3
        mov     eax, TABLES
        mov     cr3, eax
        mov     eax, cr0
        or      eax, 0x80000000
        mov     cr0, eax
        msr     0x174, FAST
        msr     0x175, stack0
        msr     0x176, entered
        gate    13, on_error, 0x8E00
        gate    14, on_error, 0x8E00
        gate    0x20, tick, 0x8E00
        mov     al, 0x11                ; the PIC: vectors 20h, all masked
        out     0x20, al
        mov     al, 0x20
        out     0x21, al
        mov     al, 4
        out     0x21, al
        mov     al, 1
        out     0x21, al
        mov     al, 0xFF
        out     0x21, al
        mov     ax, DATA3
        mov     ds, ax
        mov     es, ax
        mov     edx, user
        mov     ecx, stack3
        sysexit

directory:                              ; EDI: a directory, its table behind it
        mov     [edi], eax
        add     edi, 0x1000
        mov     eax, 7
        mov     ecx, 1024
        push    edi
.fill:  stosd
        add     eax, 0x1000
        loop    .fill
        pop     edi
        mov     dword [edi + (HIGH >> 12) * 4], user + 7
        mov     dword [edi + (LOW >> 12) * 4], user + 7
        mov     dword [edi + (SECRET >> 12) * 4], SECRET + 3
        ret

; Ring 0: EAX is the number of the service, EDX where to go back to, ECX the user's stack pointer.
entered:
        pushfd
        pop     dword [kernels_flags]
        mov     [kernels_esp], esp
        push    edx
        push    ecx
        inc     dword [SECRET]          ; ring 3 may not
        cmp     eax, SERVICES
        jae     .back
        call    [services + eax * 4]
.back:  pop     ecx
        pop     edx
        sysexit

report: show    "eax", ebx
        mov     eax, cs
        show    "cs", eax
        mov     eax, ss
        show    "ss", eax
        mov     eax, [kernels_flags]
        and     eax, 0xED5
        show    "flags", eax
        mov     eax, [kernels_esp]
        sub     eax, stack0
        show    "esp", eax
        ret
number: show    "number", ebx
        ret
thread: mov     ax, 0x53                ; a thread's segment in GS
        mov     gs, ax
        ret
nobody: xor     eax, eax
        mov     gs, ax
        ret
swap:   mov     eax, cr3
        xor     eax, TABLES ^ OTHER
        mov     cr3, eax
        ret
deeper: msr     0x175, stack0 - 64
        ret
elsewhere:
        msr     0x176, entered_too
        ret
guard:  mov     eax, cr4                ; RDTSC is ring 0's
        xor     eax, 4
        mov     cr4, eax
        ret
ticks:  mov     al, 0xFE                ; the timer, often
        out     0x21, al
        mov     al, 0x34
        out     0x43, al
        mov     al, 0xA9
        out     0x40, al
        mov     al, 4
        out     0x40, al
        pop     eax
        pop     ecx
        pop     edx
        sti
        sysexit
silence:
        mov     al, 0xFF
        out     0x21, al
        ret
done:   quit    0
fresh:  push    eax                     ; code that nothing has come to before
        mov     eax, 0x1234
        show    "fresh", eax
        pop     eax
        ret
open:   msr     0x175, stack0 - 64
iopl:   pushfd
        xor     dword [esp], 0x3000
        popfd
        ret
slow:   pop     eax                     ; back by IRETD
        pop     ecx
        pop     edx
        push    dword DATA3
        push    ecx
        pushfd
        push    dword CODE3
        push    edx
        iretd

entered_too:
        print   "entered elsewhere"
        call    newline
        mov     ebp, eax
        msr     0x176, entered
        mov     eax, ebp
        mov     ecx, esi
        mov     edx, edi
        sysexit

tick:   push    eax
        mov     al, 0x20
        out     0x20, al
        pop     eax
        inc     dword [came]
        push    eax
        mov     eax, [esp + 8]
        and     eax, 3
        mov     [came_from], eax
        pop     eax
        iretd

on_error:                               ; only a user's: prints it, goes on behind the instruction (EBP)
        inc     dword [SECRET]
        push    eax
        mov     eax, [esp + 4]
        show    "error", eax
        mov     eax, [esp + 8]
        sub     eax, user
        show    "at", eax
        mov     eax, [esp + 12]
        show    "cs", eax
        pop     eax
        add     esp, 4
        mov     [esp], ebp
        iretd

        align   4096
user:   call    .here
.here:  pop     esi
        sub     esi, .here - user       ; where we are
        xor     ebx, ebx
        mov     edi, 3
.loop:  inc     ebx
        mov     eax, 0
        stc
        call    [esi + .gate - user]
        mov     eax, 1
        call    gate
        dec     edi
        jnz     .loop
        std
        mov     eax, 0
        call    gate
        pushfd
        pop     ebx
        cld
        and     ebx, 0xED5
        mov     eax, 1
        call    gate
        mov     edi, 3
.tls:   mov     eax, 2                  ; GS is a thread's, and nobody's
        call    gate
        mov     ebx, [gs:gate - 0x100000]
        mov     eax, 1
        call    gate
        mov     eax, 3
        call    gate
        mov     eax, 4                  ; another address space, and its secret
        call    gate
        lea     ebp, [esi + .two - user]
        mov     [SECRET], edi
.two:   mov     eax, 1
        mov     ebx, edi
        call    gate
        dec     edi
        jnz     .tls
        mov     eax, 5
        call    gate
        mov     eax, 0
        call    gate
        mov     eax, 6
        call    gate
        push    esi
        push    edi
        mov     esi, esp                ; entered_too wants ESP and EIP here
        lea     edi, [.returned]
        mov     eax, 77
        sysenter
.returned:
        pop     edi
        pop     esi
        mov     eax, 1
        call    gate
        mov     edi, 2
.tsc:   rdtsc
        mov     eax, 7
        call    gate
        mov     ebp, .three
        rdtsc
.three: mov     eax, 7
        call    gate
        dec     edi
        jnz     .tsc
        mov     eax, 13
        call    gate
        mov     edi, 5
.iopl:  mov     eax, 11                 ; CLI and STI are anybody's, and nobody's
        call    gate
        lea     ebp, [esi + .four - user]
        cli
.four:  lea     ebp, [esi + .five - user]
        sti
.five:  mov     eax, 12                 ; out by IRETD
        call    gate
        lea     ebp, [esi + .six - user]
        mov     [SECRET], edi
.six:   dec     edi
        jnz     .iopl
        mov     edi, 3                  ; from a code segment that ends below the kernel
.short: mov     eax, 1
        cmp     edi, 1
        ja      .known
        mov     eax, 14
.known: lea     edx, [LOW + .limited - user]
        mov     [far_pointer], edx
        jmp     far [far_pointer]
.limited:
        mov     ebx, edi
        mov     ecx, esp
        lea     edx, [esi + .flat - user]
        sysenter
.flat:  dec     edi
        jnz     .short
        mov     edi, 4
.timer: mov     eax, 8
        call    gate
        mov     ebx, [came]
        add     ebx, 3
.wait:  cmp     [came], ebx
        jb      .wait
        mov     ebx, [came_from]
        mov     eax, 9
        call    gate
        mov     eax, 1
        call    gate
        dec     edi
        jnz     .timer
        cmp     esi, HIGH
        je      .end
        mov     eax, HIGH               ; the same at another address
        jmp     eax
.end:   mov     eax, 10
        call    gate
        align   4
.gate:  dd      gate

gate:   mov     ecx, esp
        mov     edx, .back
        sysenter
.back:  ret
        align   4096

        section .data
services:
        dd      report, number, thread, nobody, swap, deeper, elsewhere, guard, ticks, silence, done, iopl, slow, open, fresh
SERVICES equ    ($ - services) / 4
far_pointer: dd 0, LITTLE
kernels_flags: dd 0
kernels_esp: dd 0
came:   dd      0
came_from: dd   0
        end_guest
