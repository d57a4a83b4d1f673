/* Calls through pointers: eight small functions in a changing order. */
#include "runtime.h"

enum { CALLS = 24000000 };

const char kernel_name[] = "indirect";

typedef uint32_t operation(uint32_t);

static uint32_t add(uint32_t x) { return x + 0x1234567; }
static uint32_t subtract(uint32_t x) { return x - 0x7654321; }
static uint32_t exclusive(uint32_t x) { return x ^ 0x5A5A5A5A; }
static uint32_t rotate(uint32_t x) { return x << 7 | x >> 25; }
static uint32_t multiply(uint32_t x) { return x * 0x01000193; }
static uint32_t complement(uint32_t x) { return ~x; }
static uint32_t shift(uint32_t x) { return x ^ x >> 15; }
static uint32_t negate(uint32_t x) { return -x; }

static operation *const operations[] = {add, subtract, exclusive, rotate, multiply, complement, shift, negate};

uint32_t kernel(void)
{
    uint32_t value = 1;
    for (uint32_t n = 0; n < CALLS; n++)
        value = operations[(n ^ n >> 3) & 7](value);
    return value;
}
