/* EFLAGS to the stack and back. */
        .macro  SETUP
        .endm
        .macro  OPERATION
        pushfl
        popfl
        .endm
#include "harness.S"
