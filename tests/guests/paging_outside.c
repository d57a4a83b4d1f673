/* Page tables where no RAM is: a table that reads as ones, a directory in text memory, at last a CR3 that leads nowhere. */
#include "kernel.h"

enum { P = 1, W = 2, U = 4, PS = 0x80, PSE = 0x10, WINDOW = 0x40000000, TEXT = 0xB8000 };
#define PG 0x80000000u
#define NOWHERE 0xC0000000u

static uint32_t directory[1024] PAGE_ALIGNED, window[1024] PAGE_ALIGNED, frame[1024] PAGE_ALIGNED;

static volatile uint32_t *at(uint32_t linear)
{
    return (volatile uint32_t *)linear;
}

void kernel(void)
{
    directory[0] = P | W | PS;
    directory[WINDOW >> 22] = NOWHERE | P | W;
    set_cr4(cr4() | PSE);
    set_cr3((uint32_t)directory);
    set_cr0(cr0() | PG);
    /* All entries are ones: present, of the last page. */
    print("a table that is not there: %8", *at(WINDOW));
    *at(WINDOW + 8) = 0;
    print(" %8\n", *at(WINDOW + 8));
    window[0] = NOWHERE | P | W;
    directory[WINDOW >> 22] = (uint32_t)window | P | W;
    invlpg(WINDOW);
    *at(WINDOW + 16) = 0x12345678;
    print("a page that is not there: %8\n", *at(WINDOW + 16));
    /* Text memory is memory. */
    for (uint32_t n = 0; n < 1024; n++)
        *at(TEXT + 4 * n) = 0;
    *at(TEXT) = P | W | PS;
    *at(TEXT + (WINDOW >> 20)) = (uint32_t)window | P | W | U;
    window[0] = (uint32_t)frame | P | W;
    frame[4] = 0xBEEF;
    set_cr3(TEXT);
    print("a directory in text memory: %8", *at(WINDOW + 16));
    print(" %3\n", *at(TEXT + (WINDOW >> 20)) & 0xFFF);
    /* Every entry of this one is a large page with a reserved bit: nothing can be fetched, nothing delivered. */
    print("no directory\n");
    set_cr3(NOWHERE);
    print("not reached\n");
}
