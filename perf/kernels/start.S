/* The entry of every kernel: a multiboot 1 header, a stack, the FPU and SSE switched on, and main. */
        .set    ALIGN, 1
        .set    MAGIC, 0x1BADB002

        .section .multiboot, "a"
        .align  4
        .long   MAGIC, ALIGN, -(MAGIC + ALIGN)

        .text
        .globl  _start
_start: movl    $stack_top, %esp
        xorl    %ebp, %ebp
        movl    %cr0, %eax
        andl    $~0x0C, %eax            /* EM, TS */
        orl     $0x22, %eax             /* MP, NE */
        movl    %eax, %cr0
        movl    %cr4, %eax
        orl     $0x600, %eax            /* OSFXSR, OSXMMEXCPT */
        movl    %eax, %cr4
        fninit
        cld
        call    main
1:      jmp     1b

        .bss
        .align  4096
        .skip   65536
stack_top:
        .section .note.GNU-stack, "", @progbits
