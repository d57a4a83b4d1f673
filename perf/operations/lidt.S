/* A privileged write: LIDT of the table that is loaded already. */
        .macro  SETUP
        .endm
        .macro  OPERATION
        lidt    idt_pointer
        .endm
#include "harness.S"
