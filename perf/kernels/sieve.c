/* The sieve of Eratosthenes: byte stores with a stride. */
#include "runtime.h"

enum { SIZE = 65536, ROUNDS = 500 };

const char kernel_name[] = "sieve";
static uint8_t composite[SIZE];

uint32_t kernel(void)
{
    uint32_t sum = 0;
    for (int round = 0; round < ROUNDS; round++) {
        uint32_t count = 0;
        for (uint32_t n = 0; n < SIZE; n++)
            composite[n] = 0;
        for (uint32_t n = 2 + (round & 1); n < SIZE; n++) {
            if (composite[n])
                continue;
            count++;
            for (uint32_t m = n + n; m < SIZE; m += n)
                composite[m] = 1;
        }
        sum = mix(sum, count);
    }
    return sum;
}
