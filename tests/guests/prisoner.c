/* A program in ring 3 that tries to get out: every sensitive and every privileged instruction, reads and writes in every
   4 MiB of the address space and in every page around the kernel, jumps to all of them, every interrupt vector, segments
   with odd bases.  BY_MANUAL leaves what QEMU does as the processor does, and takes up what it does not: it checks no
   segment limits.  At the end the kernel and another process look whether anything of theirs has changed. */
#include "kernel.h"

enum { P = 1, W = 2, U = 4, A = 0x20, D = 0x40 };
enum { WP = 0x10000, PAE = 0x20, TSD = 4, NXE = 0x800 };
#define PG 0x80000000u
#define NX (1ull << 63)
#define EFER 0xC0000080u
enum { CALL_GATE = FREE, HIGH = 0x40, ODD = 0x48, SMALL = 0x50, DOWN = 0x58, CONSTANT = 0x60, EXECUTE = 0x68, SHORT = 0x70 };
enum { ODD_BASE = 0x12345679 };

static uint64_t pointers[2][4] __attribute__((aligned(32)));
static uint64_t directories[2][4][512] PAGE_ALIGNED, tables[2][2][512] PAGE_ALIGNED;
static uint8_t data[2 * PAGE] PAGE_ALIGNED, user_stack[PAGE] PAGE_ALIGNED, read_only[PAGE] PAGE_ALIGNED;
static uint8_t others_data[PAGE] PAGE_ALIGNED, others_stack[PAGE] PAGE_ALIGNED;
static uint8_t secret[PAGE] PAGE_ALIGNED;

extern uint8_t user_page[], user_end[], last_byte[], middle[];
struct item {
    uint8_t *code;
    const char *name;
    uint32_t mask;
};
extern const struct item catalogue[], catalogue_end[];

/* The code runs where it stands; its text is its name; of EAX the bits in the mask are printed. */
#define I(mask, code)                                                               \
    "7: " code "\n int $0x80\n"                                                     \
    ".pushsection .rodata\n 8: .asciz \"" code "\"\n .balign 4\n .popsection\n"     \
    ".pushsection .data\n .long 7b, 8b, " #mask "\n .popsection\n"

