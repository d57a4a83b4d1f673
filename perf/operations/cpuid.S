/* CPUID leaf 0, which traps in a hardware VMM. */
        .macro  SETUP
        .endm
        .macro  OPERATION
        xorl    %eax, %eax
        cpuid
        .endm
#include "harness.S"
