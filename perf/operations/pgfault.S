/* A page fault, to the guest's handler, which skips the load. */
        .macro  SETUP
        .endm
        .macro  OPERATION
        movl    ABSENT, %edx
        .endm
#include "harness.S"
