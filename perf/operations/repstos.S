/* A page filled by REP STOSD. */
        .macro  SETUP
        .endm
        .macro  OPERATION
        movl    $to_page, %edi
        movl    $1024, %ecx
        rep stosl
        .endm
#include "harness.S"
