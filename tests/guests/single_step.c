/* Single-step (EFLAGS.TF) in ring 3, in the kernel and in virtual-8086 mode under paging: after which instructions the
   trap comes, and what virtual-8086 code finds at pages that are missing, read-only or the kernel's. */
#include "kernel.h"

enum { P = 1, W = 2, U = 4, BS = 1 << 14, MAX_STEPS = 200, CODE16 = 0x2000, STACK16 = 0x2100, DATA16 = 0x3000 };
#define PG 0x80000000u

static uint32_t directory[1024] PAGE_ALIGNED, table[1024] PAGE_ALIGNED;
static uint8_t code16[PAGE] PAGE_ALIGNED, stack16[PAGE] PAGE_ALIGNED, data16[4][PAGE] PAGE_ALIGNED;
static uint8_t user_stack[PAGE] PAGE_ALIGNED;
static uint32_t buffer[16];
static const uint8_t *origin;
static uint32_t steps;

extern uint8_t ring3[], ring3_end[], interrupt[], ring0[], v86_begin[], v86_end[], v86_faults[];

/* Both rings run the same; TF is set in front of it and cleared by its POPF. */
#define STEPPED                                                                     \
    "nop\n mov $buffer, %edi\n mov $buffer + 16, %esi\n cld\n"                      \
    "mov $3, %ecx\n rep movsb\n"                                                    \
    "mov $2, %ecx\n rep stosl\n"                                                    \
    "xor %ecx, %ecx\n rep movsl\n"                                                  \
    "mov $3, %ecx\n xor %eax, %eax\n mov $buffer + 32, %edi\n repe scasb\n"         \
    "movsb\n lodsl\n"                                                               \
    "push %ss\n pop %ss\n mov %eax, %ecx\n nop\n"                                   \
    "mov %ss, %edx\n mov %edx, %ss\n mov $1, %ecx\n"                                \
    "mov %ss, %edx\n mov %edx, %ss\n str %edx\n nop\n"                              \
    "push %ds\n pop %ds\n"                                                          \
    "push %ss\n pop %ss\n pushf\n pop %eax\n"                                       \
    "call 1f\n1: pop %eax\n"                                                        \
    "jmp 2f\n nop\n2: xor %eax, %eax\n jz 3f\n nop\n3: loop 3b\n"                   \
    "pushf\n pop %eax\n cli\n nop\n in $0x80, %al\n"                                 \
    "xor %eax, %eax\n cpuid\n mov $40, %eax\n mov $7, %ecx\n fninit\n fldz\n fstp %st(0)\n bt %eax, %ecx\n lock incl buffer\n"      \
    "xchg %eax, %ecx\n div %cl\n"                                                   \
    "pushf\n andl $~0x100, (%esp)\n popf\n nop\n"

__asm__(".section .user, \"awx\"\n"
        "interrupt: nop\n int $0x80\n nop\n"
        "ring3: " STEPPED "int3\n int $0x80\n"
        "ring3_end:\n"
        ".text\n"
        "ring0: pushf\n orl $0x100, (%esp)\n popf\n" STEPPED "ret\n"
        ".section .rodata\n .code16\n"
        "v86_begin:\n"
        "mov $0x3000, %ax\n mov %ax, %ds\n mov %ax, %es\n mov $0x2100, %ax\n mov %ax, %ss\n mov $0x200, %sp\n"
        "xor %si, %si\n mov $0x10, %di\n mov $3, %cx\n cld\n rep movsb\n"
        "push %ss\n pop %ss\n inc %cx\n"
        "pushf\n pop %bx\n push %ds\n pop %es\n"
        "incw (0x20)\n call 1f\n1: pop %ax\n loop 2f\n2: lodsw\n"
        "int $0x21\n"
        "nop\n"
        "hlt\n"
        "v86_faults:\n"
        "movb (0x1000), %al\n movb %al, (0x1000)\n"      /* not there */
        "movb (0x2000), %al\n movb %al, (0x2000)\n"      /* read only */
        "movb (0x3000), %al\n movb %al, (0x3000)\n"      /* the kernel's */
        "movw (0x0FFF), %ax\n movw %ax, (0x1FFF)\n movw %ax, (0xFFFF)\n"
        "mov $0xFFFF, %ax\n mov %ax, %fs\n movb %fs:(0x10), %al\n"
        "mov $0x3100, %ax\n mov %ax, %ss\n mov $2, %sp\n push %ax\n mov $1, %sp\n push %ax\n"
        "ljmp $0x3100, $0\n"
        "ljmp $0x3200, $0\n"
        "hlt\n"
        "v86_end:\n"
        ".code32\n .text\n");

static void show(const struct registers *frame)
{
    print(" %2", frame->eip - (uint32_t)origin);
    if (frame->ecx && frame->ecx < 10)
        print("/%u", frame->ecx);
    if (dr6() != (0xFFFF0FF0 | BS))
        print("?%8", dr6());
    set_dr6(0);
    if (++steps > MAX_STEPS)
        quit(0x7D);
}

