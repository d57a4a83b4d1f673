/* Paging: every combination of rights at both levels by both rings, with and without CR0.WP, in all formats; accessed
   and dirty bits; INVLPG and CR3; reserved bits; accesses across pages; tables that map themselves; aliases with code in
   them; text memory mapped elsewhere; a double fault behind a page fault. */
#include "kernel.h"

enum { P = 1, W = 2, U = 4, A = 0x20, D = 0x40, PS = 0x80, G = 0x100 };
enum { RSVD = 8, WP = 0x10000, PSE = 0x10, PAE = 0x20, PGE = 0x80 };
#define PG 0x80000000u
#define NX (1ull << 63)
#define EFER 0xC0000080u
#define NXE 0x800

enum { WINDOW = 0x40000000, LARGE = 0x40400000, TEXT = 0xB8000 };

static uint32_t directory[1024] PAGE_ALIGNED, identity[1024] PAGE_ALIGNED, window[1024] PAGE_ALIGNED;
static uint32_t other_directory[1024] PAGE_ALIGNED;
static uint64_t pointers[4] __attribute__((aligned(32)));
static uint64_t directories[4][512] PAGE_ALIGNED, pae_identity[2][512] PAGE_ALIGNED, pae_window[512] PAGE_ALIGNED;
static uint8_t frames[4][PAGE] PAGE_ALIGNED;
static uint8_t user_stack[PAGE] PAGE_ALIGNED;
static int pae;

/* Ring 3's side of an access: EBX is the address. */
extern uint8_t user_read[], user_write[], user_modify[], user_fetch[], user_push[], user_pop[], user_page[], user_end[];
__asm__(".section .user, \"awx\"\n"
        ".balign 4096\n"
        "user_page:\n"
        "user_read: mov (%ebx), %al\n int $0x80\n"
        "user_write: movb $0xC3, (%ebx)\n int $0x80\n"
        "user_modify: orb $0xC3, (%ebx)\n int $0x80\n"
        "user_fetch: call *%ebx\n int $0x80\n"
        "user_push: push %eax\n int $0x80\n"
        "user_pop: pop %eax\n int $0x80\n"
        "user_end:\n"
        ".text\n");

enum { READ, WRITE, FETCH, MODIFY };

static uint64_t get(int level, uint32_t linear)
{
    if (level == 2)
        return pae ? directories[linear >> 30][linear >> 21 & 511] : directory[linear >> 22];
    if (pae)
        return linear < WINDOW ? pae_identity[linear >> 21][linear >> 12 & 511] : pae_window[linear >> 12 & 511];
    return linear < WINDOW ? identity[linear >> 12] : window[linear >> 12 & 1023];
}

static void set(int level, uint32_t linear, uint64_t entry)
{
    if (level == 2 && pae)
        directories[linear >> 30][linear >> 21 & 511] = entry;
    else if (level == 2)
        directory[linear >> 22] = entry;
    else if (pae && linear < WINDOW)
        pae_identity[linear >> 21][linear >> 12 & 511] = entry;
    else if (pae)
        pae_window[linear >> 12 & 511] = entry;
    else if (linear < WINDOW)
        identity[linear >> 12] = entry;
    else
        window[linear >> 12 & 1023] = entry;
}

static uint32_t table_of(uint32_t linear)
{
    if (pae)
        return (uint32_t)(linear < WINDOW ? pae_identity[linear >> 21] : pae_window);
    return (uint32_t)(linear < WINDOW ? identity : window);
}

static uint32_t root(void)
{
    return (uint32_t)(pae ? (void *)pointers : (void *)directory);
}

/* Identity for the kernel and the devices below 4 MiB; one table for the window. */
static void fill_tables(void)
{
    for (int n = 0; n < 4; n++)
        pointers[n] = (uint32_t)directories[n] | P;
    for (uint32_t at = 0; at < 0x400000; at += PAGE) {
        int ring3 = at >= (uint32_t)user_page && at < (uint32_t)user_end;
        ring3 |= at == (uint32_t)user_stack;
        set(2, at, table_of(at) | P | W | U);
        set(1, at, at | P | W | (ring3 ? U : 0));
    }
    set(2, WINDOW, table_of(WINDOW) | P | W | U);
}

static void paging_on(uint32_t more)
{
    set_cr0(cr0() & ~PG);
    pae = more & PAE;
    fill_tables();
    set_cr4((cr4() & ~(PSE | PAE | PGE)) | more);
    set_cr3(root());
    set_cr0(cr0() | PG | WP);
}

