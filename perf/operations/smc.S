/* A store into the instruction that runs next. */
        .macro  SETUP
        .endm
        .macro  OPERATION
        incb    1f + 1
        jmp     1f
1:      movb    $0, %al
        .endm
#include "harness.S"
