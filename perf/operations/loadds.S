/* A segment register loaded with what it holds. */
        .macro  SETUP
        movl    $KERNEL_DATA, %eax
        .endm
        .macro  OPERATION
        movl    %eax, %ds
        .endm
#include "harness.S"