static void write_protect(int on)
{
    set_cr0(on ? cr0() | WP : cr0() & ~WP);
}

/* Access one byte; caught tells what came of it. */
static void access(int how, int ring, uint32_t address)
{
    if (ring) {
        static uint8_t *const code[] = {user_read, user_write, user_fetch, user_modify};
        struct registers state = user_state((uint32_t)code[how], (uint32_t)user_stack + PAGE);
        state.ebx = address;
        run_user(&state);
        if (state.vector == SYSCALL)
            caught.vector = NONE;
        return;
    }
    if (how == READ)
        TRY("movb (%0), %%al", : : "b"(address) : "eax", "memory");
    else if (how == WRITE)
        TRY("movb $0xC3, (%0)", : : "b"(address) : "memory");
    else if (how == FETCH)
        TRY("mov %%esp, %%esi\n\tcall *%0\n1:\tmov %%esi, %%esp", : : "b"(address) : "eax", "esi", "memory");
    else
        TRY("orb $0xC3, (%0)", : : "b"(address) : "memory", "cc");
}

/* A fault's error code, or a dot and the accessed and dirty bits: 1 of the upper level, 2 and 4 of the page. */
static void outcome(uint32_t linear, int leaf)
{
    uint32_t upper = get(2, linear), lower = get(leaf, linear);
    if (caught.vector != NONE) {
        print(" %2", caught.error & RSVD ? caught.error | P : caught.error);  /* QEMU leaves P out */
        if (caught.vector != PF)
            print("!%2", caught.vector);
        if (caught.cr2 != linear)
            print("@%8", caught.cr2);
        if (leaf == 1 && lower & (A | D))
            print("?%2", lower & (A | D));
    } else {
        print(" .%1", (leaf == 1 && upper & A ? 1 : 0) | (lower & A ? 2 : 0) | (lower & D ? 4 : 0));
    }
}

/* Both rings, with CR0.WP and without: read, write, fetch. */
static void row(uint32_t linear, uint64_t upper, uint64_t lower, int leaf)
{
    for (int wp = 1; wp >= 0; wp--) {
        write_protect(wp);
        for (int ring = 0; ring <= 3; ring += 3) {
            print(wp && !ring ? "" : " |");
            for (int how = READ; how <= FETCH; how++) {
                set(2, linear, upper);
                if (leaf == 1)
                    set(1, linear, lower);
                invlpg(linear);
                access(how, ring, linear);
                outcome(linear, leaf);
            }
        }
    }
    write_protect(1);
    print("\n");
}

static const uint8_t rights[] = {0, P, P | W, P | U, P | W | U};
enum { RIGHTS = sizeof rights };

static void matrix(void)
{
    frames[0][0] = 0xC3;
    for (int upper = 0; upper < RIGHTS; upper++)
        for (int lower = 0; lower < RIGHTS; lower++) {
            print("PDE %1 PTE %1:", rights[upper], rights[lower]);
            row(WINDOW, table_of(WINDOW) | rights[upper], (uint32_t)frames[0] | rights[lower], 1);
        }
    set(2, WINDOW, table_of(WINDOW) | P | W | U);
}

/* 4 MiB or 2 MiB pages; they cover the image, so that frames[0] is found in one. */
static void large_matrix(void)
{
    for (int n = 0; n < RIGHTS; n++) {
        print("large %1:", rights[n]);
        row(LARGE + (uint32_t)frames[0] % (pae ? 0x200000 : 0x400000),
            ((uint32_t)frames[0] & (pae ? ~0x1FFFFF : ~0x3FFFFF)) | PS | rights[n], 0, 2);
    }
}

static void no_execute(void)
{
    uint64_t frame = (uint32_t)frames[0] | P | W | U;
    for (int nxe = 0; nxe < 2; nxe++) {
        wrmsr(EFER, nxe ? NXE : 0);
        for (int n = 0; n < 3; n++) {
            print("NXE %u PDE %s PTE %s:", nxe, n & 1 ? "NX" : "--", n & 2 ? "NX" : "--");
            row(WINDOW, table_of(WINDOW) | P | W | U | (n & 1 ? NX : 0), frame | (n & 2 ? NX : 0), 1);
        }
        print("NXE %u large NX:", nxe);
        row(LARGE + (uint32_t)frames[0] % 0x200000, ((uint32_t)frames[0] & ~0x1FFFFF) | PS | P | W | U | NX, 0, 2);
        print("NXE %u PTE RO, supervisor, NX:", nxe);
        row(WINDOW, table_of(WINDOW) | P | W | U, (uint32_t)frames[0] | P | NX, 1);
    }
    set(2, WINDOW, table_of(WINDOW) | P | W | U);
}

