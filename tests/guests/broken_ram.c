/* A memory test that finds the cells that the machine was told to break, by every width and by strings, and code that
   stands, and changes itself, in a page with such a cell. */
#include "kernel.h"

enum { FROM = 0x400000, TO = 0x480000 };

static void report(const char *how, uint32_t address, uint32_t wrong, uint32_t found)
{
    for (int bit = 0; bit < 32; bit++)
        if (wrong >> bit & 1)
            print("%s: %8 bit %u is %u\n", how, address + bit / 8, bit % 8, found >> bit & 1);
}

#define MARCH(type, name)                                                           \
    static void name(const char *how, type pattern)                                 \
    {                                                                               \
        for (volatile type *at = (volatile type *)FROM; at < (volatile type *)TO; at++) \
            *at = pattern;                                                          \
        for (volatile type *at = (volatile type *)FROM; at < (volatile type *)TO; at++) \
            if (*at != pattern)                                                     \
                report(how, (uint32_t)at, *at ^ pattern, *at);                      \
    }
MARCH(uint8_t, bytes)
MARCH(uint16_t, words)
MARCH(uint32_t, dwords)

static void strings(const char *how, uint32_t pattern)
{
    uint32_t to = FROM, count = (TO - FROM) / 4;
    __asm__ volatile("rep stosl" : "+D"(to), "+c"(count) : "a"(pattern) : "memory");
    for (to = FROM; to < TO;) {
        count = (TO - to) / 4;
        __asm__ volatile("repe scasl" : "+D"(to), "+c"(count) : "a"(pattern) : "cc", "memory");
        uint32_t found = *(uint32_t *)(to - 4);
        if (found != pattern)
            report(how, to - 4, found ^ pattern, found);
    }
}

/* Copied from sound memory; the FPU moves eight bytes at once. */
static void copies(void)
{
    uint32_t from = FROM + 0x40000, to = FROM, count = 0x10000;
    __asm__ volatile("rep movsl" : "+S"(from), "+D"(to), "+c"(count) : : "memory");
    for (uint32_t n = 0; n < 0x40000; n += 4) {
        uint32_t here = *(uint32_t *)(FROM + n), there = *(uint32_t *)(FROM + 0x40000 + n);
        if (here != there)
            print("copy: %8 %8 %8\n", FROM + n, here, there);
    }
    for (uint32_t n = 0; n < 0x2000; n += 8)
        __asm__ volatile("fildll (%0)\n fistpll (%1)" : : "r"(FROM + 0x40000 + n), "r"(FROM + 0x22FFC + n) : "memory");
    for (uint32_t n = 0; n < 0x2000; n += 4) {
        uint32_t here = *(uint32_t *)(FROM + 0x22FFC + n), there = *(uint32_t *)(FROM + 0x40000 + n);
        if (here != there)
            print("FPU: %8 %8 %8\n", FROM + 0x22FFC + n, here, there);
    }
}

static void code(void)
{
    uint8_t *at = (uint8_t *)0x423100;  /* mov eax, imm32; ret */
    uint32_t sum = 0, value;
    at[0] = 0xB8, at[5] = 0xC3;
    for (uint32_t n = 0; n < 50; n++) {
        *(uint32_t *)(at + 1) = n;
        __asm__ volatile("call *%1" : "=a"(value) : "r"(at) : "memory");
        sum += value;
    }
    print("code in the page: %u\n", sum);
    at = (uint8_t *)0x423455;  /* the broken byte is part of the number */
    at[0] = 0xB8, at[5] = 0xC3;
    *(uint32_t *)(at + 1) = 0;
    __asm__ volatile("call *%1" : "=a"(value) : "r"(at) : "memory");
    print("a number with the bit: %8\n", value);
}

void kernel(void)
{
    bytes("bytes 00", 0);
    bytes("bytes FF", 0xFF);
    words("words 5555", 0x5555);
    dwords("dwords 00000000", 0);
    dwords("dwords FFFFFFFF", NONE);
    strings("strings 00000000", 0);
    strings("strings FFFFFFFF", NONE);
    strings("strings AAAAAAAA", 0xAAAAAAAA);
    strings("strings 55555555", 0x55555555);
    copies();
    code();
}
