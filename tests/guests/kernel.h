/* A small kernel for guests of our own: a multiboot 1 image with its own descriptors, a debug console (E9h), exceptions
   that can be caught (TRY), and ring 3, which run_user enters and leaves. */
#ifndef KERNEL_H
#define KERNEL_H

#include <stdarg.h>
#include <stdint.h>

enum { CODE = 0x08, DATA = 0x10, CODE3 = 0x18 + 3, DATA3 = 0x20 + 3, TSS = 0x28, TSS_DF = 0x30, FREE = 0x38 };
enum { DEBUG = 0xE9, EXIT = 0xF4, STACK_SIZE = 16384, PAGE = 4096 };
enum { DB = 1, UD = 6, NM = 7, DF = 8, TS = 10, NP = 11, SS_FAULT = 12, GP = 13, PF = 14, AC = 17, SYSCALL = 0x80 };
enum { TF = 0x100, IF = 0x200, IOPL3 = 0x3000, NT = 0x4000, RF = 0x10000, VM = 0x20000, AC_FLAG = 0x40000 };
#define NONE 0xFFFFFFFFu
#define PAGE_ALIGNED __attribute__((aligned(4096)))

struct registers {
    uint32_t gs, fs, es, ds, edi, esi, ebp, unused, ebx, edx, ecx, eax, vector, error, eip, cs, eflags, esp, ss;
    uint32_t v86_es, v86_ds, v86_fs, v86_gs;
};

struct fault {
    uint32_t vector, error, cr2, eip;
};

struct __attribute__((packed)) table {
    uint16_t limit;
    uint32_t base;
};

struct tss {
    uint32_t link, esp0, ss0, esp1, ss1, esp2, ss2, cr3, eip, eflags, eax, ecx, edx, ebx, esp, ebp, esi, edi;
    uint32_t es, cs, ss, ds, fs, gs, ldt;
    uint16_t trap, iomap;
};

static uint64_t gdt[16] = {
    0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF, 0x00CFFB000000FFFF, 0x00CFF3000000FFFF,
};
static uint64_t idt[256];
static struct tss tss = {.ss0 = DATA, .iomap = sizeof tss};
static uint8_t stack[STACK_SIZE] __attribute__((used, aligned(16)));
static uint8_t trap_stack[STACK_SIZE] __attribute__((used, aligned(16)));
static volatile struct fault caught;
static uint32_t resume __attribute__((used));
static uint32_t kernel_esp __attribute__((used));
static struct registers *user;
/* Called for what TRY and run_user do not take; nonzero: go on. */
static int (*on_trap)(struct registers *);

extern uint8_t stubs[], image_end[];
void leave_trap(void);
void leave_iret(void);
void __attribute__((noreturn)) back_to_kernel(void);
void enter_user(const struct registers *);
void sysenter_entry(void);

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

/* Printing -------------------------------------------------------------------------------------------------- */

static inline void text(const char *s)
{
    while (*s)
        out8(DEBUG, *s++);
}

static inline void hex(uint32_t value, int digits)
{
    while (digits--)
        out8(DEBUG, "0123456789abcdef"[value >> 4 * digits & 15]);
}

static inline void decimal(uint32_t n)
{
    if (n >= 10)
        decimal(n / 10);
    out8(DEBUG, '0' + n % 10);
}

/* %s, %c, %u, and %1..%8: that many hexadecimal digits. */
static inline void print(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    for (; *format; format++) {
        if (*format != '%') {
            out8(DEBUG, *format);
            continue;
        }
        char kind = *++format;
        if (kind == 's')
            text(va_arg(arguments, const char *));
        else if (kind == 'c')
            out8(DEBUG, va_arg(arguments, int));
        else if (kind == 'u')
            decimal(va_arg(arguments, uint32_t));
        else
            hex(va_arg(arguments, uint32_t), kind - '0');
    }
    va_end(arguments);
}

static inline void __attribute__((noreturn)) quit(uint8_t value)
{
    out8(EXIT, value);
    for (;;)
        __asm__ volatile("cli; hlt");
}

/* Registers of the system -------------------------------------------------------------------------------------- */

