/* A system call: INT 80h from ring 3 and IRET back. */
        .macro  SETUP
        enter_ring_3
        .endm
        .macro  OPERATION
        int     $0x80
        .endm
#include "harness.S"
