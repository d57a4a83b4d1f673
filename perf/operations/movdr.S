/* A privileged write: MOV DR0, EAX, with no breakpoint enabled. */
        .macro  SETUP
        xorl    %eax, %eax
        .endm
        .macro  OPERATION
        movl    %eax, %dr0
        .endm
#include "harness.S"