#define ALL 0xFFFFFFFF
__asm__(".pushsection .data\n .balign 4\n .globl catalogue\n catalogue:\n .popsection\n"
        ".section .user, \"awx\"\n .balign 4096\n user_page:\n"
#ifndef BY_MANUAL
        /* Sensitive and not privileged (Robin and Irvine). */
        I(0xFFFF, "sgdt (%ebx)") I(0xFFFF, "sidt (%ebx)") I(0xFFFF, "sldt %eax") I(0xFFFF, "str %eax")
        I(0xF, "smsw %eax") I(0xFFFFFFFF, "pushf; pop %eax") I(0xFFFFFFFF, "push $0x3FFED7; popf; pushf; pop %eax")
        I(0xFFFFFFFF, "mov $8, %ecx; lar %ecx, %eax") I(0xFFFFFFFF, "mov $0x1B, %ecx; lar %ecx, %eax")
        I(0xFFFFFFFF, "mov $0x23, %ecx; lsl %ecx, %eax") I(0xFFFFFFFF, "mov $0x10, %ecx; lsl %ecx, %eax")
        I(0xFFFFFFFF, "mov $0x28, %ecx; lar %ecx, %eax") I(0xFFFFFFFF, "mov $0xFFF8, %ecx; lar %ecx, %eax")
        I(0, "mov $0x10, %ecx; verr %cx") I(0, "mov $0x23, %ecx; verr %cx") I(0, "mov $0x1B, %ecx; verw %cx")
        I(0, "mov $0x23, %ecx; verw %cx")
        I(0xFFFF, "mov %cs, %eax") I(0xFFFF, "mov %ss, %eax") I(0xFFFF, "push %cs; pop %eax")
        I(0, "push $0x10; pop %ds") I(0, "push $0x13; pop %es") I(0, "push $0x10; pop %ss") I(0, "push $0; pop %ss")
        I(0, "mov $0x28, %ecx; mov %ecx, %gs")
        I(0, "mov $0x1000, %ecx; mov %ecx, %fs") I(0, "mov $0xF, %ecx; mov %ecx, %fs") I(0, "mov $0x1B, %ecx; mov %ecx, %ss")
        I(0, "ljmp $8, $0x100000") I(0, "ljmp $0, $0x100000") I(0, "ljmp $0x10, $0") I(0, "ljmp $0x28, $0")
        I(0, "lcall $8, $0x100000") I(0, "lcall $0x38, $0") I(0, "lcall $0x28, $0") I(0, "ljmp $0x7FF8, $0")
        I(0, "push $8; push $0x100000; lret") I(0, "push $0x23; push $0x100000; lret")
        I(0, "pushf; push $8; push $0x100000; iret") I(0, "push $0x102; push $0x1B; push $1f; iret; 1: nop")
        I(0xFFFFFFFF, "push $0x3202; push $0x1B; push $1f; iret; 1: pushf; pop %eax")
        I(0, "pushf; orl $0x4000, (%esp); popf; iret")
        I(0, "int3") I(0, "mov $0x80, %al; add $0x80, %al; into") I(0, "int $0x0E") I(0, "int $0x20")
        I(0, "bound %eax, (%ebx)") I(0xFFFF, "mov $0x1B, %ecx; mov $0x10, %eax; arpl %cx, %ax")
        I(0, "sysenter") I(0, "rdtsc") I(0, "cpuid")
        /* Privileged. */
        I(0, "lgdt (%ebx)") I(0, "lidt (%ebx)") I(0, "lldt %ax") I(0, "ltr %ax") I(0, "lmsw %ax") I(0, "clts") I(0, "hlt")
        I(0, "invd") I(0, "wbinvd") I(0, "invlpg (%ebx)") I(0, "cli") I(0, "sti") I(0, "sysexit")
        I(0, "mov %cr0, %eax") I(0, "mov %cr2, %eax") I(0, "mov %cr3, %eax") I(0, "mov %cr4, %eax")
        I(0, "mov %eax, %cr0") I(0, "mov %eax, %cr2") I(0, "mov %eax, %cr3") I(0, "mov %eax, %cr4")
        I(0, "mov %dr0, %eax") I(0, "mov %dr7, %eax") I(0, "mov %eax, %dr0") I(0, "mov %eax, %dr6") I(0, "mov %eax, %dr7")
        I(0, "mov $0x174, %ecx; rdmsr") I(0, "mov $0x176, %ecx; wrmsr") I(0, "mov $0xC0000080, %ecx; wrmsr") I(0, "rdpmc")
        I(0, "in $0x60, %al") I(0, "in $0x80, %eax") I(0, "out %al, $0x80") I(0, "mov $0xF4, %dx; out %al, %dx")
        I(0, "mov $0xCF8, %dx; in %dx, %eax") I(0, "mov $0x20, %dx; insb") I(0, "mov $0x20, %dx; mov $3, %ecx; rep outsl")
        /* Undefined here. */
        I(0, "ud2") I(0, ".byte 0x0F, 0xAA") I(0, ".byte 0x0F, 0x01, 0xC1") I(0, ".byte 0x0F, 0x05") I(0, ".byte 0x0F, 0x07") I(0, ".byte 0xF0; nop") I(0, ".byte 0xFE, 0xF8")
        /* The stack. */
        I(0, "mov $0x100800, %esp; push %eax") I(0, "mov $0x100800, %esp; pop %eax") I(0, "mov $0x100800, %esp; enter $8, $2")
        I(0, "mov $2, %esp; push %eax") I(0, "mov $0xFFFFFFFE, %esp; pop %eax")
        I(0, "mov $0x100800, %esp; int $0x20") I(0, "mov $0x100800, %esp; ret") I(0, "mov $0, %esp; call . + 5")
        /* Beyond the ends of what is the program's. */
        I(0xFFFFFFFF, "mov $-3, %ecx; mov (%ecx), %eax") I(0, "mov $-3, %ecx; mov %eax, (%ecx)")
        I(0, "mov $-1, %ecx; movw %ax, (%ecx)") I(0, "mov $-4, %ecx; mov 4(%ecx), %eax") I(0, "mov %eax, 0x1FFE(%ebx)")
        I(0, "mov 0x1FFE(%ebx), %eax") I(0, "movzbl -1(%ebx), %eax") I(0, "lea 0x1FF0(%ebx), %edi; mov $99, %ecx; cld; rep stosb")
        I(0, "mov $0x100000, %esi; mov %ebx, %edi; movsl") I(0, "mov %ebx, %esi; mov $0x100000, %edi; movsl")
        /* Segments: base FFFFF000h; an odd base, whose offsets wrap; none of them leads where DS does not. */
        I(0, "mov $0x43, %ecx; mov %ecx, %fs; mov %fs:0x1000, %eax") I(0, "mov $0x43, %ecx; mov %ecx, %fs; mov %eax, %fs:0x101000")
        I(0xFFFFFFFF, "mov $0x43, %ecx; mov %ecx, %fs; mov %fs:0x1000(%ebx), %eax")
        I(0xFFFFFFFF, "mov $0x4B, %ecx; mov %ecx, %gs; mov %gs:-0x12345679(%ebx), %eax")
        I(0, "mov $0x4B, %ecx; mov %ecx, %gs; movl $1, %gs:0x100000 - 0x12345679")
        I(0, "mov $0x4B, %ecx; mov %ecx, %gs; mov %gs:-0x1234567A, %eax")
        I(0, "mov $0x4B, %ecx; mov %ecx, %gs; push $0x100000; pop %gs:4 - 0x12345679")
        I(0, "mov $0x43, %ecx; mov %ecx, %ds; mov $0x101000, %esi; lodsb")
#else
        /* Segments that are smaller than memory: what is beyond the limit is no page fault. */
        I(0xFFFFFFFF, "mov $0x53, %ecx; mov %ecx, %fs; mov %fs:0xD, %eax") I(0, "mov $0x53, %ecx; mov %ecx, %fs; mov %fs:0xE, %eax")
        I(0xFF, "mov $0x53, %ecx; mov %ecx, %fs; mov %fs:0x10, %al") I(0, "mov $0x53, %ecx; mov %ecx, %fs; mov %fs:0x11, %al")
        I(0, "mov $0x53, %ecx; mov %ecx, %fs; mov %eax, %fs:3") I(0, "mov $0x53, %ecx; mov %ecx, %fs; mov %eax, %fs:-1")
        I(0, "mov $0x53, %ecx; mov %ecx, %fs; push %fs:0xE") I(0, "mov $0x53, %ecx; mov %ecx, %fs; jmp *%fs:0xE")
        I(0, "mov $0x53, %ecx; mov %ecx, %gs; mov $0xE, %esi; lodsl %gs:(%esi)")
        I(0, "mov $0x53, %ecx; mov %ecx, %es; mov $0xF, %edi; mov $9, %ecx; cld; rep stosb")
        I(0, "mov $0x53, %ecx; mov %ecx, %gs; incl %gs:0xE") I(0, "mov $0x53, %ecx; mov %ecx, %gs; fldl %gs:0xA")
        I(0, "mov $0x53, %ecx; mov %ecx, %ss; mov $0x11, %esp; push %eax")
        I(0, "mov $0x53, %ecx; mov %ecx, %ss; mov $0x12, %esp; push %eax")
        I(0, "mov $0x53, %ecx; mov %ecx, %ss; mov $0xE, %esp; pop %eax")
        I(0, "mov $0x53, %ecx; mov %ecx, %ss; mov $0x20, %ebp; mov 0(%ebp), %eax")
        I(0xFFFFFFFF, "mov $0x5B, %ecx; mov %ecx, %fs; mov %fs:0x100, %eax") I(0, "mov $0x5B, %ecx; mov %ecx, %fs; mov %fs:0xFC, %eax")
        I(0, "mov $0x5B, %ecx; mov %ecx, %fs; mov %fs:0xFF, %al") I(0, "mov $0x5B, %ecx; mov %ecx, %fs; mov %fs:0x2000, %eax")
        I(0, "mov $0x5B, %ecx; mov %ecx, %fs; mov %fs:-2, %eax")
        I(0xFFFFFFFF, "mov $0x63, %ecx; mov %ecx, %fs; mov %fs:(%ebx), %eax") I(0, "mov $0x63, %ecx; mov %ecx, %fs; mov %eax, %fs:(%ebx)")
        I(0, "mov $0x63, %ecx; mov %ecx, %ss") I(0, "mov $0x6B, %ecx; mov %ecx, %fs") I(0, "ljmp $0x6B, $1f; 1: mov %cs:(%ebx), %eax")
        I(0, "ljmp $0x6B, $1f; 1: mov (%ebx), %eax") I(0, "ljmp $0x73, $1f; 1: nop") I(0, "push $0x73; push $1f; lret; 1: nop")
        I(0, "push $0; pop %fs; mov %fs:(%ebx), %eax") I(0, "push $3; pop %ds; mov (%ebx), %eax") I(0, "mov %eax, %cs:(%ebx)")
        /* What QEMU says another way. */
        I(0xFFFFFFFF, "push $0x23002; push $0x1B; push $1f; iret; 1: pushf; pop %eax")
        I(0, ".byte 0xF1") I(0, ".byte 0x0F, 0x20, 0xC8") I(0, ".byte 0x8C, 0xF8") I(0, "mov $0x100800, %esp; pusha")
        /* What reads and writes asks for both at once. */
        I(0, "incl 0x100000") I(0, "lock addl $1, 0x100000") I(0, "mov $0x100000, %edi; lock cmpxchg %eax, (%edi)")
        I(0, "mov $0x100000, %edi; xchg %eax, (%edi)") I(0, "mov $0x100000, %edi; lock xadd %eax, (%edi)")
        I(0, "mov $0x100000, %edi; btsl $1, (%edi)") I(0, "mov $0x100000, %edi; cmpxchg8b (%edi)") I(0, "shll 0x100000")
        I(0, "notb 0x70000000") I(0, "incl 0x70000000") I(0, "push 0x70000000") I(0, "pop 0x70000000") I(0, "setz 0x70000000")
        I(0, "mov $0x70000000, %esp; pop (%ebx)")
#endif
        ".globl read_it, write_it, jump_there, interrupts\n"
        "read_it: mov (%ebx), %eax\n int $0x80\n"
        "write_it: mov %eax, (%ebx)\n int $0x80\n"
        "jump_there: jmp *%ebx\n"
        "interrupts:\n"
        ".set n, 0\n .rept 256\n .byte 0xCD, n\n int $0x80\n .set n, n + 1\n .endr\n"
        "middle: mov $0x80CD0000, %eax\n hlt\n"  /* INT 80h from its fourth byte */
        "counter: incl (%ebx)\n addl $0x9E3779B9, 4(%ebx)\n int $0x80\n jmp counter\n"
        ".balign 4096\n .space 4095\n last_byte: .byte 0xB8\n"  /* an instruction that goes on in the next page */
        "user_end:\n"
        ".text\n"
        ".pushsection .data\n .globl catalogue_end\n catalogue_end:\n .popsection\n");
