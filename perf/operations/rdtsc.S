/* The time-stamp counter. */
        .macro  SETUP
        .endm
        .macro  OPERATION
        rdtsc
        .endm
#include "harness.S"
