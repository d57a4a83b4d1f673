/* Quicksort of random words: recursion, unpredictable branches, loads and stores. */
#include "runtime.h"

enum { SIZE = 16384, ROUNDS = 120 };

const char kernel_name[] = "quicksort";
static uint32_t items[SIZE];

static void sort(uint32_t *low, uint32_t *high)
{
    while (high - low > 1) {
        uint32_t pivot = low[(high - low) / 2];
        uint32_t *left = low, *right = high - 1;
        while (left <= right) {
            while (*left < pivot)
                left++;
            while (*right > pivot)
                right--;
            if (left <= right) {
                uint32_t item = *left;
                *left++ = *right;
                *right-- = item;
            }
        }
        sort(low, right + 1);
        low = left;
    }
}

uint32_t kernel(void)
{
    uint32_t sum = 0, state = 2463534242u;
    for (int round = 0; round < ROUNDS; round++) {
        for (int n = 0; n < SIZE; n++)
            items[n] = next_random(&state);
        sort(items, items + SIZE);
        for (int n = 1; n < SIZE; n++)
            sum += items[n - 1] > items[n];
        sum = mix(sum, items[SIZE / 2]);
    }
    return sum;
}
