/* Nothing: the loop alone, which is taken off every other's time. */
        .macro  SETUP
        .endm
        .macro  OPERATION
        .endm
#include "harness.S"
