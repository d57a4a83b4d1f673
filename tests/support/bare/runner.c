/* A bare machine as an oracle: runs code of ring 3, virtual-8086 mode or ring 0 from a given state, reports what it left.

   Every exception is a task gate, so that the whole register file of a case comes from its TSS and goes back to it.
   The cases stand in the ROM (struct layouts in wire.h, packed); answers go to port E9h. */
#include <stddef.h>
#include <stdint.h>

#include "../wire.h"

enum { CODE = 0x08, DATA = 0x10, CASE = 0x18, LDT = 0x20, MONITORS = 0x28, GATES = 48 };
enum { NM = 7, PF = 14, TIMER = 32, PAGE = 4096, USER = 7, KERNEL = 3, LARGE = 0x83 };
#define CR0 0x80010033u  /* PG WP NE ET MP PE */
#define CR4 0x610u       /* PSE, OSFXSR, OSXMMEXCPT */
enum { HARNESS = 0x06000000, CASES = 0xFFE00000, MAX_WINDOWS = 8 };

struct tss {
    uint32_t link, esp0, ss0, esp1, ss1, esp2, ss2, cr3, eip, eflags, gpr[8], segments[6], ldt;
    uint16_t trap, iomap;
};

static uint64_t gdt[5 + GATES], idt[GATES], ldt[64];
static struct tss case_tss, monitors[GATES];
static uint32_t monitor_directory[1024] __attribute__((aligned(PAGE)));
static uint32_t case_directory[1024] __attribute__((aligned(PAGE)));
static uint32_t case_table[1024] __attribute__((aligned(PAGE)));
static uint8_t stack[16384] __attribute__((used, aligned(16))), nm_stack[4096] __attribute__((used, aligned(16)));
static uint8_t fx_image[512] __attribute__((aligned(16)));
static uint8_t *background[MAX_WINDOWS], before[0x10000];
static struct range *windows;
static uint32_t window_count, cases_left;
static const uint8_t *next;
static struct answer answer;
/* IRET to a 16-bit stack leaves the kernel's upper half in ESP: what was there before #NM. */
static uint32_t kept_esp __attribute__((used));

extern uint8_t enter[], not_available[];
void handle(uint32_t selector, const uint32_t *esp);

static inline void out(uint16_t port, uint8_t value) { __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }

