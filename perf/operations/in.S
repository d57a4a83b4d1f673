/* IN from port 80h, where no device has anything to say. */
        .macro  SETUP
        .endm
        .macro  OPERATION
        inb     $0x80, %al
        .endm
#include "harness.S"