extern uint8_t read_it[], write_it[], jump_there[], interrupts[], counter[];

static void fill_tables(int who)
{
    for (uint32_t n = 0; n < 4; n++)
        pointers[who][n] = (uint32_t)directories[who][n] | P;
    for (uint32_t n = 0; n < 2; n++)
        directories[who][0][n] = (uint32_t)tables[who][n] | P | W | U;
    for (uint32_t at = 0; at < 0x400000; at += PAGE) {
        uint64_t entry = at | P | W | NX;
        if (at >= (uint32_t)user_page && at < (uint32_t)user_end)
            entry = at | P | U;
        else if (at < (uint32_t)user_page)
            entry = at | P | W;  /* the kernel's code */
        else if (at == (uint32_t)user_stack)
            entry = (who ? (uint32_t)others_stack : at) | P | W | U | NX;
        else if (at >= (uint32_t)data && at < (uint32_t)data + sizeof data)
            entry = (who ? (uint32_t)others_data : at) | P | W | U | NX;
        else if (at == (uint32_t)read_only)
            entry = at | P | U | NX;
        tables[who][at >> 21][at >> 12 & 511] = entry;
    }
}

/* What must not change: code, descriptors, page tables but for A and D, the other process. */
static uint32_t sum(const void *from, uint32_t size, uint32_t mask)
{
    uint32_t result = 0;
    for (uint32_t n = 0; n < size / 4; n++)
        result = (result << 1 | result >> 31) + (((const uint32_t *)from)[n] & mask);
    return result;
}

