/* Alignment checking as a kernel meets it: ring 3 turns it on by POPF, its faults arrive with an error code of zero, the
   kernel itself is never checked although EFLAGS.AC stays set, and IRET gives it back. */
#include "kernel.h"

enum { AM = 0x40000 };

static uint8_t user_stack[PAGE] PAGE_ALIGNED;
static uint32_t data[4];
extern uint8_t code[], load[], done[];

__asm__(".section .user, \"awx\"\n"
        "code: mov 1(%ebx), %eax\n"          /* not yet */
        "pushf\n orl $0x40000, (%esp)\n popf\n"
        "mov (%ebx), %eax\n"
        "load: mov 1(%ebx), %eax\n"
        "done: pushf\n andl $~0x40000, (%esp)\n popf\n"
        "mov 1(%ebx), %eax\n"
        "int $0x80\n"
        ".text\n");

static void run(const char *name, uint32_t am, uint32_t flags)
{
    set_cr0(am ? cr0() | AM : cr0() & ~AM);
    struct registers state = user_state((uint32_t)code, (uint32_t)user_stack + PAGE);
    state.ebx = (uint32_t)data;
    state.eflags |= flags;
    print("%s:", name);
    do {
        run_user(&state);
        print(" %2 error %u at %2 AC %u", state.vector, state.error, state.eip - (uint32_t)code, state.eflags / AC_FLAG & 1);
        if (state.vector != AC)
            break;
        TRY("pushf\n orl $0x40000, (%%esp)\n popf\n mov 1(%0), %%eax\n pushf\n andl $~0x40000, (%%esp)\n popf\n", : : "r"(data) : "eax", "memory");
        if (caught.vector != NONE)
            print(" kernel %2", caught.vector);
        state.eip += 3;
    } while (1);
    print("\n");
}

void kernel(void)
{
    data[0] = 0x04030201, data[1] = 0x08070605;
    run("CR0.AM clear", 0, 0);
    run("CR0.AM set", 1, 0);
    run("from the start", 1, AC_FLAG);
    run("CR0.AM clear again", 0, AC_FLAG);
}
