; Hardware task switches: JMP and CALL to a TSS, IRET back, task gates in the GDT and the IDT, an exception as a task,
; an LDT of its own, the T bit left alone.
%macro own_descriptors 0
first_tss:
        dq      0x0000890000000067      ; 30h
second_tss:
        dq      0x0000890000000067      ; 38h
        dq      0x0000850000380000      ; 40h: a task gate to 38h
ldt_descriptor:
        dq      0x000082000000000F      ; 48h
        dq      0x0000E50000380000      ; 50h: the same for ring 3
fault_tss:
        dq      0x0000890000000067      ; 58h
%endmacro
%include "flat.inc"
FIRST   equ     0x30
SECOND  equ     0x38
GATE    equ     0x40
LDT     equ     0x48
FAULT   equ     0x58
%macro  base 2                          ; descriptor, address
        mov     eax, %2
        mov     [%1 + 2], ax
        shr     eax, 16
        mov     [%1 + 4], al
        mov     [%1 + 7], ah
%endmacro
%macro  types 0
        print   "types of 28 30 38: "
        mov     al, [gdt + TSS + 5]
        call    hex8
        print   " "
        mov     al, [first_tss + 5]
        call    hex8
        print   " "
        mov     al, [second_tss + 5]
        call    hex8
        call    newline
%endmacro
%macro  where 1                         ; TR, NT, CR0.TS
        xor     eax, eax
        str     ax
        show    %1, eax
        pushfd
        pop     eax
        and     eax, 0x4000
        show    "nt", eax
        mov     eax, cr0
        and     eax, 8
        show    "ts", eax
        clts
%endmacro
main:   base    first_tss, tss1
        base    second_tss, tss2
        base    ldt_descriptor, ldt
        base    fault_tss, tss3
        mov     word [idt + 0x40 * 8 + 2], GATE - 8     ; a task gate to 38h in the IDT
        mov     word [idt + 0x40 * 8 + 4], 0x8500
        mov     word [idt + 13 * 8 + 2], FAULT          ; #GP is a task
        mov     word [idt + 13 * 8 + 4], 0x8500
        types
        line    "jmp to a TSS"
        mov     dword [tss2 + 32], .second
        mov     ebx, 0x11111111
        mov     fs, bx                  ; faults: 1111h is beyond the table
.after_fault:
        show    "after the fault ebx", ebx
        jmp     SECOND:0
.second:
        where   "second, tr"
        types
        show    "ebx of its own", ebx
        show    "old ebx", [tss + 52]
        show    "old eip", [tss + 32]
        mov     dword [tss2 + 32], 0
        mov     dword [tss1 + 32], first
        jmp     FIRST:0

first:  where   "first, tr"
        xor     eax, eax
        sldt    ax
        show    "ldt", eax
        mov     ax, 0x04                ; an LDT selector
        mov     gs, ax
        show    "through the ldt", [gs:mark]
        line    "call to a TSS"
        mov     dword [tss2 + 32], called
        mov     dword [tss2 + 56], stack3
        call    SECOND:0
        where   "returned, tr"
        types
        line    "again, it goes on after its IRET"
        call    SECOND:0
        line    "through a gate in the GDT"
        call    GATE:0
        line    "through the IDT"
        int     0x40
        types
        line    "a busy task"
        try     .busy
        mov     dword [expected], .busy
        call    FIRST:0
.busy:  types
        quit    0

called: where   "called, tr"
        movzx   eax, word [tss2]
        show    "link", eax
        iretd
        where   "called again, tr"
        jmp     called

fault:  ; the task for #GP: the error code is on its stack; the interrupted task goes on behind the fault
        pop     eax
        show    "fault task, error", eax
        xor     eax, eax
        str     ax
        show    "tr", eax
        movzx   eax, word [tss3]
        show    "link", eax
        mov     ebx, tss
        cmp     eax, TSS
        je      .old
        mov     ebx, tss1
.old:   mov     eax, [expected]
        mov     [ebx + 32], eax
        iretd
        jmp     fault

%macro  task 3                          ; EIP, ESP, LDT
        dd      0, 0, 0, 0, 0, 0, 0, 0
        dd      %1, 0x2, 0xAAAA0000, 0xCCCC0000, 0xDDDD0000, 0xBBBB0000, %2, 0xB0B00000, 0x51510000, 0xD1D10000
        dd      DATA, CODE, DATA, DATA, DATA, DATA, %3
        dw      0, 0x68
%endmacro
        section .data
        align   16
tss1:   task    first, stack3, LDT
        align   16
tss2:   task    0, stack1, 0
        align   16
tss3:   task    fault, stack2, 0
        align   8
ldt:    dq      0x00CF93000000FFFF, 0
mark:   dd      0x12345678
expected:
        dd      main.after_fault
        section .bss
        alignb  16
        resb    4096
stack1: resb    4096
stack2:
        end_guest
