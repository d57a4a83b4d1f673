/* Processes in ring 3, each with its own address space: fork with copy on write, demand paging, growing stacks, system
   calls by INT 80h and by SYSENTER, preemption by the timer, and 50,000 changes of CR3 in each format of the page tables.
   All counts that are printed are the programs' own doing; what depends on the time is not printed. */
#define SAME_SEGMENTS
#include "kernel.h"

enum { P = 1, W = 2, U = 4, A = 0x20, D = 0x40, G = 0x100, COPY = 0x200, POISONED = 0x400 };
enum { WP = 0x10000, PAE = 0x20, PGE = 0x80, NXE = 0x800, SYSENTER_CS = 0x174, SYSENTER_ESP = 0x175, SYSENTER_EIP = 0x176 };
#define PG 0x80000000u
#define NX (1ull << 63)
#define RESERVED (1ull << 40)
#define EFER 0xC0000080u
enum { PIC1 = 0x20, PIC2 = 0xA0, PIT_CHANNEL0 = 0x40, PIT_CONTROL = 0x43, TIMER = 0x20, TIMER_HERTZ = 1000 };

enum { WORKERS = 8, YIELDS = 3125, MAX_PROCESSES = 2 * WORKERS + 1, DATA_PAGES = 16, STACK_PAGES = 32, PASSES = 6 };
#define HEAP 0x10000000u
#define SHARED 0x20000000u
#define STACK_TOP 0xBFFFF000u
#define SECRET 0x100000u  /* the kernel's own */

enum { FREE_SLOT, READY, WAITING, ZOMBIE };
enum { FORK, EXIT_, WAIT, YIELD, FILL, SUM, POISON, CALLS };

struct process {
    struct registers state;
    uint32_t root, result;
    int status, parent;
};

/* Physical memory ------------------------------------------------------------------------------------------------ */

enum { FIRST_FRAME = 0x400, FRAMES = 0x1C00, MEMORY = 32 << 20 };
static uint16_t references[FRAMES];
static uint32_t free_list[FRAMES], free_frames;
static uint32_t zeroes[1024] PAGE_ALIGNED, shared[1024] PAGE_ALIGNED;

static uint32_t new_frame(void)
{
    if (!free_frames) {
        print("out of memory\n");
        quit(0x7F);
    }
    uint32_t frame = free_list[--free_frames];
    references[frame >> 12] = 1;
    for (int n = 0; n < 1024; n++)
        ((uint32_t *)frame)[n] = 0;
    return frame;
}

static int counted(uint32_t frame)
{
    return frame >> 12 >= FIRST_FRAME && frame >> 12 < FRAMES;
}

static void release(uint32_t frame)
{
    if (counted(frame) && !--references[frame >> 12])
        free_list[free_frames++] = frame;
}

/* Page tables ------------------------------------------------------------------------------------------------------ */

static struct process processes[MAX_PROCESSES];
static struct process *current;
static int pae;
static uint32_t kernel_tables[16][1024] PAGE_ALIGNED;
static uint32_t forks, copies, switches, preemptions, calls_by_int, calls_by_sysenter, faults[32];
extern uint8_t __start_user[], __stop_user[];

static uint64_t entry_at(uint32_t table, int n)
{
    return pae ? ((uint64_t *)table)[n] : ((uint32_t *)table)[n];
}

static void set_entry(uint32_t table, int n, uint64_t entry)
{
    if (pae)
        ((uint64_t *)table)[n] = entry;
    else
        ((uint32_t *)table)[n] = entry;
}

static uint32_t directory_of(uint32_t root, uint32_t linear)
{
    return pae ? (uint32_t)((uint64_t *)root)[linear >> 30] & ~0xFFF : root;
}

static int index_of(int level, uint32_t linear)
{
    if (level == 2)
        return pae ? linear >> 21 & 511 : linear >> 22;
    return pae ? linear >> 12 & 511 : linear >> 12 & 1023;
}

/* The table that maps *linear*, made if need be. */
static uint32_t table_of(uint32_t root, uint32_t linear)
{
    uint32_t directory = directory_of(root, linear);
    uint64_t entry = entry_at(directory, index_of(2, linear));
    if (!(entry & P)) {
        entry = new_frame() | P | W | U;
        set_entry(directory, index_of(2, linear), entry);
    }
    return entry & ~0xFFF;
}

static uint64_t page_of(uint32_t root, uint32_t linear)
{
    return entry_at(table_of(root, linear), index_of(1, linear));
}

