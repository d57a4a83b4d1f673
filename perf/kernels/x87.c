/* The x87: an orbit by the leapfrog method, with square roots, and a sum of sines by their series. */
#include "runtime.h"

enum { STEPS = 800000, TERMS = 8000 };

const char kernel_name[] = "x87";

static inline double root(double x)
{
    __asm__("fsqrt" : "+t"(x));
    return x;
}

static double sine(double x)
{
    double term = x, sum = x;
    for (int n = 1; n < 8; n++) {
        term *= -x * x / (double)(2 * n * (2 * n + 1));
        sum += term;
    }
    return sum;
}

uint32_t kernel(void)
{
    double x = 1, y = 0, u = 0, v = 1, sum = 0;
    for (int n = 0; n < STEPS; n++) {
        double square = x * x + y * y, cube = square * root(square);
        u -= x / cube * 0.001;
        v -= y / cube * 0.001;
        x += u * 0.001;
        y += v * 0.001;
    }
    for (int n = 0; n < TERMS; n++)
        sum += sine((double)n * 0.001);
    return mix((uint32_t)(int32_t)(x * 1e6), mix((uint32_t)(int32_t)(y * 1e6), (uint32_t)(int32_t)(sum * 1e3)));
}
