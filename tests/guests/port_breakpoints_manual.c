/* Breakpoints on ports where QEMU is no oracle too. */
#define BY_MANUAL
#include "port_breakpoints.c"
