/* Hardware breakpoints on code and data, in the kernel and in ring 3, with paging and without: what each instruction meets
   and where it stops, EFLAGS.RF.  BY_MANUAL adds what QEMU does another way: of two breakpoints that one access meets it
   tells one, or one of before; at REP it stops again for each step; it loses count when it steps. */
#include "debug.h"

enum { P = 1, W = 2, U = 4, EXECUTE = 0, WRITE = 1, ACCESS = 3 };
enum { GD = 0x2000 };
#define PG 0x80000000u

static uint32_t directory[1024] PAGE_ALIGNED, table[1024] PAGE_ALIGNED;
static uint8_t data[2][PAGE] PAGE_ALIGNED, user_stack[PAGE] PAGE_ALIGNED;

extern uint8_t loop[], loop_body[], loop_string[], loop_back[], loop_end[], stores[], loads[], stack_code[];

/* EBX is the watched dword, in the middle of a page; ESP stands 64 bytes above it. */
__asm__(".section .user, \"awx\"\n"
        ".balign 4096\n"
        "loop: mov $4, %ecx\n"
        "loop_body: inc %eax\n"
        "test $1, %al\n jz 1f\n nop\n"
        "1: push %ecx\n mov $3, %ecx\n lea 64(%ebx), %edi\n cld\n"
        "loop_string: rep stosb\n"
        "pop %ecx\n"
        "loop_back: dec %ecx\n jnz loop_body\n"
        "call loop_end\n int $0x80\n"
        "loop_end: ret\n"
        "stores: movl $1, (%ebx)\n movb $1, -1(%ebx)\n movb $2, 3(%ebx)\n movb $3, 4(%ebx)\n movw $4, -1(%ebx)\n"
        "movl $5, -3(%ebx)\n movl $5, -4(%ebx)\n incl (%ebx)\n lock addl $1, 2(%ebx)\n mov (%ebx), %eax\n xchg %eax, (%ebx)\n"
        "lea (%ebx), %edi\n mov %eax, %edi\n cld\n lea -2(%ebx), %edi\n mov $8, %ecx\n rep stosb\n"
        "mov $4, %ecx\n lea -8(%ebx), %edi\n rep stosl\n lea 8(%ebx), %edi\n std\n movl $4, %ecx\n rep stosl\n cld\n"
        "lea -64(%ebx), %esi\n lea (%ebx), %edi\n movsl\n movl $3, %edi\n"
        "fld1\n fstpl -4(%ebx)\n fninit\n"
        "sete 1(%ebx)\n movb %al, %ah\n mov %ds, (%ebx)\n btsl $3, (%ebx)\n shll (%ebx)\n negb 2(%ebx)\n"
        "int $0x80\n"
        "loads: mov (%ebx), %eax\n movb -1(%ebx), %al\n movb 3(%ebx), %al\n movb 4(%ebx), %al\n movzwl -1(%ebx), %eax\n"
        "cmpl $0, -3(%ebx)\n testb $1, (%ebx)\n movl $7, (%ebx)\n prefetchnta (%ebx)\n lea (%ebx), %eax\n"
        "mov $4, %ecx\n lea -8(%ebx), %esi\n rep lodsl\n lea -2(%ebx), %edi\n mov $5, %ecx\n mov %ds:-2(%ebx), %al\n"
        "cmpxchg %eax, (%ebx)\n bt %eax, (%ebx)\n xor %ecx, %ecx\n rep lodsl\n"
        "int $0x80\n"
        /* The stack runs over the watched dword: not for the kernel, whose #DB would push there. */
        "stack_code: mov %esp, 128(%ebx)\n lea 4(%ebx), %esp\n push %eax\n lea 8(%ebx), %esp\n push %eax\n"
        "lea 4(%ebx), %esp\n push $1\n lea 4(%ebx), %esp\n call 2f\n2: lea 16(%ebx), %esp\n pusha\n"
        "lea 4(%ebx), %esp\n pushf\n lea -8(%ebx), %esp\n pop (%ebx)\n lea 8(%ebx), %esp\n push (%ebx)\n"
        "lea 4(%ebx), %esp\n push %ds\n lea 4(%ebx), %esp\n enter $8, $0\n lea (%ebx), %ebp\n leave\n"
        "lea (%ebx), %esp\n pop %eax\n lea -12(%ebx), %esp\n popl 40(%ebx)\n lea (%ebx), %esp\n popf\n cld\n"
        "movl $3f, (%ebx)\n lea (%ebx), %esp\n ret\n3: movl $4f, (%ebx)\n jmp *(%ebx)\n4: movl $5f, (%ebx)\n call *(%ebx)\n"
        "5: mov %ebx, %ecx\n mov %ebx, (%ebx)\n mov %ebx, -12(%ebx)\n lea -28(%ebx), %esp\n popa\n mov %ecx, %ebx\n"
        "mov 128(%ebx), %esp\n"
        "int $0x80\n"
        ".text\n");