static const struct {
    const char *name;
    const void *from;
    uint32_t size, mask;
} belongings[] = {
    {"code", (void *)0x100000, 0x4000, NONE}, {"IDT", idt, sizeof idt, NONE}, {"GDT", gdt, sizeof gdt, NONE},
    {"TSS", &tss, sizeof tss, NONE}, {"pointers", pointers, sizeof pointers, ~A /* QEMU sets it */},
    {"directories", directories, sizeof directories, ~A}, {"tables", tables, sizeof tables, ~(A | D)},
    {"secret", secret, sizeof secret, NONE}, {"what may be read", read_only, sizeof read_only, NONE},
    {"the other process", others_data, sizeof others_data, NONE}, {"its stack", others_stack, sizeof others_stack, NONE},
};
enum { BELONGINGS = sizeof belongings / sizeof *belongings };

/* Add them up; say what has changed since *before*. */
static void look(uint32_t *sums, const uint32_t *before)
{
    for (int n = 0; n < BELONGINGS; n++) {
        sums[n] = sum(belongings[n].from, belongings[n].size, belongings[n].mask);
        if (before)
            print("%s: %s\n", belongings[n].name, sums[n] == before[n] ? "as it was" : "changed");
    }
}

static void be(int who)
{
    set_cr3((uint32_t)pointers[who]);
}

