/* CR3 loaded with what it holds: a flush of the TLB. */
        .macro  SETUP
        movl    %cr3, %eax
        .endm
        .macro  OPERATION
        movl    %eax, %cr3
        .endm
#include "harness.S"