static void set_page(uint32_t root, uint32_t linear, uint64_t entry)
{
    set_entry(table_of(root, linear), index_of(1, linear), entry);
}

static void fill_kernel_tables(void)
{
    for (uint32_t at = 0; at < MEMORY; at += PAGE)
        set_entry((uint32_t)kernel_tables[at >> (pae ? 21 : 22)], index_of(1, at), at | P | W | G);
}

/* The kernel's pages below 4 (2) MiB are mapped by a table of each process's own: its text lies among them. */
static uint32_t new_root(void)
{
    uint32_t root = new_frame();
    if (pae) {
        set_entry(root, 0, new_frame() | P);
        set_entry(root, 2, new_frame() | P);
    }
    uint32_t low = new_frame(), directory = directory_of(root, 0);
    for (uint32_t n = 0; n < (pae ? 16 : 8); n++)
        set_entry(directory, n, (uint32_t)kernel_tables[n] | P | W);
    set_entry(directory, 0, low | P | W | U);
    for (int n = 0; n < (pae ? 512 : 1024); n++) {
        uint32_t at = n << 12;
        int text = at >= (uint32_t)__start_user && at < (uint32_t)__stop_user;
        set_entry(low, n, text ? 0 : at | P | W);
    }
    set_page(root, SHARED, (uint32_t)shared | P | W | U | (pae ? NX : 0));
    return root;
}

/* Call *each* for every page of the process's own. */
static void every_page(uint32_t root, void (*each)(uint32_t, uint32_t, uint32_t), uint32_t argument)
{
    for (uint32_t n = 0; n < DATA_PAGES; n++)
        each(root, HEAP + n * PAGE, argument);
    for (uint32_t n = 1; n <= STACK_PAGES; n++)
        each(root, STACK_TOP - n * PAGE, argument);
}

static void drop(uint32_t root, uint32_t linear, uint32_t unused)
{
    (void)unused;
    uint64_t entry = page_of(root, linear);
    if (entry & P)
        release(entry & ~0xFFF);
}

static void free_root(uint32_t root)
{
    every_page(root, drop, 0);
    release(table_of(root, HEAP));
    release(table_of(root, SHARED));
    release(table_of(root, STACK_TOP - PAGE));
    release(table_of(root, 0));
    if (pae) {
        release(directory_of(root, 0));
        release(directory_of(root, STACK_TOP));
    }
    release(root);
}

static void share(uint32_t root, uint32_t linear, uint32_t child)
{
    uint64_t entry = page_of(root, linear);
    if (!(entry & P))
        return;
    if (entry & W) {
        entry = (entry & ~W) | COPY;
        set_page(root, linear, entry);
        invlpg(linear);
    }
    if (counted(entry & ~0xFFF))
        references[(uint32_t)entry >> 12]++;
    set_page(child, linear, entry & ~(uint64_t)(A | D));
}

/* A page fault of the current process, or of the kernel on its memory: nonzero if it is served. */
static int page_fault(uint32_t error, uint32_t linear)
{
    uint32_t root = current->root, at = linear & ~0xFFF;
    int heap = linear >= HEAP && linear < HEAP + DATA_PAGES * PAGE;
    int own = heap || (linear >= STACK_TOP - STACK_PAGES * PAGE && linear < STACK_TOP);
    faults[error & 8 ? error | P : error]++;  /* QEMU leaves P out of faults by a reserved bit */
    if (at >= (uint32_t)__start_user && at < (uint32_t)__stop_user && !(error & P)) {
        set_page(root, at, at | P | U);
        return 1;
    }
    if (!own)
        return 0;
    uint64_t entry = page_of(root, at), more = pae ? NX : 0;
    if (entry & POISONED) {
        entry &= ~(RESERVED | POISONED);
    } else if (!(entry & P)) {
        entry = (error & W ? new_frame() | W : (uint32_t)zeroes | COPY) | P | U | more;
    } else if (error & W && entry & COPY) {
        uint32_t frame = entry & ~0xFFF;
        if (!counted(frame) || references[frame >> 12] > 1) {
            uint32_t copy = new_frame();
            for (int n = 0; n < 1024; n++)
                ((uint32_t *)copy)[n] = ((uint32_t *)frame)[n];
            release(frame);
            frame = copy;
            copies++;
        }
        entry = frame | P | W | U | (entry & NX);
    } else if (error & 16) {
        entry &= ~NX;
    } else {
        return 0;
    }
    set_page(root, at, entry);
    invlpg(at);
    return 1;
}