static struct registers fresh(uint8_t *code)
{
    struct registers state = user_state((uint32_t)code, (uint32_t)user_stack + PAGE - 64);
    state.eax = 0x11111111, state.ebx = (uint32_t)data, state.ecx = 0x33333333, state.edx = 0x44444444;
    state.ebp = (uint32_t)user_stack + 1024, state.esi = 0x66666666, state.edi = 0x77777777;
    return state;
}

static void instructions(void)
{
    for (const struct item *item = catalogue; item < catalogue_end; item++) {
        for (uint32_t n = 0; n < sizeof data / 4; n++)
            ((uint32_t *)data)[n] = 0xA5A50000 + n;
        struct registers state = fresh(item->code);
        run_user(&state);
        print("%s: ", item->name);
        if (state.vector == SYSCALL) {
            print("goes on, flags %8", state.eflags & ~0x895);
            if (item->mask)
                print(" EAX %8", state.eax & item->mask);
            if (*(uint32_t *)data != 0xA5A50000)
                print(" stores %8 %8", ((uint32_t *)data)[0], ((uint32_t *)data)[1]);
        } else if (state.vector == SYSCALL + 1) {
            print("enters the kernel");
        } else {
            print("exception %2 error %4 at +%2", state.vector, state.error, state.eip - (uint32_t)item->code);
            if (state.vector == PF)
                print(" for %8", caught.cr2 >= (uint32_t)data && caught.cr2 < (uint32_t)data + 3 * PAGE ?
                                 caught.cr2 - (uint32_t)data : caught.cr2);
        }
        print("\n");
    }
}

struct counts {
    uint32_t allowed, elsewhere, other, errors[32];
};

static inline void attempt(struct counts *counts, uint8_t *code, uint32_t address)
{
    struct registers state = fresh(code);
    state.ebx = address;
    run_user(&state);
    if (state.vector == SYSCALL)
        counts->allowed++;
    else if (state.vector != PF)
        counts->other++;
    else {
        counts->errors[state.error & 31]++;
        if (caught.cr2 != address)
            counts->elsewhere++;
    }
}

static inline void report(const char *what, struct counts *counts)
{
    print("%s: allowed %u", what, counts->allowed);
    for (int n = 0; n < 32; n++)
        if (counts->errors[n])
            print(", error %2 %u", n, counts->errors[n]);
    print(", other exceptions %u, other addresses %u\n", counts->other, counts->elsewhere);
}

