/* A system call: SYSENTER from ring 3 and SYSEXIT back. */
        .macro  SETUP
        xorl    %edx, %edx
        movl    $0x174, %ecx            /* SYSENTER_CS, _ESP, _EIP */
        movl    $KERNEL_CODE, %eax
        wrmsr
        incl    %ecx
        movl    $stack_top, %eax
        wrmsr
        incl    %ecx
        movl    $.Lentered, %eax
        wrmsr
        jmp     .Lready
.Lentered:
        incl    events
        sysexit
.Lready:
        enter_ring_3
        .endm
        .macro  OPERATION
        movl    $.Lback\@, %edx
        movl    %esp, %ecx
        sysenter
.Lback\@:
        .endm
#include "harness.S"