static void reserved(void)
{
    static const uint8_t bits[] = {36, 40, 51, 52, 62};
    uint64_t frame = (uint32_t)frames[0] | P | W | U;
    if (pae) {
        for (unsigned n = 0; n < sizeof bits; n++) {
            print("PTE bit %u:", bits[n]);
            row(WINDOW, table_of(WINDOW) | P | W | U, frame | 1ull << bits[n], 1);
            print("PDE bit %u:", bits[n]);
            row(WINDOW, table_of(WINDOW) | P | W | U | 1ull << bits[n], frame, 1);
        }
        set(2, WINDOW, table_of(WINDOW) | P | W | U);
    }
    uint32_t base = (uint32_t)frames[0] & (pae ? ~0x1FFFFF : ~0x3FFFFF);
    print("large, reserved bit:");
    row(LARGE, base | PS | P | W | U | (pae ? 1 << 13 : 1 << 21), 0, 2);
    print("large, reserved bit, read only supervisor:");
    row(LARGE, base | PS | P | (pae ? 1 << 20 : 1 << 21), 0, 2);
    print("large, reserved bit, not present:");
    row(LARGE, base | PS | (pae ? 1 << 20 : 1 << 21), 0, 2);
    set(2, LARGE, 0);
    invlpg(LARGE);
}

static uint32_t read32(uint32_t linear)
{
    return *(volatile uint32_t *)linear;
}

static void write32(uint32_t linear, uint32_t value)
{
    *(volatile uint32_t *)linear = value;
}

static void map(uint32_t linear, const void *frame, uint32_t bits)
{
    set(1, linear, (uint32_t)frame | bits);
    invlpg(linear);
}

static void bits(const char *when)
{
    print("%s: PDE %2 PTE %2\n", when, (uint32_t)get(2, WINDOW) & (A | D), (uint32_t)get(1, WINDOW) & (A | D));
}

static void accessed_and_dirty(void)
{
    set(2, WINDOW, table_of(WINDOW) | P | W | U);
    map(WINDOW, frames[0], P | W | U);
    bits("fresh");
    access(READ, 0, WINDOW);
    bits("read");
    access(READ, 3, WINDOW);
    bits("read in ring 3");
    access(WRITE, 3, WINDOW);
    bits("written");
    set(1, WINDOW, get(1, WINDOW) & ~D);
    invlpg(WINDOW);
    access(READ, 0, WINDOW);
    bits("clean, read");
    access(MODIFY, 0, WINDOW);
    bits("modified");
    set(1, WINDOW, get(1, WINDOW) & ~(A | D));
    set(2, WINDOW, get(2, WINDOW) & ~A);
    set_cr3(root());
    bits("clean, CR3 loaded");
    access(FETCH, 0, WINDOW);
    bits("fetched");
    set(1, WINDOW, get(1, WINDOW) & ~(A | D));
    set_cr3(root());
    access(MODIFY, 3, WINDOW);
    bits("modified in ring 3");
    map(WINDOW, frames[0], P | U);
    access(READ, 3, WINDOW);
    write_protect(0);
    access(WRITE, 0, WINDOW);
    bits("written without WP");
    access(WRITE, 3, WINDOW);
    print("ring 3 after that: %2\n", caught.error);
    write_protect(1);
    access(WRITE, 0, WINDOW);
    print("ring 0 with WP: %2\n", caught.error);
    map(WINDOW, frames[0], P | W | U | A | D);
}

