/* Fibonacci numbers by plain recursion: calls and returns. */
#include "runtime.h"

enum { ARGUMENT = 22, ROUNDS = 600 };

const char kernel_name[] = "fib";

/* No inlining and no turning of the recursion into a loop: the calls are what is measured. */
__attribute__((noinline, noclone, optimize("no-optimize-sibling-calls"))) static uint32_t fib(uint32_t n)
{
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

uint32_t kernel(void)
{
    uint32_t sum = 0;
    for (uint32_t round = 0; round < ROUNDS; round++)
        sum = mix(sum, fib(ARGUMENT - (round & 1)));
    return sum;
}
