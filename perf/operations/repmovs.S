/* A page copied by REP MOVSD. */
        .macro  SETUP
        .endm
        .macro  OPERATION
        movl    $from_page, %esi
        movl    $to_page, %edi
        movl    $1024, %ecx
        rep movsl
        .endm
#include "harness.S"
