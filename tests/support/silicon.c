/* The real CPU as an oracle: runs 32-bit and 16-bit user code from a given state and reports what it left.

   Requests come on standard input, answers go to standard output (struct layouts below, packed).  The state is
   loaded by a signal's return and read in the handler of the exception that ends the snippet. */
#define _GNU_SOURCE
#include <asm/ldt.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

#include "wire.h"

static struct request request;
static struct answer answer;
static greg_t home[NGREG];
static uint32_t own_gs, own_fs;
static uint8_t fx_image[512] __attribute__((aligned(16)));

static void get(void *to, size_t size) {
    static uint8_t buffer[1 << 16];
    static size_t at, filled;
    while (size) {
        if (at == filled) {
            ssize_t n = read(0, buffer, sizeof buffer);
            if (n <= 0) _exit(n ? 1 : 0);
            at = 0, filled = n;
        }
        size_t part = size < filled - at ? size : filled - at;
        memcpy(to, buffer + at, part);
        at += part, to = (char *)to + part, size -= part;
    }
}

static void put(const void *from, size_t size) {
    while (size) {
        ssize_t n = write(1, from, size);
        if (n <= 0) _exit(1);
        from = (const char *)from + n;
        size -= n;
    }
}

static const int order[8] = {REG_EAX, REG_ECX, REG_EDX, REG_EBX, REG_ESP, REG_EBP, REG_ESI, REG_EDI};
static const int segment_order[6] = {REG_ES, REG_CS, REG_SS, REG_DS, REG_FS, REG_GS};

static void on_start(int number, siginfo_t *info, void *context) {
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    memcpy(home, regs, sizeof home);
    for (int n = 0; n < 8; n++) regs[order[n]] = request.gpr[n];
    for (int n = 0; n < 6; n++) regs[segment_order[n]] = request.segments[n];
    regs[REG_UESP] = request.gpr[4];
    regs[REG_EIP] = request.eip;
    regs[REG_EFL] = request.eflags;
}

static void on_end(int number, siginfo_t *info, void *context) {
    /* A signal leaves AC as it is. */
    asm volatile("pushf; andl $~0x40000, (%%esp); popf; mov %0, %%gs; mov %1, %%fs"
                 : : "r"(own_gs), "r"(own_fs) : "memory", "cc");
    mcontext_t *machine = &((ucontext_t *)context)->uc_mcontext;
    greg_t *regs = machine->gregs;
    for (int n = 0; n < 8; n++) answer.gpr[n] = regs[order[n]];
    answer.gpr[4] = regs[REG_UESP];
    answer.eip = regs[REG_EIP];
    answer.eflags = regs[REG_EFL];
    answer.trap = number == SIGPROF ? 255 : regs[REG_TRAPNO];
    answer.error = regs[REG_ERR];
    answer.cr2 = machine->cr2;
    if (machine->fpregs) memcpy(answer.fx, (char *)machine->fpregs + sizeof(struct _libc_fpstate), 512);
    memcpy(regs, home, sizeof home);
    machine->fpregs = 0;
}

static void forbid_system_calls(void) {
#define ALLOW(n) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, n, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        ALLOW(SYS_read), ALLOW(SYS_write), ALLOW(SYS_sigreturn), ALLOW(SYS_rt_sigreturn), ALLOW(SYS_setitimer),
        ALLOW(SYS_getpid), ALLOW(SYS_kill), ALLOW(SYS_exit_group),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) _exit(3);
}

int main(void) {
    uint32_t count;
    get(&count, 4);
    while (count--) {
        struct user_desc descriptor;
        get(&descriptor, sizeof descriptor);
        if (syscall(SYS_modify_ldt, 0x11, &descriptor, sizeof descriptor)) _exit(2);
    }
    get(&count, 4);
    struct range *windows = calloc(count, sizeof *windows);
    uint8_t **background = calloc(count, sizeof *background), **before = calloc(count, sizeof *before);
    for (uint32_t n = 0; n < count; n++) {
        get(&windows[n], sizeof *windows);
        uint32_t protection = n ? PROT_READ | PROT_WRITE : PROT_READ | PROT_WRITE | PROT_EXEC;
        void *at = mmap((void *)windows[n].address, windows[n].size, protection,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        if (at != (void *)windows[n].address) _exit(4);
        background[n] = malloc(windows[n].size);
        before[n] = malloc(windows[n].size);
        get(background[n], windows[n].size);
    }
    asm volatile("mov %%gs, %0; mov %%fs, %1" : "=r"(own_gs), "=r"(own_fs));
    static uint8_t handler_stack[1 << 16];
    stack_t stack = {.ss_sp = handler_stack, .ss_size = sizeof handler_stack};
    sigaltstack(&stack, 0);
    struct sigaction action = {.sa_sigaction = on_start, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigaction(SIGUSR1, &action, 0);
    action.sa_sigaction = on_end;
    static const int ends[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGPROF};
    for (unsigned n = 0; n < sizeof ends / sizeof *ends; n++) sigaction(ends[n], &action, 0);
    uint32_t total = 0;
    for (uint32_t n = 0; n < count; n++) total += windows[n].size;
    uint8_t *reply = malloc(sizeof answer + total / CHUNK * (CHUNK + 4));
    int self = getpid();
    forbid_system_calls();
    put("OK", 2);
    for (;;) {
        get(&request, sizeof request);
        for (uint32_t n = 0; n < count; n++) memcpy((void *)windows[n].address, background[n], windows[n].size);
        for (uint32_t n = 0; n < request.patches; n++) {
            struct range patch;
            get(&patch, sizeof patch);
            get((void *)patch.address, patch.size);
        }
        for (uint32_t n = 0; n < count; n++) memcpy(before[n], (void *)windows[n].address, windows[n].size);
        memcpy(fx_image, request.fx, 512);
        struct itimerval alarm = {.it_value = {.tv_sec = 2}}, off = {};
        setitimer(ITIMER_PROF, &alarm, 0);
        int result;
        /* A signal's return leaves NT and ID as they are. */
        asm volatile("fxrstor %1; push $0x202; popf; int $0x80"
                     : "=a"(result) : "m"(fx_image), "a"(SYS_kill), "b"(self), "c"(SIGUSR1) : "memory");
        setitimer(ITIMER_PROF, &off, 0);
        answer.changes = 0;
        for (uint32_t n = 0; n < count; n++)
            for (uint32_t at = 0; at < windows[n].size; at += CHUNK)
                answer.changes += memcmp(before[n] + at, (char *)windows[n].address + at, CHUNK) != 0;
        memcpy(reply, &answer, sizeof answer);
        uint8_t *end = reply + sizeof answer;
        for (uint32_t n = 0; n < count; n++)
            for (uint32_t at = 0; at < windows[n].size; at += CHUNK) {
                uint32_t address = windows[n].address + at;
                if (memcmp(before[n] + at, (void *)address, CHUNK) == 0) continue;
                memcpy(end, &address, 4);
                memcpy(end + 4, (void *)address, CHUNK);
                end += 4 + CHUNK;
            }
        put(reply, end - reply);
    }
}
