/* Hardware breakpoints where QEMU is no oracle too. */
#define BY_MANUAL
#include "breakpoints.c"
