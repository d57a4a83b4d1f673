/* A privileged read: MOV EAX, CR0. */
        .macro  SETUP
        .endm
        .macro  OPERATION
        movl    %cr0, %eax
        .endm
#include "harness.S"
