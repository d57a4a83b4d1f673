/* A multiboot 1 kernel: IDT, remapped PICs, the 8254 at 100 Hz; prints a line on COM1 for each of 20 ticks, and what
   the boot loader told it, then leaves through port F4h. */
#include <stdint.h>

enum { TICKS = 20, HERTZ = 100, PIT_HERTZ = 1193182, TIMER_VECTOR = 0x20, BOOTLOADER_MAGIC = 0x2BADB002 };
enum { PIC1 = 0x20, PIC2 = 0xA0, PIT_CHANNEL0 = 0x40, PIT_CONTROL = 0x43, COM1 = 0x3F8, DEBUG = 0xE9, EXIT = 0xF4 };

struct __attribute__((packed)) gate {
    uint16_t offset_low, selector;
    uint8_t zero, type;
    uint16_t offset_high;
};

struct interrupt_frame {
    uint32_t eip, cs, eflags;
};

struct information {
    uint32_t flags, mem_lower, mem_upper, boot_device, cmdline, mods_count, mods_addr;
};

struct module {
    uint32_t start, end, string, reserved;
};

static struct gate idt[256];
static volatile uint32_t ticks;

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

static void put(char c)
{
    while (!(in8(COM1 + 5) & 0x20))
        ;
    out8(COM1, c);
    out8(DEBUG, c);
}

static void text(const char *s)
{
    while (*s)
        put(*s++);
}

static void number(uint32_t n)
{
    if (n >= 10)
        number(n / 10);
    put('0' + n % 10);
}

__attribute__((interrupt, target("general-regs-only"))) static void on_timer(struct interrupt_frame *frame)
{
    (void)frame;
    ticks++;
    out8(PIC1, 0x20);
}

__attribute__((interrupt, target("general-regs-only"))) static void on_exception(struct interrupt_frame *frame)
{
    text("exception at ");
    number(frame->eip);
    put('\n');
    out8(EXIT, 0x7F);
}

static void set_gate(int vector, void *handler)
{
    uint16_t cs;
    __asm__("mov %%cs, %0" : "=r"(cs));
    idt[vector] = (struct gate){(uint32_t)handler, cs, 0, 0x8E, (uint32_t)handler >> 16};
}

static void serial(void)
{
    out8(COM1 + 1, 0);
    out8(COM1 + 3, 0x80);
    out8(COM1 + 0, 1);
    out8(COM1 + 1, 0);
    out8(COM1 + 3, 3);
    out8(COM1 + 2, 0xC7);
}

static void interrupts(void)
{
    struct __attribute__((packed)) {
        uint16_t limit;
        uint32_t base;
    } idtr = {sizeof idt - 1, (uint32_t)idt};
    for (int vector = 0; vector < 32; vector++)
        set_gate(vector, on_exception);
    set_gate(TIMER_VECTOR, on_timer);
    __asm__ volatile("lidt %0" : : "m"(idtr));
    out8(PIC1, 0x11);
    out8(PIC1 + 1, TIMER_VECTOR);
    out8(PIC1 + 1, 4);
    out8(PIC1 + 1, 1);
    out8(PIC2, 0x11);
    out8(PIC2 + 1, TIMER_VECTOR + 8);
    out8(PIC2 + 1, 2);
    out8(PIC2 + 1, 1);
    out8(PIC1 + 1, 0xFE);
    out8(PIC2 + 1, 0xFF);
    out8(PIT_CONTROL, 0x34);
    out8(PIT_CHANNEL0, PIT_HERTZ / HERTZ & 0xFF);
    out8(PIT_CHANNEL0, PIT_HERTZ / HERTZ >> 8);
}

void kernel(uint32_t magic, const struct information *info)
{
    serial();
    text(magic == BOOTLOADER_MAGIC ? "multiboot\n" : "no multiboot\n");
    if (info->flags & 4) {
        /* Boot loaders put the image's path in front. */
        const char *line = (const char *)info->cmdline;
        while (*line && *line != ' ')
            line++;
        text("arguments:");
        text(line);
        put('\n');
    }
    if (info->flags & 8) {
        text("modules: ");
        number(info->mods_count);
        put('\n');
        const struct module *module = (const struct module *)info->mods_addr;
        for (uint32_t n = 0; n < info->mods_count; n++, module++) {
            uint32_t sum = 0;
            for (const uint8_t *byte = (const uint8_t *)module->start; byte < (const uint8_t *)module->end; byte++)
                sum += *byte;
            number(module->end - module->start);
            text(" bytes, sum ");
            number(sum);
            put('\n');
        }
    }
    interrupts();
    __asm__ volatile("sti");
    for (uint32_t seen = 0; seen < TICKS;) {
        __asm__ volatile("hlt");
        while (seen < ticks && seen < TICKS) {
            text("tick ");
            number(++seen);
            put('\n');
        }
    }
    __asm__ volatile("cli");
    text("done\n");
    out8(EXIT, 0x15);
}

__attribute__((section(".multiboot"), used)) static const uint32_t header[] = {0x1BADB002, 3, -(0x1BADB002 + 3)};
static uint8_t stack[16384] __attribute__((used, aligned(16)));

/* The loader's GDT is not to be relied on: load one. */
static const uint64_t gdt[] = {0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF};
const struct __attribute__((packed)) {
    uint16_t limit;
    uint32_t base;
} gdtr = {sizeof gdt - 1, (uint32_t)gdt};

__asm__(".globl _start\n"
        "_start: lgdt gdtr\n"
        "ljmp $8, $1f\n"
        "1: mov $16, %cx\n"
        "mov %cx, %ds\n mov %cx, %es\n mov %cx, %ss\n mov %cx, %fs\n mov %cx, %gs\n"
        "lea stack + 16384, %esp\n"
        "push %ebx\n push %eax\n call kernel\n"
        "2: cli\n hlt\n jmp 2b\n");