/* The kernel ---------------------------------------------------------------------------------------------------------- */

static void acknowledge(void)
{
    out8(PIC1, 0x20);
}

static int on_kernel_trap(struct registers *frame)
{
    return frame->vector == PF && current && page_fault(frame->error, cr2());
}

static void switch_to(struct process *next)
{
    current = next;
    set_cr3(next->root);
    switches++;
}

static struct process *next_ready(void)
{
    struct process *next = current;
    do {
        if (++next == processes + MAX_PROCESSES)
            next = processes;
        if (next->status == READY)
            return next;
    } while (next != current);
    return 0;
}

static struct process *free_process(void)
{
    for (struct process *each = processes; each < processes + MAX_PROCESSES; each++)
        if (each->status == FREE_SLOT)
            return each;
    print("too many processes\n");
    quit(0x7F);
}

static uint32_t fork(void)
{
    struct process *child = free_process();
    *child = *current;
    child->root = new_root();
    child->parent = current - processes;
    child->state.eax = 0;
    every_page(current->root, share, child->root);
    forks++;
    return child - processes;
}

static void wait(void)
{
    for (struct process *each = processes; each < processes + MAX_PROCESSES; each++)
        if (each->status == ZOMBIE && each->parent == current - processes) {
            current->state.eax = each->result;
            current->status = READY;
            each->status = FREE_SLOT;
            return;
        }
    current->status = WAITING;
}

static void system_call(void)
{
    struct registers *state = &current->state;
    uint32_t number = state->eax, argument = state->ebx;
    if (state->vector == SYSCALL)
        calls_by_int++;
    else
        calls_by_sysenter++;
    state->eax = 0;
    if (number == FORK) {
        state->eax = fork();
    } else if (number == EXIT_) {
        current->result = argument;
        current->status = ZOMBIE;
        struct process *parent = processes + current->parent;
        uint32_t root = current->root;
        switch_to(parent);
        free_root(root);
        if (parent->status == WAITING)
            wait();
    } else if (number == WAIT) {
        wait();
    } else if (number == YIELD) {
        switch_to(next_ready());
    } else if (number == FILL) {
        for (uint32_t n = 0; n < 16; n++)
            ((volatile uint32_t *)argument)[n] = argument + n;
    } else if (number == SUM) {
        for (uint32_t n = 0; n < 16; n++)
            state->eax += ((volatile uint32_t *)argument)[n];
    } else if (number == POISON && pae) {
        set_page(current->root, argument, page_of(current->root, argument) | RESERVED | POISONED);
        invlpg(argument);
    }
}

/* Resume behind SYSENTER: EDX and ECX are lost. */
void resume_by_sysexit(const struct registers *);
__asm__("resume_by_sysexit: mov 4(%esp), %eax\n"
        "push %ebp\n push %ebx\n push %esi\n push %edi\n"
        "mov %esp, kernel_esp\n"
        "mov 16(%eax), %edi\n mov 20(%eax), %esi\n mov 24(%eax), %ebp\n mov 32(%eax), %ebx\n"
        "mov 56(%eax), %edx\n mov 68(%eax), %ecx\n mov 44(%eax), %eax\n"
        "sti\n sysexit\n");

static void run(void)
{
    while (processes[0].status != ZOMBIE) {
        if (current->status != READY) {
            struct process *next = next_ready();
            if (!next) {
                print("everybody waits\n");
                quit(0x7F);
            }
            switch_to(next);
        }
        struct registers *state = &current->state;
        state->eflags |= IF;
        if (state->vector == SYSCALL + 1) {
            user = state;
            resume_by_sysexit(state);
        } else {
            run_user(state);
        }
        state = &current->state;
        if (state->vector == TIMER) {
            acknowledge();
            preemptions++;
            switch_to(next_ready());
        } else if (state->vector == PF) {
            if (!page_fault(state->error, cr2()))
                state->eip = state->edx;  /* the process said where to go on */
        } else if (state->vector == SYSCALL || state->vector == SYSCALL + 1) {
            system_call();
        } else {
            print("exception %2 in ring 3 at %8\n", state->vector, state->eip);
            quit(0x7F);
        }
    }
}

/* Ring 3 ------------------------------------------------------------------------------------------------------------------ */

#define RING3 static __attribute__((section(".user"), noinline))

