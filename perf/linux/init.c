/* The first process of the macrobenchmarks.  Its arguments are steps, NAME:COUNT or NAME:COUNT:SIZE; it prints "@NAME"
 * before each, "@end" after the last, and switches the machine off. */

enum { SYS_exit = 1, SYS_fork = 2, SYS_read = 3, SYS_write = 4, SYS_open = 5, SYS_close = 6, SYS_waitpid = 7,
       SYS_execve = 11, SYS_getppid = 64, SYS_pipe = 42, SYS_reboot = 88 };
enum { O_WRONLY = 1, MOST = 256 };

static long call(long number, long a, long b, long c)
{
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory");
    return result;
}

static int length(const char *text)
{
    int size = 0;
    while (text[size])
        size++;
    return size;
}

static void print(const char *text)
{
    call(SYS_write, 1, (long)text, length(text));
}

static _Noreturn void fail(const char *what)
{
    print("cannot ");
    print(what);
    print("\n");
    for (;;)
        call(SYS_exit, 1, 0, 0);
}

static void wait_for(long process)
{
    int status = 1;
    if (process < 0 || call(SYS_waitpid, process, (long)&status, 0) != process || status)
        fail("run a process");
}

/* The number at *at, which is moved to what follows it. */
static int number(const char **at)
{
    int value = 0;
    while (**at >= '0' && **at <= '9')
        value = value * 10 + *(*at)++ - '0';
    return value;
}

static void run(const char *const *arguments)
{
    static const char *const environment[] = {"PATH=/bin", 0};
    long process = call(SYS_fork, 0, 0, 0);
    if (process == 0) {
        call(SYS_execve, (long)"/bin/busybox", (long)arguments, (long)environment);
        call(SYS_exit, 127, 0, 0);
    }
    wait_for(process);
}

static void forkwait(int count, int size, const char *text)
{
    while (count--) {
        long process = call(SYS_fork, 0, 0, 0);
        if (process == 0)
            call(SYS_exit, 0, 0, 0);
        wait_for(process);
    }
}

static void exec(int count, int size, const char *text)
{
    static const char *const arguments[] = {"true", 0};
    while (count--)
        run(arguments);
}

static void syscall(int count, int size, const char *text)
{
    while (count--)
        call(SYS_getppid, 0, 0, 0);
}

static void script(const char *path, const char *text)
{
    const char *const arguments[] = {"sh", path, text, 0};
    run(arguments);
}

static void shell(int count, int size, const char *text)
{
    script("/loop.sh", text);
}

static void work(int count, int size, const char *text)
{
    script("/work.sh", text);
}

/* COUNT lines of text on the VGA's text screen, which scrolls. */
static void screen(int count, int size, const char *text)
{
    static const char line[] = "The quick brown fox jumps over the lazy dog, again and again and once again.\r\n";
    long terminal = call(SYS_open, (long)"/dev/tty1", O_WRONLY, 0);
    if (terminal < 0)
        fail("open /dev/tty1");
    while (count--)
        if (call(SYS_write, terminal, (long)line, sizeof line - 1) != sizeof line - 1)
            fail("write to /dev/tty1");
    call(SYS_close, terminal, 0, 0);
}

/* SIZE processes in a ring of pipes pass a byte on, COUNT times in all. */
static void ring(int count, int size, const char *text)
{
    static int pipes[MOST][2];
    static long processes[MOST];
    char byte = 0;
    if (size < 1 || size > MOST)
        fail("make a ring of so many processes");
    for (int n = 0; n < size; n++)
        if (call(SYS_pipe, (long)pipes[n], 0, 0))
            fail("make a pipe");
    for (int n = 0; n < size; n++) {
        int turns = count / size;
        if ((processes[n] = call(SYS_fork, 0, 0, 0)))
            continue;
        while (turns--) {
            call(SYS_read, pipes[n][0], (long)&byte, 1);
            call(SYS_write, pipes[(n + 1) % size][1], (long)&byte, 1);
        }
        call(SYS_exit, 0, 0, 0);
    }
    call(SYS_write, pipes[0][1], (long)&byte, 1);
    for (int n = 0; n < size; n++) {
        wait_for(processes[n]);
    }
    for (int n = 0; n < size; n++) {
        call(SYS_close, pipes[n][0], 0, 0);
        call(SYS_close, pipes[n][1], 0, 0);
    }
}

static const struct {
    const char *name;
    void (*run)(int count, int size, const char *text);
} steps[] = {{"forkwait", forkwait}, {"exec", exec}, {"syscall", syscall}, {"shell", shell},
             {"work", work},         {"screen", screen}, {"ring", ring}};

/* Whether TEXT is NAME up to a colon; it is moved behind that. */
static int is(const char **text, const char *name)
{
    int size = length(name);
    for (int n = 0; n < size; n++)
        if ((*text)[n] != name[n])
            return 0;
    if ((*text)[size] != ':')
        return 0;
    *text += size + 1;
    return 1;
}

static void step(const char *text)
{
    print("@");
    print(text);
    print("\n");
    for (unsigned n = 0; n < sizeof steps / sizeof *steps; n++) {
        const char *rest = text;
        if (is(&rest, steps[n].name)) {
            const char *at = rest;
            int count = number(&at), size = *at == ':' ? (at++, number(&at)) : 0;
            steps[n].run(count, size, rest);
            return;
        }
    }
    fail(text);
}

__attribute__((used)) void begin(long *stack)
{
    char **arguments = (char **)(stack + 2); /* argc, argv[0] */
    print("\n"); /* a boot loader may have left something on this line */
    for (; *arguments; arguments++)
        step(*arguments);
    print("@end\n");
    call(SYS_reboot, 0xfee1dead, 672274793, 0x4321fedc);
    for (;;)
        ;
}

__asm__(".globl _start\n_start: movl %esp, %eax\n andl $-16, %esp\n subl $12, %esp\n pushl %eax\n call begin\n");
