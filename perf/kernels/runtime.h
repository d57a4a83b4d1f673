/* What a compute kernel may use: fixed-width types, ports, a generator of numbers, and the memory functions gcc calls. */
#ifndef RUNTIME_H
#define RUNTIME_H

#include <stddef.h>
#include <stdint.h>

/* A kernel is these two: its name, and its work, which returns a checksum. */
extern const char kernel_name[];
uint32_t kernel(void);

void *memcpy(void *to, const void *from, size_t size);
void *memset(void *to, int value, size_t size);
int memcmp(const void *a, const void *b, size_t size);

static inline void out8(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint8_t in8(uint16_t port)
{
    uint8_t value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

/* Marsaglia's xorshift32; the state must not be 0. */
static inline uint32_t next_random(uint32_t *state)
{
    uint32_t x = *state;
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    return *state = x;
}

/* Mix a value into a checksum. */
static inline uint32_t mix(uint32_t sum, uint32_t value)
{
    return ((sum << 5) | (sum >> 27)) ^ (value * 0x9E3779B1u);
}

#endif