static void invalidation(void)
{
    for (int n = 0; n < 4; n++) {
        map(WINDOW + n * PAGE, frames[n], P | W | U);
        write32((uint32_t)frames[n] + 8, 0x1000 + n);
    }
    print("frames: %4 %4\n", read32(WINDOW + 8), read32(WINDOW + PAGE + 8));
    map(WINDOW, frames[1], P | W | U);
    print("INVLPG: %4 %4\n", read32(WINDOW + 8), read32(WINDOW + PAGE + 8));
    set(1, WINDOW, (uint32_t)frames[2] | P | W | U);
    set(1, WINDOW + PAGE, (uint32_t)frames[3] | P | W | U);
    set_cr3(root());
    print("CR3: %4 %4\n", read32(WINDOW + 8), read32(WINDOW + PAGE + 8));
    map(WINDOW + PAGE, frames[1], 0);
    access(READ, 0, WINDOW + PAGE);
    print("not present: %2", caught.error);
    set(1, WINDOW + PAGE, (uint32_t)frames[1] | P);  /* needs no INVLPG */
    print(", present: %4\n", read32(WINDOW + PAGE + 8));
    map(WINDOW, frames[0], P | W | U | G);
    set_cr4(cr4() | PGE);
    print("global: %4", read32(WINDOW + 8));
    map(WINDOW, frames[1], P | W | U | G);
    print(", INVLPG: %4", read32(WINDOW + 8));
    set(1, WINDOW, (uint32_t)frames[2] | P | W | U | G);
    set_cr4(cr4() & ~PGE);
    print(", CR4.PGE: %4\n", read32(WINDOW + 8));
    uint64_t upper = get(2, WINDOW);
    set(2, WINDOW, 0);
    set_cr3(root());
    access(READ, 0, WINDOW);
    print("no table: %2", caught.error);
    set(2, WINDOW, upper);
    print(", table: %4\n", read32(WINDOW + 8));
    set(2, WINDOW, upper & ~W);
    invlpg(WINDOW);
    access(WRITE, 0, WINDOW + PAGE * 3);
    print("read-only table: %2\n", caught.error);
    set(2, WINDOW, upper);
    invlpg(WINDOW);
}

/* Two address spaces that share a table, with other rights above it. */
static void spaces(void)
{
    for (int n = 0; n < 1024; n++)
        other_directory[n] = directory[n];
    other_directory[WINDOW >> 22] = (uint32_t)window | P;
    map(WINDOW, frames[0], P | W | U);
    for (int round = 0; round < 3; round++) {
        access(WRITE, 3, WINDOW);
        print("first %2", caught.vector == NONE ? 0 : caught.error);
        set_cr3((uint32_t)other_directory);
        access(WRITE, 0, WINDOW);
        print(", second ring 0 %2", caught.vector == NONE ? 0 : caught.error);
        access(READ, 3, WINDOW);
        print(", ring 3 %2\n", caught.vector == NONE ? 0 : caught.error);
        set_cr3(root());
    }
    /* A 4 MiB page in both; each has dirty and accessed bits of its own. */
    set_cr4(cr4() | PSE);
    uint32_t large = ((uint32_t)frames[0] & ~0x3FFFFF) | PS | P | W;
    uint32_t at = LARGE + (uint32_t)frames[0] % 0x400000;
    directory[LARGE >> 22] = other_directory[LARGE >> 22] = large;
    access(READ, 0, at);
    access(WRITE, 0, at);
    set_cr3((uint32_t)other_directory);
    print("large: %2 %2", directory[LARGE >> 22] & 0xFF, other_directory[LARGE >> 22] & 0xFF);
    access(READ, 0, at);
    print(" read: %2", other_directory[LARGE >> 22] & 0xFF);
    access(WRITE, 0, at);
    print(" written: %2\n", other_directory[LARGE >> 22] & 0xFF);
    directory[LARGE >> 22] = 0;
    set_cr4(cr4() & ~PSE);
    set_cr3(root());
}

