/* A division by zero, to the guest's handler, which skips it. */
        .macro  SETUP
        xorl    %ebx, %ebx
        .endm
        .macro  OPERATION
        divl    %ebx
        .endm
#include "harness.S"
