/* OUT to port 80h, which is nobody's or a lamp's. */
        .macro  SETUP
        .endm
        .macro  OPERATION
        outb    %al, $0x80
        .endm
#include "harness.S"
