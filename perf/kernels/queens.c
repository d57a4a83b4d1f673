/* The N queens problem on bit boards: recursion over register arithmetic. */
#include "runtime.h"

enum { SIZE = 10, ROUNDS = 240 };

const char kernel_name[] = "queens";

__attribute__((noinline, noclone)) static uint32_t place(uint32_t columns, uint32_t left, uint32_t right, uint32_t all)
{
    uint32_t count = 0;
    if (columns == all)
        return 1;
    for (uint32_t free = all & ~(columns | left | right); free;) {
        uint32_t queen = free & -free;
        free ^= queen;
        count += place(columns | queen, (left | queen) << 1, (right | queen) >> 1, all);
    }
    return count;
}

uint32_t kernel(void)
{
    uint32_t sum = 0;
    for (int round = 0; round < ROUNDS; round++)
        sum = mix(sum, place(0, 0, 0, (1u << (SIZE - (round & 1))) - 1));
    return sum;
}