/* Accesses across a page border, for all states of the two pages. */
static void crossing(void)
{
    static const uint8_t states[] = {0, P, P | W};
    static const char *const names[] = {"read 2", "read 4", "write 2", "write 4", "read 8", "write 8", "push", "pop", "modify 4"};
    for (int first = 0; first < 3; first++)
        for (int second = 0; second < 3; second++)
            for (int n = 0; n < 9; n++) {
                if (n == 8 && (!first || !second))
                    continue;  /* a CPU says that it wants to write, QEMU that it reads */
                for (int at = 0; at < PAGE; at++)
                    frames[0][at] = frames[1][at] = at;
                map(WINDOW, frames[0], states[first] | U);
                map(WINDOW + PAGE, frames[1], states[second] | U);
                uint32_t from = WINDOW + PAGE, value = 0x55AA55AA, moved = 0;
                if (n == 0)
                    TRY("movw -1(%1), %w0", : "+a"(value) : "b"(from) : "memory");
                else if (n == 1)
                    TRY("movl -3(%1), %0", : "+a"(value) : "b"(from) : "memory");
                else if (n == 2)
                    TRY("movw %w0, -1(%1)", : : "a"(value), "b"(from) : "memory");
                else if (n == 3)
                    TRY("movl %0, -1(%1)", : : "a"(value), "b"(from) : "memory");
                else if (n == 4)
                    TRY("fildll -5(%0)\n\tfstp %%st(0)", : : "b"(from) : "memory");
                else if (n == 5)
                    TRY("fld1\n\tfistpll -5(%0)", : : "b"(from) : "memory");
                else if (n == 6 || n == 7) {
                    struct registers state = user_state((uint32_t)(n == 6 ? user_push : user_pop), from + (n == 6 ? 2 : -2));
                    state.eax = value;
                    run_user(&state);
                    if (state.vector == SYSCALL)
                        caught.vector = NONE;
                    value = state.eax, moved = state.esp - from;
                } else
                    TRY("addl %0, -2(%1)", : : "a"(value), "b"(from) : "memory", "cc");
                if (n == 5)
                    __asm__ volatile("fninit");
                uint32_t sum = 0;
                for (int at = 0; at < PAGE; at++)
                    sum += (frames[0][at] ^ frames[1][at]) * (at + 1);
                print("%1 %1 %s: ", states[first], states[second], names[n]);
                if (caught.vector == NONE)
                    print("ok");
                else
                    print("%2 at %8", caught.error, caught.cr2);
                print(" %8 sum %8 ESP %2\n", value, sum, moved);
            }
}

/* The directory is its own last table. */
static void recursive(void)
{
    uint32_t tables = 0xFFC00000, top = 0xFFFFF000;
    directory[1023] = (uint32_t)directory | P | W;
    print("recursive: %3 %3", read32(top + 4 * 1023) & 0xFFF, directory[1023] & 0xFFF);
    print(" %s", (read32(tables + (WINDOW >> 10)) ^ window[0]) & ~(A | D) ? "differs" : "same");
    write32((uint32_t)frames[3] + 8, 0xCAFE);
    write32(tables + (WINDOW >> 10), (uint32_t)frames[3] | P | W | U);
    invlpg(WINDOW);
    print(" %4", read32(WINDOW + 8));
    print(" %3 %3\n", directory[1023] & 0xFFF, window[0] & 0xFFF);
    /* A new table made through the recursion. */
    write32(top + 4 * 0x140, (uint32_t)identity | P | W);
    print("new table: %s\n", read32(0x50000000 + (uint32_t)header) == 0x1BADB002 ? "seen" : "not seen");
    write32(top + 4 * 0x140, 0);
    invlpg(0x50000000 + (uint32_t)header);
    access(READ, 0, 0x50000000 + (uint32_t)header);
    print("gone: %2\n", caught.error);
    /* Unmapping the table that maps a page unmaps the page. */
    write32(top + 4 * (WINDOW >> 22), 0);
    invlpg(WINDOW);
    access(READ, 0, WINDOW);
    print("without its table: %2\n", caught.error);
    write32(top + 4 * (WINDOW >> 22), (uint32_t)window | P | W | U);
    directory[1023] = 0;
    set_cr3(root());
    access(READ, 0, top);
    print("recursion gone: %2\n", caught.error);
    /* A page table that maps itself. */
    map(WINDOW + 5 * PAGE, window, P | W);
    uint32_t own = WINDOW + 5 * PAGE;
    write32(own + 4 * 6, (uint32_t)frames[3] | P | W);
    print("table in its own page: %4", read32(WINDOW + 6 * PAGE + 8));
    write32(own + 4 * 6, (uint32_t)frames[2] | P);
    invlpg(WINDOW + 6 * PAGE);
    print(" %4 %3\n", read32(WINDOW + 6 * PAGE + 8), window[5] & 0xFFF);
}

