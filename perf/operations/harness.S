/* What every nanobenchmark shares.  Its file defines the macros SETUP and OPERATION and includes this one.
 *
 * Flat 32-bit segments, 4 MiB of identity-mapped 4 KiB pages (all but the last for everybody), an IDT, a TSS, both
 * PICs masked; then ITERATIONS operations, four in a round of the loop, EBP counting the rounds.  Handlers count into
 * `events`, which is printed on port E9h and, as a line, on COM1 as eight hexadecimal digits, so that no machine can leave the work out.
 */
        .set    MAGIC, 0x1BADB002
        .set    UNROLLED, 4
        .set    KERNEL_CODE, 0x08
        .set    KERNEL_DATA, 0x10
        .set    USER_CODE, 0x1B
        .set    USER_DATA, 0x23
        .set    TSS, 0x28
        .set    FOR_EVERYBODY, 7        /* P, R/W, U/S */
        .set    ABSENT, 0x3FF000        /* the page that is not there */
        .set    PAGE_A, 0x3FC000        /* two frames, a bit apart, and a page that is mapped to either */
        .set    PAGE_B, 0x3FD000
        .set    WINDOW, 0x3FE000
        .set    WINDOW_ENTRY, table + (WINDOW >> 12) * 4

        .macro  gate    vector, handler, type
        movl    $\handler, %eax
        movw    %ax, idt + \vector * 8
        shrl    $16, %eax
        movw    %ax, idt + \vector * 8 + 6
        movl    $(KERNEL_CODE | \type << 24), idt + \vector * 8 + 2
        movw    $(\type << 8), idt + \vector * 8 + 4
        .endm

/* Go on in ring 3, with all ports; for SETUP. */
        .macro  enter_ring_3
        movl    $USER_DATA, %eax
        movl    %eax, %ds
        movl    %eax, %es
        pushl   $USER_DATA
        pushl   $user_stack_top
        pushl   $0x3002                 /* IOPL 3 */
        pushl   $USER_CODE
        pushl   $.Lring_3\@
        iret
.Lring_3\@:
        .endm

        .section .multiboot, "a"
        .align  4
        .long   MAGIC, 0, -MAGIC

        .text
        .globl  _start
_start: cli
        cld
        movl    $stack_top, %esp
        movb    $0xFF, %al              /* mask all interrupts of both PICs */
        outb    %al, $0x21
        outb    %al, $0xA1

        movl    $tss, %eax              /* the base of the TSS into its descriptor */
        movw    %ax, gdt + TSS + 2
        shrl    $16, %eax
        movb    %al, gdt + TSS + 4
        movb    %ah, gdt + TSS + 7
        movl    $stack_top, tss + 4
        movl    $KERNEL_DATA, tss + 8
        lgdt    gdt_pointer
        ljmp    $KERNEL_CODE, $1f
1:      movl    $KERNEL_DATA, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %fs
        movl    %eax, %gs
        movl    %eax, %ss
        movl    $TSS, %eax
        ltr     %ax

        gate    0, on_divide, 0x8E
        gate    14, on_page_fault, 0x8E
        gate    0x80, on_call, 0xEE
        lidt    idt_pointer

        movl    $FOR_EVERYBODY, %eax
        movl    $table, %edi
1:      movl    %eax, (%edi)
        addl    $4, %edi
        addl    $0x1000, %eax
        cmpl    $(ABSENT | FOR_EVERYBODY), %eax
        jb      1b
        movl    $0, (%edi)
        movl    $(PAGE_A | FOR_EVERYBODY), WINDOW_ENTRY
        movl    $(table + FOR_EVERYBODY), directory
        movl    $(table + FOR_EVERYBODY), directory + 0x1000
        movl    $directory, %eax
        movl    %eax, %cr3
        movl    %cr0, %eax
        orl     $0x80000000, %eax
        movl    %eax, %cr0
        jmp     1f
1:
        SETUP
        movl    $(ITERATIONS / UNROLLED), %ebp
        .p2align 6
round:  .rept   UNROLLED
        OPERATION
        .endr
        decl    %ebp
        jnz     round

        movl    events, %ebx
        movl    $8, %ecx
1:      roll    $4, %ebx
        movl    %ebx, %eax
        andl    $15, %eax
        movb    digits(%eax), %al
        outb    %al, $0xE9
        call    send
        loop    1b
        movb    $10, %al
        call    send
        xorl    %eax, %eax
        outb    %al, $0xF4
2:      jmp     2b

/* AL on COM1. */
send:   movb    %al, %ah
        movw    $0x3FD, %dx
1:      inb     %dx, %al
        testb   $0x20, %al              /* the transmitter is empty */
        jz      1b
        movb    %ah, %al
        movw    $0x3F8, %dx
        outb    %al, %dx
        ret

        .p2align 6
on_call:
        incl    events
        iret

        .p2align 6
on_divide:
        incl    events
        addl    $2, (%esp)              /* behind DIV EBX */
        iret

        .p2align 6
on_page_fault:
        incl    events
        addl    $4, %esp
        addl    $6, (%esp)              /* behind MOV EDX, [disp32] */
        iret

        .p2align 6
nothing:
        ret

        .data
        .align  8
gdt:    .quad   0
        .quad   0x00CF9B000000FFFF
        .quad   0x00CF93000000FFFF
        .quad   0x00CFFB000000FFFF
        .quad   0x00CFF3000000FFFF
        .quad   0x0000890000000067      /* the TSS, without its base */
gdt_pointer:
        .word   . - gdt - 1
        .long   gdt
idt_pointer:
        .word   0x81 * 8 - 1
        .long   idt
digits: .ascii  "0123456789abcdef"

        .bss
        .align  4096
directory:
        .skip   2 * 4096                /* two of the same, for switches between them */
table:  .skip   4096
from_page:
        .skip   4096
to_page:
        .skip   4096
tss:    .skip   4096
idt:    .skip   4096
events: .skip   4096
        .skip   4096
stack_top:
        .skip   4096
user_stack_top:
        .section .note.GNU-stack, "", @progbits
