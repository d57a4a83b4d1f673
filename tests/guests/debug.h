/* What the guests about hardware breakpoints share: where they stopped, and setting DR0 and DR1. */
#include "kernel.h"

enum { G0 = 2, L1 = 4, BYTE = 0, WORD = 4, DWORD = 12, MAX_HITS = 99 };
#define DR6_ONES 0xFFFF0FF0u

static const uint8_t *origin;
static uint32_t hits;
static int set_rf;

static void show(const struct registers *frame)
{
    print(" %2", frame->eip - (uint32_t)origin);
    uint32_t status = dr6();
    if (status != (DR6_ONES | 1))
        print("(%4)", status & ~DR6_ONES);
    if (frame->vector != DB)
        print("!%2", frame->vector);
    set_dr6(0);
    if (++hits > MAX_HITS) {
        print(" and on\n");
        quit(0x7D);
    }
}

static int on_kernel_trap(struct registers *frame)
{
    if (frame->vector != DB)
        return 0;
    show(frame);
    if (set_rf)
        frame->eflags |= RF;
    return 1;
}

static void watch(int n, uint32_t address, uint32_t what)
{
    uint32_t control = dr7() & ~(15u << (16 + 4 * n)) & ~(3u << 2 * n);
    if (n == 0)
        set_dr0(address);
    else
        set_dr1(address);
    set_dr7(control | what << (16 + 4 * n) | (n ? L1 : G0));
}
