/* A switch of address spaces: the other of two CR3s, and a load from each of four pages. */
        .macro  SETUP
        movl    $directory, %eax
        .endm
        .macro  OPERATION
        xorl    $0x1000, %eax
        movl    %eax, %cr3
        movl    from_page, %edx
        movl    to_page, %edx
        movl    PAGE_A, %edx
        movl    PAGE_B, %edx
        .endm
#include "harness.S"
