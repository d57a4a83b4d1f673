/* INSNS distinct instructions in straight blocks of eight, each ending in a branch; PASSES times. */
        .section .rodata
        .globl  kernel_name
kernel_name:
        .asciz  "code"

        .text
        .globl  kernel
kernel: pushl   %ebx
        pushl   %esi
        xorl    %eax, %eax
        xorl    %edx, %edx
        movl    $1, %ebx
        movl    $PASSES, %ecx
pass:   pushl   %ecx
        .set    n, 1000
        .rept   INSNS / 8
        addl    $n, %eax
        xorl    $(n * 5), %ebx
        leal    n(%eax, %ebx), %ecx
        movl    %ecx, cell + (n & 0xFFC)
        addl    cell + ((n * 7) & 0xFFC), %edx
        subl    $(n * 3), %ecx
        testl   $n, %ecx
        jz      1f
1:
        .set    n, n + 1
        .endr
        popl    %ecx
        decl    %ecx
        jnz     pass
        addl    %edx, %eax
        popl    %esi
        popl    %ebx
        ret

        .bss
        .align  4096
cell:   .skip   4096
        .section .note.GNU-stack, "", @progbits