static inline void everywhere(const char *what, uint8_t *code)
{
    struct counts far = {0}, near = {0}, odd = {0};
    print("%s\n", what);
    for (uint32_t n = 1; n < 1024; n++)
        attempt(&far, code, (n << 22) + n * 0x1234);
    report("  every 4 MiB", &far);
    for (uint32_t n = 0; n < 1024; n++)
        if (code != jump_there || n < (uint32_t)user_page >> 12 || n >= (uint32_t)user_end >> 12)
            attempt(&near, code, (n << 12) + (n * 4 & 0xFF8));
    report("  every page of the first 4 MiB", &near);
    for (uint32_t n = 0; n < 16; n++)
        attempt(&odd, code, n - 8);
    report("  around the end", &odd);
}

static inline void vectors(void)
{
    uint32_t refused = 0;
    for (uint32_t n = 0; n < 256; n++) {
        struct registers state = fresh(interrupts + 4 * n);
        run_user(&state);
        if (state.vector == GP && state.error == n * 8 + 2 && state.eip == (uint32_t)interrupts + 4 * n)
            refused++;
        else
            print("INT %2: vector %2 error %4 at +%1\n", n, state.vector, state.error,
                  state.eip - (uint32_t)interrupts - 4 * n);
    }
    print("interrupts refused: %u\n", refused);
}

static inline void jump(const char *what, uint32_t address)
{
    struct registers state = fresh(jump_there);
    state.ebx = address;
    run_user(&state);
    print("jump %s: vector %2 error %4 at +%1", what, state.vector, state.error, state.eip - address);
    if (state.vector == PF)
        print(" for +%1", caught.cr2 - address);
    print("\n");
}

void kernel(void)
{
    for (uint32_t n = 0; n < PAGE; n++)
        secret[n] = n * 7, read_only[n] = n * 5;
    wrmsr(EFER, NXE);
    fill_tables(0);
    fill_tables(1);
    gdt[CALL_GATE >> 3] = 0x00008C0000000000 | CODE << 16 | ((uint32_t)stubs & 0xFFFF);  /* DPL 0 */
    /* Accessed, so that loading them changes nothing. */
    set_descriptor(HIGH, 0xFFFFF000, 0xFFFFF, 0xC0F3);
    set_descriptor(ODD, ODD_BASE, 0xFFFFF, 0xC0F3);
    set_descriptor(SMALL, (uint32_t)data + 1, 0x10, 0x40F3);
    set_descriptor(DOWN, (uint32_t)data, 0xFF, 0x40F7);
    set_descriptor(CONSTANT, 0, 0xFFFFF, 0xC0F1);
    set_descriptor(EXECUTE, 0, 0xFFFFF, 0xC0F9);
    set_descriptor(SHORT, 0, 0xFFFFF, 0x40FB);
    set_cr4(cr4() | PAE | TSD);
    be(0);
    set_cr0((cr0() & ~0x2Eu) | PG | WP);
    struct registers other = fresh(counter);
    for (int n = 0; n < 100; n++) {
        be(1);
        run_user(&other);
    }
    uint32_t before[BELONGINGS], after[BELONGINGS];
    be(0);
    look(before, 0);
    instructions();
#ifndef BY_MANUAL
    everywhere("reads", read_it);
    everywhere("writes", write_it);
    everywhere("jumps", jump_there);
    vectors();
    jump("to data", (uint32_t)data);
    jump("into the kernel", 0x100000);
    jump("to a system call's stub", (uint32_t)stubs + 16 * SYSCALL);
    jump("into an instruction", (uint32_t)middle + 3);
    jump("to the last byte", (uint32_t)last_byte);
    jump("to FFFFFFFF", 0xFFFFFFFF);
#endif
    look(after, before);
    for (int n = 0; n < 100; n++) {
        be(1);
        run_user(&other);
    }
    print("the other process counted to %u, %8\n", ((uint32_t *)others_data)[0], ((uint32_t *)others_data)[1]);
}
