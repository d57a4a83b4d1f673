/* What travels between a runner and tests/support/wire.py. */
#include <stdint.h>

enum { CHUNK = 16 };  /* bytes of memory that are sent back at once */

struct range { uint32_t address, size; } __attribute__((packed));

struct request {
    uint32_t gpr[8], eip, eflags, segments[6], patches;
    uint8_t fx[512];
} __attribute__((packed));

struct answer {
    uint32_t gpr[8], eip, eflags, trap, error, cr2, changes;
    uint8_t fx[512];
} __attribute__((packed));
