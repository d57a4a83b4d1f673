/* A near call and its return. */
        .macro  SETUP
        .endm
        .macro  OPERATION
        call    nothing
        .endm
#include "harness.S"