static inline uint8_t in(uint16_t port)
{
    uint8_t value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static void put(const void *from, uint32_t size)
{
    __asm__ volatile("rep outsb" : "+S"(from), "+c"(size) : "d"(0xE9) : "memory");
}

static void copy(void *to, const void *from, uint32_t size)
{
    uint32_t words = size / 4, rest = size % 4;
    __asm__ volatile("rep movsl\n\tmov %3, %2\n\trep movsb" : "+D"(to), "+S"(from), "+c"(words) : "r"(rest) : "memory");
}

static const void *take(uint32_t size)
{
    const void *at = next;
    next += size;
    return at;
}

static void start_case(void)
{
    static struct request request;
    copy(&request, take(sizeof request), sizeof request);
    for (uint32_t n = 0; n < window_count; n++) copy((void *)windows[n].address, background[n], windows[n].size);
    for (uint32_t n = 0; n < request.patches; n++) {
        struct range patch;
        copy(&patch, take(sizeof patch), sizeof patch);
        copy((void *)patch.address, take(patch.size), patch.size);
    }
    uint8_t *to = before;
    for (uint32_t n = 0; n < window_count; to += windows[n++].size) copy(to, (void *)windows[n].address, windows[n].size);
    copy(case_tss.gpr, request.gpr, sizeof request.gpr);
    copy(case_tss.segments, request.segments, sizeof request.segments);
    case_tss.eip = request.eip, case_tss.eflags = request.eflags;
    case_tss.cr3 = (uint32_t)case_directory, case_tss.ldt = LDT;
    case_tss.esp0 = (uint32_t)nm_stack + sizeof nm_stack, case_tss.ss0 = DATA, case_tss.iomap = sizeof case_tss;
    copy(fx_image, request.fx, sizeof fx_image);
    out(0x43, 0x30), out(0x40, 0), out(0x40, request.segments[1] == CODE ? 0x10 : 0xF0);  /* 3 or 50 ms, once */
    __asm__ volatile("clts\n\tfxrstor %0" : : "m"(fx_image));
}

static void report(uint32_t vector, uint32_t error)
{
    out(0x43, 0x30);
    __asm__ volatile("mov %0, %%cr0\n\tmov %1, %%cr4\n\tmov %2, %%dr7" : : "r"(CR0), "r"(CR4), "r"(0x400));
    if (vector >= TIMER) out(0x20, 0x20);
    copy(answer.gpr, case_tss.gpr, sizeof answer.gpr);
    if (answer.gpr[4] >> 16 == (uint32_t)nm_stack >> 16) answer.gpr[4] = (kept_esp & 0xFFFF0000) | (answer.gpr[4] & 0xFFFF);
    answer.eip = case_tss.eip, answer.eflags = case_tss.eflags;
    answer.trap = vector >= TIMER ? 255 : vector, answer.error = error, answer.changes = 0;
    __asm__ volatile("mov %%cr2, %0" : "=r"(answer.cr2));
    __asm__ volatile("clts\n\tfxsave %0" : "=m"(fx_image));
    copy(answer.fx, fx_image, sizeof fx_image);
    static uint8_t reply[0x10000 / CHUNK * (CHUNK + 4)];
    uint8_t *end = reply;
    const uint32_t *old = (const uint32_t *)before;
    for (uint32_t n = 0; n < window_count; n++) {
        const uint32_t *new = (const uint32_t *)windows[n].address;
        for (uint32_t at = 0; at < windows[n].size; at += CHUNK, old += 4, new += 4) {
            if (!((old[0] ^ new[0]) | (old[1] ^ new[1]) | (old[2] ^ new[2]) | (old[3] ^ new[3]))) continue;
            uint32_t address = windows[n].address + at;
            copy(end, &address, 4);
            copy(end + 4, new, CHUNK);
            end += 4 + CHUNK;
            answer.changes++;
        }
    }
    put(&answer, sizeof answer);
    put(reply, end - reply);
}

static void __attribute__((noreturn)) finish(void)
{
    put("DONE", 4);
    out(0xF4, 0);  /* QEMU: isa-debug-exit */
    for (const char *s = "Shutdown"; *s; s++) out(0x8900, *s);  /* Bochs */
    for (;;) __asm__ volatile("cli\n\thlt");
}

__attribute__((used)) void handle(uint32_t selector, const uint32_t *esp)
{
    uint32_t vector = (selector - MONITORS) >> 3;
    report(vector, esp == (const uint32_t *)(stack + sizeof stack) ? 0 : *esp);
    if (!--cases_left) finish();
    start_case();
}

static uint64_t descriptor(uint32_t base, uint32_t limit, uint32_t attributes)
{
    return (limit & 0xFFFF) | (uint64_t)(base & 0xFFFFFF) << 16 | (uint64_t)attributes << 40 |
           (uint64_t)(limit >> 16 & 15) << 48 | (uint64_t)(base >> 24) << 56;
}

__attribute__((used)) void set_up(void)
{
    struct __attribute__((packed)) { uint16_t limit; uint32_t base; } gdtr = {sizeof gdt - 1, (uint32_t)gdt},
        idtr = {sizeof idt - 1, (uint32_t)idt};
    next = (const uint8_t *)CASES;
    uint32_t count = *(const uint32_t *)take(4);
    copy(ldt, take(8 * count), 8 * count);
    window_count = *(const uint32_t *)take(4);
    windows = (struct range *)take(window_count * sizeof *windows);
    for (uint32_t n = 0; n < window_count; n++) {
        background[n] = (uint8_t *)take(windows[n].size);
        for (uint32_t at = windows[n].address; at < windows[n].address + windows[n].size; at += PAGE)
            case_table[at >> 12] = at | USER;
    }
    cases_left = *(const uint32_t *)take(4);
    for (uint32_t n = 0; n < 32; n++) monitor_directory[n] = n << 22 | LARGE;
    monitor_directory[CASES >> 22] = (CASES & 0xFFC00000) | LARGE;
    case_directory[0] = (uint32_t)case_table | USER;
    case_directory[HARNESS >> 22] = HARNESS | LARGE;
    gdt[1] = 0x00CF9B000000FFFF, gdt[2] = 0x00CF93000000FFFF;
    gdt[CASE >> 3] = descriptor((uint32_t)&case_tss, sizeof case_tss - 1, 0x8B);
    gdt[LDT >> 3] = descriptor((uint32_t)ldt, 8 * count - 1, 0x82);
    for (uint32_t n = 0; n < GATES; n++) {
        struct tss *tss = &monitors[n];
        gdt[(MONITORS >> 3) + n] = descriptor((uint32_t)tss, sizeof *tss - 1, 0x89);
        idt[n] = (MONITORS + 8 * n) << 16 | (uint64_t)(n == 3 || n == 4 ? 0xE500 : 0x8500) << 32;
        tss->cr3 = (uint32_t)monitor_directory, tss->eip = (uint32_t)enter, tss->eflags = 2;
        tss->gpr[4] = (uint32_t)stack + sizeof stack;
        for (int s = 0; s < 6; s++) tss->segments[s] = s == 1 ? CODE : DATA;
    }
    idt[NM] = ((uint32_t)not_available & 0xFFFF) | CODE << 16 |
              (uint64_t)(((uint32_t)not_available & 0xFFFF0000) | 0x8E00) << 32;
    __asm__ volatile("lgdt %0\n\tlidt %1" : : "m"(gdtr), "m"(idtr));
    __asm__ volatile("mov %0, %%cr4" : : "r"(CR4));
    __asm__ volatile("mov %0, %%cr3" : : "r"(monitor_directory));
    __asm__ volatile("mov %0, %%cr0" : : "r"(CR0));
    monitors[0].link = CASE;
    __asm__ volatile("ltr %w0" : : "r"(MONITORS));
    out(0x43, 0x30);
    out(0x20, 0x11), out(0x21, TIMER), out(0x21, 4), out(0x21, 1), out(0x21, 0xFE);
    out(0xA0, 0x11), out(0xA1, TIMER + 8), out(0xA1, 2), out(0xA1, 1), out(0xA1, 0xFF);
    out(0x20, 0x0C), in(0x20), out(0x20, 0x20);  /* a tick that came before */
    put("OK", 2);
    start_case();
}

__asm__(".section .start, \"ax\"\n"
        ".globl _start\n"
        "_start: lea stack + 16384, %esp\n cld\n call set_up\n"
        "pushf\n orl $0x4000, (%esp)\n popf\n"
        "leave: lea stack + 16384, %esp\n iret\n"
        ".globl enter\n"
        "enter: cld\n mov %esp, %eax\n lea stack + 16384 - 64, %esp\n"
        "str %ecx\n push %eax\n push %ecx\n call handle\n jmp leave\n"
        ".globl not_available\n"
        "not_available: clts\n push %eax\n mov 16(%esp), %eax\n mov %eax, %ss:kept_esp\n pop %eax\n iret\n"
        ".text\n");
