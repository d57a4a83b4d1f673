/* The prisoner against what QEMU does not check. */
#define BY_MANUAL
#include "prisoner.c"
