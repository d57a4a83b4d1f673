/* String instructions (REP MOVS, STOS, SCAS, CMPS, in bytes and words) and the same work in byte loops. */
#include "runtime.h"

enum { SIZE = 4096, ROUNDS = 6000, LINES = 64 };

const char kernel_name[] = "strings";
static uint8_t source[SIZE], target[SIZE + 64];

static inline uint32_t scan(const uint8_t *text, uint32_t size, uint8_t byte)
{
    uint32_t left = size;
    __asm__ volatile("repne scasb" : "+D"(text), "+c"(left) : "a"(byte) : "cc", "memory");
    return size - left;
}

static inline uint32_t same(const uint8_t *a, const uint8_t *b, uint32_t size)
{
    uint32_t left = size;
    __asm__ volatile("repe cmpsb" : "+S"(a), "+D"(b), "+c"(left) : : "cc", "memory");
    return size - left;
}

static inline void fill_words(void *to, uint32_t value, uint32_t count)
{
    __asm__ volatile("rep stosl" : "+D"(to), "+c"(count) : "a"(value) : "memory");
}

static inline void copy_words(void *to, const void *from, uint32_t count)
{
    __asm__ volatile("rep movsl" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
}

/* strlen and strcpy as a simple C library has them. */
__attribute__((noinline)) static uint32_t length(const volatile uint8_t *text)
{
    uint32_t n = 0;
    while (text[n])
        n++;
    return n;
}

__attribute__((noinline)) static void copy(volatile uint8_t *to, const uint8_t *from)
{
    while ((*to++ = *from++))
        ;
}

uint32_t kernel(void)
{
    uint32_t sum = 0, state = 123456789u;
    for (int n = 0; n < SIZE; n++)
        source[n] = (next_random(&state) & 0x3F) + 0x20;
    for (int n = SIZE / LINES - 1; n < SIZE; n += SIZE / LINES)
        source[n] = 0;
    for (int round = 0; round < ROUNDS; round++) {
        uint32_t shift = round & 31;
        fill_words(target, round, sizeof target / 4);
        memcpy(target + shift, source, SIZE);
        sum = mix(sum, scan(target, SIZE, 0));
        sum = mix(sum, same(source, target + shift, SIZE));
        copy_words(target, target + 32, SIZE / 4);
        for (int line = 0; line < LINES; line++) {
            const uint8_t *text = source + line * (SIZE / LINES);
            sum = mix(sum, length(text));
            copy(target + line * (SIZE / LINES), text);
        }
        memset(target + shift, round, 100);
        sum = mix(sum, target[round % SIZE]);
        source[round * 61 % SIZE] ^= source[round * 61 % SIZE] > 0x20 ? 1 : 0;
    }
    return sum;
}
