/* The first process of a Linux that tests use: memory after fork, time, power-off. */

#define SYS_exit 1
#define SYS_fork 2
#define SYS_write 4
#define SYS_waitpid 7
#define SYS_reboot 88
#define SYS_nanosleep 162
#define SYS_clock_gettime 265

#define CLOCK_MONOTONIC 1
#define PAGES 64
#define PAGE 4096

static long call(long number, long a, long b, long c, long d) {
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c), "S"(d) : "memory");
    return result;
}

static void print(const char *text) {
    int size = 0;
    while (text[size])
        size++;
    call(SYS_write, 1, (long)text, size, 0);
}

static void number(const char *what, unsigned value) {
    char digits[12], *at = digits + 11;
    *at = 0;
    do
        *--at = '0' + value % 10;
    while (value /= 10);
    print(what);
    print(at);
    print("\n");
}

static unsigned pages[PAGES][PAGE / 4];

/* Parent and children write to what they share; each sees its own. */
static unsigned damage(unsigned who) {
    unsigned found = 0;
    for (int round = 0; round < 3; round++) {
        for (unsigned n = 0; n < PAGES; n++)
            if (pages[n][n] != (round ? who + n : 1000u + n))
                found++;
        for (unsigned n = 0; n < PAGES; n++)
            pages[n][n] = who + n;
    }
    return found;
}

static void forks(void) {
    unsigned wrong = 0;
    for (unsigned child = 1; child <= 20; child++) {
        for (unsigned n = 0; n < PAGES; n++)
            pages[n][n] = 1000u + n;
        long id = call(SYS_fork, 0, 0, 0, 0);
        if (id == 0)
            call(SYS_exit, damage(2000 * child) != 0, 0, 0, 0);
        unsigned status = 1;
        call(SYS_waitpid, id, (long)&status, 0, 0);
        wrong += status != 0;
        wrong += damage(7) != 0;
    }
    number("children that saw wrong memory: ", wrong);
}

static void sleeps(void) {
    unsigned start[2], end[2], second[2] = {1, 0};
    call(SYS_clock_gettime, CLOCK_MONOTONIC, (long)start, 0, 0);
    call(SYS_nanosleep, (long)second, 0, 0, 0);
    call(SYS_clock_gettime, CLOCK_MONOTONIC, (long)end, 0, 0);
    long slept = (long)(end[0] - start[0]) * 1000 + ((long)end[1] - (long)start[1]) / 1000000;
    number("a second has milliseconds: ", slept / 50 * 50);
}

void _start(void) {
    print("first process\n");
    forks();
    sleeps();
    call(SYS_reboot, 0xfee1dead, 672274793, 0x4321fedc, 0);
    print("still here\n");
    call(SYS_exit, 1, 0, 0, 0);
}
