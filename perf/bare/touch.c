/* PASSES times writes to every page from 4 MiB up to MEBIBYTES and reads it again. */
#include "runtime.h"

const char kernel_name[] = "touch";

enum { PAGE = 4096, FIRST = (4 << 20) / PAGE, PAGES = MEBIBYTES * ((1 << 20) / PAGE) - FIRST };

uint32_t kernel(void)
{
    volatile uint32_t *memory = (volatile uint32_t *)0;
    uint32_t sum = 0;
    for (int pass = 0; pass < PASSES; pass++)
        for (uint32_t n = 0; n < PAGES; n++) {
            volatile uint32_t *word = memory + (FIRST + n) * (PAGE / 4u) + n % 1000;
            *word = pass ? *word + n : n; /* what stands there at first is the loader's */
            sum = mix(sum, *word);
        }
    return sum;
}