RING3 uint32_t call_by_int(uint32_t number, uint32_t argument)
{
    uint32_t result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(argument) : "memory");
    return result;
}

RING3 uint32_t call_by_sysenter(uint32_t number, uint32_t argument)
{
    uint32_t result;
    __asm__ volatile("call 1f\n1:\tpop %%edx\n\tlea 2f - 1b(%%edx), %%edx\n\tmov %%esp, %%ecx\n\tsysenter\n2:"
                     : "=a"(result) : "a"(number), "b"(argument) : "ecx", "edx", "memory");
    return result;
}

RING3 uint32_t call(uint32_t number, uint32_t argument)
{
    /* Every other kind of call the other way. */
    return number & 1 ? call_by_sysenter(number, argument) : call_by_int(number, argument);
}

/* Try to read (0), write (1) or call (2) *address*; 1 if that was refused. */
RING3 uint32_t probe(uint32_t address, int how)
{
    uint32_t refused = 1;
    if (how == 0)
        __asm__ volatile("mov $1f, %%edx\n\tmov (%1), %%eax\n\txor %0, %0\n1:" : "+D"(refused) : "b"(address) : "eax", "edx");
    else if (how == 1)
        __asm__ volatile("mov $1f, %%edx\n\tmov %1, (%1)\n\txor %0, %0\n1:" : "+D"(refused) : "b"(address) : "edx", "memory");
    else
        __asm__ volatile("mov $1f, %%edx\n\tmov %%esp, %%esi\n\tcall *%1\n\txor %0, %0\n1:\tmov %%esi, %%esp"
                         : "+D"(refused) : "b"(address) : "eax", "esi", "edx", "memory");
    return refused;
}

/* Takes a page of stack for each level. */
RING3 uint32_t deep(uint32_t levels)
{
    volatile uint32_t room[1000];
    room[0] = levels;
    return levels ? deep(levels - 1) + room[0] : 0;
}

RING3 uint32_t check(uint32_t condition, uint32_t bit)
{
    return condition ? 0 : 1u << bit;
}

/* What a worker's child does with its copy of the memory. */
RING3 uint32_t grandchild(volatile uint32_t *heap, uint32_t n)
{
    uint32_t wrong = 0;
    for (uint32_t page = 0; page < 4; page++) {
        wrong |= check(heap[page << 10] == n * 100 + page, page);
        heap[page << 10] += 1000;
    }
    call(YIELD, 0);
    for (uint32_t page = 0; page < 4; page++)
        wrong |= check(heap[page << 10] == n * 100 + page + 1000, 4 + page);
    wrong |= check(deep(9) == 45, 8);
    return wrong;
}

RING3 uint32_t worker(uint32_t n)
{
    volatile uint32_t *heap = (volatile uint32_t *)HEAP;
    volatile uint32_t *flags = (volatile uint32_t *)SHARED;
    uint32_t wrong = 0;
    for (uint32_t page = 0; page < 4; page++)
        heap[page << 10] = n * 100 + page;
    wrong |= check(deep(3 + n) == (3 + n) * (4 + n) / 2, 0);
    if (!call(FORK, 0))
        call(EXIT_, grandchild(heap, n));
    for (uint32_t page = 0; page < 2; page++)
        heap[page << 10] += 1;
    wrong |= check(call(WAIT, 0) == 0, 1);
    for (uint32_t page = 0; page < 4; page++)
        wrong |= check(heap[page << 10] == n * 100 + page + (page < 2), 2);
    /* Memory that is not there yet, or is shared with nobody any more, is reached by the kernel first. */
    call(FILL, HEAP + 2 * PAGE);
    wrong |= check(heap[(2 << 10) + 3] == HEAP + 2 * PAGE + 3, 3);
    call(FILL, HEAP + 6 * PAGE + 4);
    wrong |= check(call(SUM, HEAP + 7 * PAGE) == 0, 4);
    wrong |= check(call(SUM, HEAP + 6 * PAGE + 4) == 16 * (HEAP + 6 * PAGE + 4) + 120, 5);
    wrong |= check(heap[8 << 10] == 0, 6);
    heap[8 << 10] = 0xC3;
    wrong |= check(probe(HEAP + 8 * PAGE, 2) == 0, 7);
    call(POISON, HEAP + 8 * PAGE);
    wrong |= check(heap[8 << 10] == 0xC3, 8);
    /* What is none of its business. */
    wrong |= check(probe(SECRET, 0) && probe(SECRET, 1) && probe(SECRET, 2), 9);
    wrong |= check(probe(0x70000000, 0) && probe(0x70000000, 1) && probe(0x70000000, 2), 10);
    for (uint32_t round = 0; round < YIELDS; round++) {
        heap[(10 << 10) + (round & 1023)] += round + n;
        call_by_int(YIELD, 0);
        heap[(11 << 10) + (round & 1023)] += heap[(10 << 10) + (round & 1023)];
        call_by_sysenter(YIELD, 0);
    }
    uint32_t sum = 0, expected = 0;
    for (uint32_t at = 0; at < 1024; at++)
        sum += heap[(10 << 10) + at];
    for (uint32_t round = 0; round < YIELDS; round++)
        expected += round + n;
    wrong |= check(sum == expected, 11);
    /* These two wait for each other without a system call: only the timer helps. */
    if (n < 2) {
        for (uint32_t pass = 0; pass < PASSES; pass++) {
            while (flags[0] != 2 * pass + n)
                ;
            flags[0]++;
        }
    }
    return wrong;
}