/* Two linear addresses for one frame with code in it. */
static void aliases(void)
{
    uint32_t sum = 0, value;
    uint8_t *code = frames[2];
    code[0] = 0xB8;  /* mov eax, imm32; ret */
    code[5] = 0xC3;
    map(WINDOW, code, P | W);
    map(WINDOW + PAGE, code, P | W);
    for (uint32_t n = 0; n < 100; n++) {
        write32(WINDOW + 1, n);
        __asm__ volatile("call *%1" : "=a"(value) : "b"(WINDOW + PAGE) : "memory");
        sum += value;
        write32(WINDOW + PAGE + 1, n * 3);
        __asm__ volatile("call *%1" : "=a"(value) : "b"(WINDOW) : "memory");
        sum += value;
        write32((uint32_t)code + 1, n * 5);
        __asm__ volatile("call *%1" : "=a"(value) : "b"(WINDOW + PAGE) : "memory");
        sum += value;
    }
    print("aliases: %u\n", sum);
    /* Other code at the same address. */
    for (uint32_t n = 0, at = 0; n < 3; n++) {
        frames[n][0] = 0xB8, frames[n][5] = 0xC3;
        at = (uint32_t)frames[n] + 1;
        write32(at, 0x100 + n);
    }
    for (uint32_t n = 0; n < 9; n++) {
        map(WINDOW, frames[n % 3], P | (n & 1 ? W : 0));
        __asm__ volatile("call *%1" : "=a"(value) : "b"(WINDOW) : "memory");
        print(" %3", value);
        if (n == 4)
            write32((uint32_t)frames[0] + 1, 0x200);
    }
    print("\n");
    /* Written where it runs, remapped, run again. */
    for (uint32_t n = 0; n < 4; n++) {
        map(WINDOW, frames[n & 1], P | W);
        write32(WINDOW + 1, 0x300 + n);
        __asm__ volatile("call *%1" : "=a"(value) : "b"(WINDOW) : "memory");
        print(" %3", value);
        write32(WINDOW + 1, 0x310 + n);
        map(WINDOW, frames[~n & 1], P | W);
        __asm__ volatile("call *%1" : "=a"(value) : "b"(WINDOW) : "memory");
        print(" %3", value);
    }
    map(WINDOW, frames[0], 0);
    access(FETCH, 0, WINDOW);
    print(" fetch %2 %8\n", caught.error, caught.cr2);
    frames[0][0] = 0xC3;
}

static void text_memory(void)
{
    write32(TEXT, 0x07420741);
    map(WINDOW, (void *)TEXT, P | W | U);
    print("text memory: %8", read32(WINDOW));
    write32(WINDOW + 4, 0x07440743);
    print(" %8", read32(TEXT + 4));
    map(WINDOW, (void *)TEXT, P);
    access(WRITE, 0, WINDOW);
    print(" %2\n", caught.error);
}

/* A page fault whose handler's stack is not there: a double fault, by a task gate. */
static struct tss df_tss;
static uint8_t df_stack[STACK_SIZE] __attribute__((aligned(16)));

static void on_double_fault(void)
{
    uint32_t *error = (uint32_t *)(df_stack + STACK_SIZE) - 1;
    print("double fault: error %4 cr2 %8 from %8 cr3 %s\n", *error, cr2(), tss.ebx, cr3() == root() ? "its own" : "?");
    quit(0);
}

static void double_fault(void)
{
    df_tss = (struct tss){.cr3 = root(), .eip = (uint32_t)on_double_fault, .eflags = 2,
                          .esp = (uint32_t)df_stack + STACK_SIZE, .es = DATA, .cs = CODE, .ss = DATA, .ds = DATA,
                          .fs = DATA, .gs = DATA, .iomap = sizeof df_tss};
    set_descriptor(TSS_DF, (uint32_t)&df_tss, sizeof df_tss - 1, 0x89);
    set_task_gate(DF, TSS_DF);
    map(WINDOW, frames[0], 0);
    __asm__ volatile("mov %0, %%esp\n mov (%1), %%eax" : : "r"(WINDOW + 64), "b"(0xDEAD0000));
}

void kernel(void)
{
    print("two levels\n");
    paging_on(0);
    matrix();
    accessed_and_dirty();
    invalidation();
    spaces();
    crossing();
    recursive();
    aliases();
    text_memory();
    print("PSE\n");
    paging_on(PSE);
    large_matrix();
    reserved();
    print("PAE\n");
    paging_on(PAE);
    matrix();
    large_matrix();
    no_execute();
    wrmsr(EFER, 0);
    reserved();
    wrmsr(EFER, NXE);
    reserved();
    accessed_and_dirty();
    invalidation();
    crossing();
    aliases();
    text_memory();
    paging_on(0);
    double_fault();
}
