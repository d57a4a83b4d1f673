/* A page table entry turned to another frame, INVLPG, and a load through it. */
        .macro  SETUP
        .endm
        .macro  OPERATION
        xorl    $(PAGE_A ^ PAGE_B), WINDOW_ENTRY
        invlpg  WINDOW
        movl    WINDOW, %eax
        .endm
#include "harness.S"