static struct registers state_at(uint8_t *code)
{
    struct registers state = user_state((uint32_t)code, (uint32_t)user_stack + PAGE);
    state.ebx = (uint32_t)&data[0][2048], state.eax = 0;
    return state;
}

/* Run code in ring 3, or in the kernel, to its INT 80h, and print where it stopped. */
static void run(const char *name, uint8_t *code, uint32_t ring, uint32_t flags)
{
    origin = code;
    hits = 0;
    print("%s, ring %u:", name, ring);
    struct registers state = state_at(code);
    state.eflags |= flags;
    for (uint32_t n = 0; n < 1024; n++)
        ((uint32_t *)data)[n] = n;
    if (ring) {
        do {
            run_user(&state);
            if (state.vector == DB) {
                show(&state);
                if (set_rf)
                    state.eflags |= RF;
            }
        } while (state.vector == DB);
        if (state.vector != SYSCALL)
            print(" exception %2 at %2", state.vector, state.eip - (uint32_t)code);
    } else {
        static uint32_t back;
        TRY("pusha\n mov %%esp, %2\n xor %%ecx, %%ecx\n xor %%edx, %%edx\n xor %%esi, %%esi\n xor %%edi, %%edi\n mov %%edi, %%ebp\n jmp *%0\n1: mov %2, %%esp\n popa", : : "a"(code), "b"(&data[0][2048]), "m"(back) : "memory");
        if (caught.vector != SYSCALL)
            print(" exception %2", caught.vector);
    }
    uint32_t sum = 0;
    for (uint32_t n = 0; n < 1024; n++)
        sum = sum * 3 + ((uint32_t *)data)[n];
    print(" sum %8\n", sum);
}

static void code_breakpoints(uint32_t ring)
{
    set_rf = 1;
    set_dr7(0);
    run("none", loop, ring, 0);
    watch(0, (uint32_t)loop_body, EXECUTE);
    run("loop's head", loop, ring, 0);
#ifdef BY_MANUAL
    watch(0, (uint32_t)loop_string, EXECUTE);
    run("REP", loop, ring, 0);
#endif
    watch(0, (uint32_t)loop_back, EXECUTE);
    watch(1, (uint32_t)loop_end, EXECUTE);
    run("two", loop, ring, 0);
    watch(1, (uint32_t)loop_back, EXECUTE);
    run("the same", loop, ring, 0);
    watch(0, (uint32_t)loop_body + 1, EXECUTE);
    run("next but one", loop, ring, 0);
    watch(0, (uint32_t)loop_string + 1, EXECUTE);
    watch(1, (uint32_t)loop, EXECUTE);
    run("inside an instruction, and the first", loop, ring, 0);
    set_dr7(0);
    run("off", loop, ring, 0);
}

static void data_breakpoints(uint32_t ring)
{
    uint32_t address = (uint32_t)&data[0][2048];
    set_rf = 0;
    set_dr7(0);
    watch(0, address, WRITE | DWORD);
    run("writes of 4", stores, ring, 0);
    run("no reads", loads, ring, 0);
    watch(0, address + 2, WRITE | WORD);
    run("writes of 2", stores, ring, 0);
#ifdef BY_MANUAL
    watch(1, address - 1, WRITE | BYTE);
    run("two", stores, ring, 0);
#endif
    set_dr7(0);
    watch(0, address, ACCESS | DWORD);
    run("accesses of 4", loads, ring, 0);
    watch(1, (uint32_t)loads, EXECUTE);
    set_rf = 1;
    run("and code", loads, ring, 0);
    set_dr7(0);
    run("off", stores, ring, 0);
    if (ring) {
        set_rf = 0;
        watch(0, address, WRITE | DWORD);
        run("the stack, writes", stack_code, ring, 0);
        watch(0, address, ACCESS | DWORD);
        run("the stack, accesses", stack_code, ring, 0);
#ifdef BY_MANUAL
        watch(0, address, WRITE | DWORD);
        run("single-step", stores, ring, TF);
#endif
        set_dr7(0);
    }
}

void kernel(void)
{
    on_trap = on_kernel_trap;
    set_dr6(0);
    print("without paging\n");
    code_breakpoints(0);
    data_breakpoints(0);
    for (uint32_t n = 0; n < 1024; n++)
        table[n] = n << 12 | P | W | U;
    directory[0] = (uint32_t)table | P | W | U;
    set_cr3((uint32_t)directory);
    set_cr0(cr0() | PG);
    print("with paging\n");
    code_breakpoints(0);
    code_breakpoints(3);
    data_breakpoints(0);
    data_breakpoints(3);
#ifdef BY_MANUAL
    on_trap = 0;
    set_dr7(GD);
    TRY("mov %0, %%dr0", : : "r"(0) : "memory");
    print("DR7.GD: vector %2 DR6 %4 DR7 %4\n", caught.vector, dr6() & ~DR6_ONES, dr7());
#endif
}