RING3 void init(void)
{
    uint32_t wrong = 0;
    for (uint32_t n = 0; n < WORKERS; n++)
        if (!call(FORK, 0))
            call(EXIT_, worker(n));
    for (uint32_t n = 0; n < WORKERS; n++)
        wrong |= call(WAIT, 0);
    call(EXIT_, wrong);
}

/* ---------------------------------------------------------------------------------------------------------------------------- */

static void start(uint32_t format)
{
    set_cr0(cr0() & ~PG);
    pae = format;
    free_frames = 0;
    for (uint32_t n = FIRST_FRAME; n < FRAMES; n++)
        free_list[free_frames++] = n << 12;
    uint32_t all = free_frames;
    forks = copies = switches = preemptions = calls_by_int = calls_by_sysenter = 0;
    for (int n = 0; n < 32; n++)
        faults[n] = 0;
    shared[0] = 0;
    fill_kernel_tables();
    current = processes;
    *current = (struct process){.status = READY, .parent = 0};
    current->root = new_root();
    current->state = user_state((uint32_t)init, STACK_TOP - 16);
    set_cr4((cr4() & ~(PAE | PGE)) | PGE | (pae ? PAE : 0));
    if (pae)
        wrmsr(EFER, NXE);
    set_cr3(current->root);
    set_cr0(cr0() | PG | WP);
    run();
    print("%s: result %8\n", pae ? "PAE" : "two levels", processes[0].result);
    print("forks %u, calls %u by INT, %u by SYSENTER\n", forks, calls_by_int, calls_by_sysenter);
    print("faults:");
    for (int n = 0; n < 32; n++)
        if (faults[n])
            print(" %2 %u", n, faults[n]);
    print("\nswitches: %s, preempted: %s, copies: %s, frames lost: %u\n", switches >= 50000 ? "enough" : "too few",
          preemptions >= PASSES ? "yes" : "no", copies ? "yes" : "no", all - free_frames);
    print("# %u switches, %u preemptions, %u copies\n", switches, preemptions, copies);
}

static void timer(void)
{
    static const uint8_t commands[][2] = {
        {PIC1, 0x11}, {PIC1 + 1, TIMER}, {PIC1 + 1, 4}, {PIC1 + 1, 1}, {PIC2, 0x11}, {PIC2 + 1, TIMER + 8},
        {PIC2 + 1, 2}, {PIC2 + 1, 1}, {PIC1 + 1, 0xFE}, {PIC2 + 1, 0xFF}, {PIT_CONTROL, 0x34},
        {PIT_CHANNEL0, 1193182 / TIMER_HERTZ & 0xFF}, {PIT_CHANNEL0, 1193182 / TIMER_HERTZ >> 8},
    };
    for (unsigned n = 0; n < sizeof commands / sizeof *commands; n++)
        out8(commands[n][0], commands[n][1]);
}

void kernel(void)
{
    __asm__ volatile("mov %0, %%ds\n mov %0, %%es\n mov %0, %%fs\n mov %0, %%gs" : : "r"(DATA3));
    on_trap = on_kernel_trap;
    wrmsr(SYSENTER_CS, CODE);
    wrmsr(SYSENTER_ESP, (uint32_t)trap_stack + STACK_SIZE);
    wrmsr(SYSENTER_EIP, (uint32_t)sysenter_entry);
    timer();
    start(0);
    start(1);
}
