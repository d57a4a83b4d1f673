/* The floating-point and SSE registers of two programs, kept apart by CR0.TS: a switch sets it, the first use raises #NM,
   whose handler saves and restores by FXSAVE and FXRSTOR.  Then what TS, MP and EM do to each kind of instruction. */
#include "kernel.h"

enum { MP = 2, EM = 4, TS_BIT = 8, OSFXSR = 0x200 };

/* Ring 3: EBX is the program's number, EDI its memory; each INT is a turn. */
extern uint8_t program_code[], plain_program[];
__asm__("program_code:\n"
        "fninit\n fldz\n"
        "movd %ebx, %xmm0\n pxor %xmm7, %xmm7\n"
        "1: int $0x80\n"
        "fiaddl (%edi)\n"
        "int $0x80\n"
        "paddd %xmm0, %xmm7\n movd %ebx, %mm3\n"
        "int $0x80\n"
        "fistl 4(%edi)\n movd %xmm7, 8(%edi)\n"
        "int $0x80\n"
        "jmp 1b\n"
        "plain_program: incl 4(%edi)\n int $0x80\n jmp plain_program\n");

struct program {
    struct registers state;
    uint32_t memory[3];
    uint8_t image[512] __attribute__((aligned(16)));
};

static struct program programs[3] __attribute__((aligned(16)));
static uint8_t user_stack[3][PAGE];
static struct program *owner;
static uint32_t traps, turns;

static void set_ts(void)
{
    set_cr0(cr0() | TS_BIT);
}

static void turn(struct program *program)
{
    set_ts();
    for (;;) {
        run_user(&program->state);
        if (program->state.vector != NM)
            break;
        traps++;
        __asm__ volatile("clts");
        if (owner != program) {
            if (owner)
                __asm__ volatile("fxsave (%0)" : : "r"(owner->image) : "memory");
            __asm__ volatile("fxrstor (%0)" : : "r"(program->image) : "memory");
            owner = program;
        }
    }
    turns++;
    if (program->state.vector != SYSCALL)
        print("exception %2 at +%2\n", program->state.vector, program->state.eip - (uint32_t)program_code);
}

static void try(const char *name, void (*code)(void))
{
    static const uint8_t states[] = {0, MP, TS_BIT, TS_BIT | MP, EM, EM | MP};
    print("%s:", name);
    for (unsigned n = 0; n < sizeof states; n++) {
        set_cr0((cr0() & ~(TS_BIT | EM | MP)) | states[n]);
        code();
        if (caught.vector == NONE)
            print(" --");
        else
            print(" %2", caught.vector);
    }
    set_cr0(cr0() & ~(TS_BIT | EM | MP));
    print("\n");
}

#define CODE_OF(name, code) static void name(void) { TRY(code, : : "b"(programs[0].image) : "memory"); }
CODE_OF(try_wait, "fwait")
CODE_OF(try_fninit, "fninit")
CODE_OF(try_fld1, "fld1\n fstp %%st(0)")
CODE_OF(try_fnstsw, "fnstsw %%ax")
CODE_OF(try_fnstcw, "fnstcw (%0)")
CODE_OF(try_paddd, "paddd %%mm0, %%mm0")
CODE_OF(try_addps, "addps %%xmm0, %%xmm0")
CODE_OF(try_paddd_xmm, "paddd %%xmm0, %%xmm0")
CODE_OF(try_fxsave, "fxsave (%0)")
CODE_OF(try_fxrstor, "fxrstor (%0)")
CODE_OF(try_stmxcsr, "stmxcsr (%0)")
CODE_OF(try_prefetch, "prefetchnta (%0)")
CODE_OF(try_sfence, "sfence")
CODE_OF(try_movnti, "movnti %%eax, (%0)")

void kernel(void)
{
    set_cr4(cr4() | OSFXSR);
    set_cr0(cr0() & ~(MP | EM | TS_BIT));
    __asm__ volatile("fninit");
    for (uint32_t n = 0; n < 3; n++) {
        struct program *program = programs + n;
        program->state = user_state((uint32_t)(n == 2 ? plain_program : program_code), (uint32_t)user_stack[n] + PAGE);
        program->state.ebx = n + 1;
        program->state.edi = (uint32_t)program->memory;
        program->memory[0] = 10 + n;
        __asm__ volatile("fxsave (%0)" : : "r"(program->image) : "memory");
    }
    for (uint32_t round = 0; round < 40; round++)
        for (uint32_t n = 0; n < 3; n++)
            for (uint32_t again = 0; again <= (round + n) % 3; again++)
                turn(programs + n);
    for (uint32_t n = 0; n < 3; n++)
        print("program %u: %u %u\n", n, programs[n].memory[1], programs[n].memory[2]);
    print("turns %u, #NM %u\n", turns, traps);
    print("          none MP TS TS+MP EM EM+MP\n");
    try("fwait", try_wait);
    try("fninit", try_fninit);
    try("fld1", try_fld1);
    try("fnstsw", try_fnstsw);
    try("fnstcw", try_fnstcw);
    try("paddd mm", try_paddd);
    try("addps", try_addps);
    try("paddd xmm", try_paddd_xmm);
    try("fxsave", try_fxsave);
    try("fxrstor", try_fxrstor);
    try("stmxcsr", try_stmxcsr);
    try("prefetch", try_prefetch);
    try("sfence", try_sfence);
    try("movnti", try_movnti);
    set_cr4(cr4() & ~OSFXSR);
    try_addps();
    print("addps without OSFXSR: %2\n", caught.vector);
}