static int on_kernel_trap(struct registers *frame)
{
    if (frame->vector != DB)
        return 0;
    show(frame);
    return 1;
}

static void step_ring3(uint32_t iopl)
{
    struct registers state = user_state((uint32_t)ring3, (uint32_t)user_stack + PAGE);
    state.eflags |= TF | iopl;
    origin = ring3;
    print("ring 3, IOPL %u:", iopl >> 12);
    for (;;) {
        run_user(&state);
        if (state.vector == DB)
            show(&state);
        else if (state.vector == GP && !(state.error)) {
            print(" GP");
            state.eip += *(uint8_t *)state.eip == 0xE4 ? 2 : 1;
        } else if (state.vector == 3)
            print(" INT3 at %2 flags %4", state.eip - (uint32_t)origin, state.eflags & 0xF700);
        else
            break;
    }
    print(" then %2 at %2\n", state.vector, state.eip - (uint32_t)origin);
}

/* INT clears TF on its way; it comes back with IRET. */
static void step_interrupt(void)
{
    struct registers state = user_state((uint32_t)interrupt, (uint32_t)user_stack + PAGE);
    state.eflags |= TF;
    origin = interrupt;
    print("INT:");
    for (int n = 0; n < 3; n++) {
        run_user(&state);
        print(" %2 at %2", state.vector, state.eip - (uint32_t)origin);
        set_dr6(0);
    }
    print("\n");
}

static void step_ring0(void)
{
    origin = ring0;
    print("ring 0:");
    __asm__ volatile("call ring0" : : : "eax", "ebx", "ecx", "edx", "esi", "edi", "memory", "cc");
    print("\n");
}

static void step_v86(void)
{
    struct registers state = {.eflags = VM | TF | 2, .cs = CODE16, .ss = STACK16, .esp = 0x200};
    origin = 0;
    print("virtual-8086:");
    for (;;) {
        run_user(&state);
        if (state.vector == DB) {
            show(&state);
            continue;
        }
        print(" %2 at %2", state.vector, state.eip);
        if (state.vector != GP || *(code16 + state.eip) == 0xF4)
            break;
        state.eip += *(code16 + state.eip) == 0xCD ? 2 : 1;
    }
    print("\n");
}

/* Each instruction by itself, with TF; faults are skipped. */
static void fault_v86(void)
{
    static const uint8_t lengths[] = {3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 2, 5, 3, 2, 3, 1, 3, 1, 5, 5, 0};
    uint32_t ip = v86_faults - v86_begin;
    struct registers state = {.cs = CODE16, .ss = STACK16, .esp = 0x200, .v86_ds = DATA16};
    for (int n = 0; lengths[n]; n++) {
        state.eip = ip, state.eflags = VM | TF | IOPL3 | 2, state.cs = CODE16;
        run_user(&state);
        print("+%2: vector %2", ip - (v86_faults - v86_begin), state.vector);
        if (state.vector == PF)
            print(" error %4 cr2 %8 at %4:%4 sp %4", state.error, caught.cr2, state.cs, state.eip, state.esp);
        if (state.vector == DB && state.cs != CODE16)  /* one more step, where it went */
            state.eflags |= TF, run_user(&state), print(", then %2 at %4:%4", state.vector, state.cs, state.eip);
        if (state.vector == PF && state.cs != CODE16)
            print(" error %4 cr2 %8", state.error, caught.cr2);
        print("\n");
        ip += lengths[n];
    }
}

static void map(uint32_t linear, const void *frame, uint32_t rights)
{
    table[linear >> 12] = (uint32_t)frame | rights;
    invlpg(linear);
}

void kernel(void)
{
    for (uint32_t n = 0; n < 1024; n++)
        table[n] = n << 12 | P | W;
    directory[0] = (uint32_t)table | P | W | U;
    for (uint32_t at = (uint32_t)ring3 & ~0xFFF; at < (uint32_t)ring3_end; at += PAGE)
        table[at >> 12] |= U;
    table[(uint32_t)user_stack >> 12] |= U;
    for (uint32_t at = (uint32_t)buffer & ~0xFFF; at <= (uint32_t)&buffer[15]; at += PAGE)
        table[at >> 12] |= U;
    set_cr3((uint32_t)directory);
    set_cr0(cr0() | PG);
    on_trap = on_kernel_trap;
    set_dr6(0);
    step_ring3(0);
    step_ring3(IOPL3);
    step_interrupt();
    step_ring0();
    for (uint32_t n = 0; n < (uint32_t)(v86_end - v86_begin); n++)
        code16[n] = v86_begin[n];
    map(CODE16 << 4, code16, P | U);
    map(STACK16 << 4, stack16, P | W | U);
    map(DATA16 << 4, data16[0], P | W | U);
    map((DATA16 << 4) + PAGE, data16[1], 0);
    map((DATA16 << 4) + 2 * PAGE, data16[2], P | U);
    map((DATA16 << 4) + 3 * PAGE, data16[3], P | W);
    map((DATA16 << 4) + 0xF000, data16[1], P | W | U);
    step_v86();
    fault_v86();
}
