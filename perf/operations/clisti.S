/* Interrupts off and on. */
        .macro  SETUP
        .endm
        .macro  OPERATION
        cli
        sti
        .endm
#include "harness.S"