#define CONTROL(n)                                                                  \
    static inline uint32_t cr##n(void)                                              \
    {                                                                               \
        uint32_t value;                                                             \
        __asm__ volatile("mov %%cr" #n ", %0" : "=r"(value));                       \
        return value;                                                               \
    }                                                                               \
    static inline void set_cr##n(uint32_t value)                                    \
    {                                                                               \
        __asm__ volatile("mov %0, %%cr" #n : : "r"(value) : "memory");              \
    }
CONTROL(0)
CONTROL(2)
CONTROL(3)
CONTROL(4)

#define DEBUG_REGISTER(n)                                                           \
    static inline uint32_t dr##n(void)                                              \
    {                                                                               \
        uint32_t value;                                                             \
        __asm__ volatile("mov %%dr" #n ", %0" : "=r"(value));                       \
        return value;                                                               \
    }                                                                               \
    static inline void set_dr##n(uint32_t value)                                    \
    {                                                                               \
        __asm__ volatile("mov %0, %%dr" #n : : "r"(value) : "memory");              \
    }
DEBUG_REGISTER(0)
DEBUG_REGISTER(1)
DEBUG_REGISTER(2)
DEBUG_REGISTER(3)
DEBUG_REGISTER(6)
DEBUG_REGISTER(7)

static inline void invlpg(uint32_t linear)
{
    __asm__ volatile("invlpg (%0)" : : "r"(linear) : "memory");
}

static inline void wrmsr(uint32_t number, uint64_t value)
{
    __asm__ volatile("wrmsr" : : "c"(number), "A"(value) : "memory");
}

static inline uint64_t rdmsr(uint32_t number)
{
    uint64_t value;
    __asm__ volatile("rdmsr" : "=A"(value) : "c"(number));
    return value;
}

/* Traps -------------------------------------------------------------------------------------------------------- */

/* Run assembler code; an exception in it goes to its end and stands in caught, whose vector else is NONE. */
#define TRY(code, ...)                                                              \
    do {                                                                            \
        caught.vector = NONE;                                                       \
        __asm__ volatile("movl $1f, resume\n\t" code "\n1:\tmovl $0, resume" __VA_ARGS__); \
    } while (0)

static void catch(const struct registers *frame)
{
    caught.vector = frame->vector;
    caught.error = frame->error;
    caught.eip = frame->eip;
    caught.cr2 = frame->vector == PF ? cr2() : 0;
}

__attribute__((used)) static struct registers *trap(struct registers *frame)
{
    if (user && (frame->cs & 3 || frame->eflags & VM || frame->vector == SYSCALL + 1)) {
        catch(frame);
        *user = *frame;
        user = 0;
        back_to_kernel();
    }
    if (frame->vector == DB || !resume) {
        if (on_trap && on_trap(frame))
            return frame;
    }
    if (user && frame->eip >= (uint32_t)leave_trap && frame->eip <= (uint32_t)leave_iret) {  /* ring 3 was not reached */
        catch(frame);
        user->vector = frame->vector, user->error = frame->error;
        user = 0;
        back_to_kernel();
    }
    catch(frame);
    if (!resume) {
        print("unexpected exception %2 error %4 eip %8 cr2 %8\n", frame->vector, frame->error, frame->eip, cr2());
        quit(0x7F);
    }
    frame->eip = resume;
    return frame;
}

/* Run ring 3 (or virtual-8086 mode) from *state* until its next exception or interrupt, which state->vector tells. */
static inline void run_user(struct registers *state)
{
    user = state;
    enter_user(state);
}

static inline struct registers user_state(uint32_t eip, uint32_t esp)
{
    return (struct registers){.gs = DATA3, .fs = DATA3, .es = DATA3, .ds = DATA3, .eip = eip, .cs = CODE3,
                              .eflags = 2, .esp = esp, .ss = DATA3};
}

static inline void set_gate(int vector, uint32_t handler, uint32_t attributes)
{
    idt[vector] = (handler & 0xFFFF) | CODE << 16 | (uint64_t)((handler & 0xFFFF0000) | attributes) << 32;
}

static inline void set_task_gate(int vector, uint32_t selector)
{
    idt[vector] = selector << 16 | 0x8500ull << 32;
}

static inline void set_descriptor(uint32_t selector, uint32_t base, uint32_t limit, uint32_t attributes)
{
    gdt[selector >> 3] = (limit & 0xFFFF) | (uint64_t)(base & 0xFFFFFF) << 16 | (uint64_t)attributes << 40 |
                         (uint64_t)(limit >> 16 & 15) << 48 | (uint64_t)(base >> 24) << 56;
}

__attribute__((used)) static void set_up(void)
{
    struct table idtr = {sizeof idt - 1, (uint32_t)idt};
    for (int vector = 0; vector < 256; vector++)
        set_gate(vector, (uint32_t)stubs + 16 * vector, vector == SYSCALL || vector == 3 || vector == 4 ? 0xEE00 : 0x8E00);
    __asm__ volatile("lidt %0" : : "m"(idtr));
    tss.esp0 = (uint32_t)trap_stack + STACK_SIZE;
    set_descriptor(TSS, (uint32_t)&tss, sizeof tss - 1, 0x89);
    __asm__ volatile("ltr %w0" : : "r"(TSS));
}

void kernel(void);

/* With SAME_SEGMENTS both rings use ring 3's data segments, and no trap loads any. */
#ifdef SAME_SEGMENTS
#define LOAD_SEGMENTS ""
#define POP_SEGMENTS "lea 16(%esp), %esp\n"
#else
#define LOAD_SEGMENTS "mov $16, %eax\n mov %eax, %ds\n mov %eax, %es\n"
#define POP_SEGMENTS "pop %gs\n pop %fs\n pop %es\n pop %ds\n"
#endif

__attribute__((section(".multiboot"), used)) static const uint32_t header[] = {0x1BADB002, 0, -0x1BADB002};
__attribute__((used)) static const struct table gdtr = {sizeof gdt - 1, (uint32_t)gdt};

__asm__(".globl _start\n"
        "_start: lgdt gdtr\n"
        "ljmp $8, $1f\n"
        "1: mov $16, %cx\n"
        "mov %cx, %ds\n mov %cx, %es\n mov %cx, %ss\n mov %cx, %fs\n mov %cx, %gs\n"
        "lea stack + 16384, %esp\n"
        "cld\n"
        "call set_up\n"
        "call kernel\n"
        "mov $0, %al\n out %al, $0xF4\n"
        "2: cli\n hlt\n jmp 2b\n"
        /* A stub is 16 bytes: a zero error code if the processor pushes none, the vector, a jump. */
        ".globl stubs\n .balign 16\n"
        "stubs:\n"
        ".set n, 0\n"
        ".rept 256\n"
        ".balign 16\n"
        ".if n != 8 && (n < 10 || n > 14) && n != 17\n push $0\n .endif\n"
        "pushl $n\n"
        "jmp common\n"
        ".set n, n + 1\n"
        ".endr\n"
        "common: pusha\n"
        "push %ds\n push %es\n push %fs\n push %gs\n"
        LOAD_SEGMENTS
        "cld\n"
        "mov %esp, %eax\n"
        "push %eax\n"
        "call trap\n"
        "mov %eax, %esp\n"
        ".globl leave_trap\n"
        "leave_trap: " POP_SEGMENTS " popa\n lea 8(%esp), %esp\n"
        ".globl leave_iret\n"
        "leave_iret: iret\n"
        ".globl enter_user\n"
        "enter_user: mov 4(%esp), %eax\n"
        "push %ebp\n push %ebx\n push %esi\n push %edi\n"
        "mov %esp, kernel_esp\n"
        "sub $(23 * 4), %esp\n"
        "mov %eax, %esi\n mov %esp, %edi\n mov $23, %ecx\n rep movsl\n"
        "jmp leave_trap\n"
        ".globl back_to_kernel\n"
        "back_to_kernel: mov kernel_esp, %esp\n"
        "pop %edi\n pop %esi\n pop %ebx\n pop %ebp\n ret\n"
        /* SYSENTER: EDX and ECX are what SYSEXIT takes back (EIP, ESP); it looks like interrupt 81h. */
        ".globl sysenter_entry\n"
        "sysenter_entry: pushl $0x23\n push %ecx\n pushf\n pushl $0x1B\n push %edx\n"
        "pushl $0\n pushl $0x81\n jmp common\n");

#endif
