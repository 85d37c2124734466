/* What an operating system does for processes: calls, switches through pipes, page faults, signals, fork, exec. */
#include "bench.h"
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CALLS = 50000, SWITCHES = 2000, PAGES = 2048, PAGE = 4096, SIGNALS = 5000, CHILDREN = 50, EXECS = 20 };
static volatile sig_atomic_t received;
static int to_child[2], from_child[2];

static WORK uint32_t calls(void)
{
    uint32_t same = 0;
    pid_t parent = getppid();
    for (int i = 0; i < CALLS; i++)
        same += syscall(SYS_getppid) == parent;
    return same;
}

static WORK uint32_t switches(void)
{
    uint32_t sum = 0;
    for (int i = 0; i < SWITCHES; i++) {
        unsigned char byte = (unsigned char)i;
        if (write(to_child[1], &byte, 1) != 1 || read(from_child[0], &byte, 1) != 1)
            return 0;
        sum += byte;
    }
    return sum;
}

static void echo(void)
{
    unsigned char byte;
    while (read(to_child[0], &byte, 1) == 1) {
        byte ^= 0x55;
        if (write(from_child[1], &byte, 1) != 1)
            break;
    }
    _exit(0);
}

static WORK uint32_t faults(void)
{
    uint32_t zeros = 0;
    char *room = mmap(NULL, (size_t)PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED)
        return 0;
    madvise(room, (size_t)PAGES * PAGE, MADV_NOHUGEPAGE);
    for (int i = 0; i < PAGES; i++)
        zeros += room[i * PAGE]++ == 0;
    munmap(room, (size_t)PAGES * PAGE);
    return zeros;
}

static void on_signal(int number)
{
    (void)number;
    received++;
}

static WORK uint32_t signals(void)
{
    received = 0;
    for (int i = 0; i < SIGNALS; i++)
        raise(SIGUSR1);
    return (uint32_t)received;
}

static uint32_t children(int count, char *const *command)
{
    uint32_t good = 0;
    for (int i = 0; i < count; i++) {
        int status;
        pid_t child = fork();
        if (child == 0) {
            if (command)
                execv("/proc/self/exe", command);
            _exit(command ? 127 : 3);
        }
        if (child < 0 || waitpid(child, &status, 0) != child)
            return 0;
        good += WIFEXITED(status) && WEXITSTATUS(status) == 3;
    }
    return good;
}

static WORK uint32_t forks(void) { return children(CHILDREN, NULL); }

static WORK uint32_t execs(void)
{
    char *command[] = {"system", "exit", NULL};
    return children(EXECS, command);
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = on_signal};
    if (argc > 1 && !strcmp(argv[1], "exit"))
        return 3;
    begin(argc, argv);
    measure("syscall", calls, 30, CALLS, "calls/s");
    if (pipe(to_child) || pipe(from_child))
        return perror("system: pipe"), 1;
    pid_t child = fork();
    if (child == 0) {
        close(to_child[1]);
        echo();
    }
    measure("switch", switches, 8, SWITCHES, "trips/s");
    close(to_child[1]);
    waitpid(child, NULL, 0);
    measure("fault", faults, 20, PAGES, "faults/s");
    sigaction(SIGUSR1, &action, NULL);
    measure("raise", signals, 20, SIGNALS, "signals/s");
    measure("process", forks, 20, CHILDREN, "forks/s");
    measure("program", execs, 20, EXECS, "execs/s");
    return 0;
}
