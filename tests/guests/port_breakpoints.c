/* Breakpoints on I/O ports (DR7.R/W = 2, CR4.DE): which accesses meet them and where they stop, in the kernel and in ring
   3.  BY_MANUAL adds what QEMU does another way: it takes DR0 to DR3 as they are, not aligned to LEN; of two breakpoints
   that were met it tells both even if only one was met last; after one step of REP INS it goes on behind the instruction. */
#include "debug.h"

enum { DE = 8, PORT = 2 };

static uint8_t buffer[64], user_stack[PAGE] PAGE_ALIGNED;

extern uint8_t singles[], strings[], repeated[], none[];

/* EBX is a buffer.  Ports 80h to 8Fh are the page registers of the DMA controller. */
__asm__(".section .user, \"awx\"\n"
        "singles: in $0x81, %al\n in $0x82, %al\n in $0x83, %al\n out %al, $0x82\n out %al, $0x84\n"
        "in $0x80, %eax\n in $0x81, %ax\n in $0x82, %ax\n in $0x83, %ax\n in $0x84, %eax\n"
        "mov $0x82, %edx\n in %dx, %al\n out %al, %dx\n inc %edx\n in %dx, %al\n mov $0x40082, %edx\n in %dx, %al\n"
        "mov $0x81, %edx\n out %ax, %dx\n nop\n"
        "int $0x80\n"
        "strings: mov $0x82, %edx\n mov %ebx, %edi\n insb\n nop\n mov %ebx, %esi\n outsb\n nop\n insw\n nop\n"
        "xor %ecx, %ecx\n rep insb\n nop\n"
        "int $0x80\n"
        "repeated: mov $0x82, %edx\n mov %ebx, %edi\n mov $3, %ecx\n rep insb\n nop\n"
        "mov %ebx, %esi\n mov $2, %ecx\n rep outsb\n nop\n"
        "int $0x80\n"
        "none: in $0xE9, %al\n mov 0x82, %eax\n int $0x80\n"
        ".text\n");

/* Run code in ring 3, or in the kernel, to its INT 80h, and print where it stopped. */
static void run(const char *name, uint8_t *code, uint32_t ring, uint32_t flags)
{
    origin = code;
    hits = 0;
    print("%s, ring %u:", name, ring);
    if (ring) {
        struct registers state = user_state((uint32_t)code, (uint32_t)user_stack + PAGE);
        state.ebx = (uint32_t)buffer;
        state.eflags |= flags;
        do {
            run_user(&state);
            if (state.vector == DB)
                show(&state);
        } while (state.vector == DB);
        if (state.vector != SYSCALL)
            print(" exception %2 at %2", state.vector, state.eip - (uint32_t)code);
    } else {
        static uint32_t back;
        TRY("pusha\n mov %%esp, %2\n jmp *%0\n1: mov %2, %%esp\n popa", : : "a"(code), "b"(buffer), "m"(back) : "memory");
        if (caught.vector != SYSCALL)
            print(" exception %2", caught.vector);
    }
    print("\n");
}

void kernel(void)
{
    on_trap = on_kernel_trap;
    set_dr6(0);
    for (uint32_t ring = 0; ring <= 3; ring += 3) {
        set_cr4(cr4() | DE);
        set_dr7(0);
        run("off", singles, ring, IOPL3);
        watch(0, 0x82, PORT | BYTE);
        run("one port", singles, ring, IOPL3);
        run("strings", strings, ring, IOPL3);
        run("other ports, and memory", none, ring, IOPL3);
        watch(0, 0x82, PORT | WORD);
        run("two ports", singles, ring, IOPL3);
        watch(0, 0x80, PORT | DWORD);
        run("four ports", singles, ring, IOPL3);
        watch(0, 0x40082, PORT | BYTE);
        run("above the ports", singles, ring, IOPL3);
        watch(0, 0x82, PORT | BYTE);
        watch(1, 0x82, PORT | WORD);
        run("two, both met", strings, ring, IOPL3);
#ifdef BY_MANUAL
        run("two", singles, ring, IOPL3);
        set_dr7(0);
        watch(0, 0x82, PORT | BYTE);
        run("REP", repeated, ring, IOPL3);
        watch(0, 0x83, PORT | WORD);
        run("not aligned", singles, ring, IOPL3);
        watch(0, 0x82, PORT | BYTE);
        if (ring)
            run("single-step", strings, ring, IOPL3 | TF);
#endif
        set_dr7(0);
        watch(0, 0x82, PORT | BYTE);
        if (ring)
            run("forbidden", singles, ring, 0);
#ifdef BY_MANUAL
        set_cr4(cr4() & ~DE);
        run("without CR4.DE", singles, ring, IOPL3);
        set_cr4(cr4() | DE);
        run("with it again", strings, ring, IOPL3);
#endif
    }
}
