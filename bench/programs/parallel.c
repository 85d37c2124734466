/* Two processes that share memory: the same work by one and by two of them, a contended lock, and turns taken.
 *
 * Processes and not threads, and futexes without the C library: its threads need system calls with 32-bit times, which
 * not every 32-bit kernel has. */
#include "bench.h"
#include <linux/futex.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef SYS_futex_time64
#define FUTEX SYS_futex_time64
#else
#define FUTEX SYS_futex
#endif

/* So many pieces that forking and waiting, which system.c measures, are a hundredth of the time. */
enum { PIECES = 640, CELLS = 4096, LOCKED = 200000, TURNS = 2000 };
static struct shared {
    atomic_int next_piece;
    atomic_uint digest, lock, turn;
    uint32_t counter;
} *shared;

static void futex_wait(atomic_uint *word, uint32_t value) { syscall(FUTEX, word, FUTEX_WAIT, value, NULL, NULL, 0); }
static void futex_wake(atomic_uint *word) { syscall(FUTEX, word, FUTEX_WAKE, 1, NULL, NULL, 0); }

static void work(uint32_t number)
{
    uint32_t cells[CELLS];
    (void)number;
    for (int piece; (piece = atomic_fetch_add(&shared->next_piece, 1)) < PIECES;) {
        uint32_t check = 0, random = (uint32_t)piece + 1;
        for (int i = 0; i < CELLS; i++)
            cells[i] = next_random(&random);
        for (int round = 0; round < 40; round++)
            for (int i = 0; i < CELLS; i++)
                cells[i] = cells[i] * 3 + (cells[(i + 1) % CELLS] >> 5 ^ cells[cells[i] % CELLS]);
        for (int i = 0; i < CELLS; i++)
            check = mix(check, cells[i]);
        atomic_fetch_add(&shared->digest, check);
    }
}

/* 0 free, 1 taken, 2 taken and waited for. */
static void take(atomic_uint *lock)
{
    uint32_t state = 0;
    if (atomic_compare_exchange_strong(lock, &state, 1))
        return;
    while (atomic_exchange(lock, 2))
        futex_wait(lock, 2);
}

static void give(atomic_uint *lock)
{
    if (atomic_exchange(lock, 0) == 2)
        futex_wake(lock);
}

static void increment(uint32_t number)
{
    (void)number;
    for (int i = 0; i < LOCKED; i++) {
        take(&shared->lock);
        shared->counter++;
        give(&shared->lock);
    }
}

static void take_turns(uint32_t number)
{
    for (int i = 0; i < TURNS; i++) {
        for (uint32_t turn; (turn = shared->turn) % 2 != number;)
            futex_wait(&shared->turn, turn);
        shared->turn++;
        futex_wake(&shared->turn);
    }
}

/* Run `function` in so many processes, this one among them. */
static void run(int processes, void (*function)(uint32_t))
{
    memset(shared, 0, sizeof *shared);
    pid_t child = processes == 2 ? fork() : 0;
    if (child < 0)
        perror("parallel: fork"), exit(1);
    function(child ? 0 : 1);
    if (processes == 2 && child == 0)
        _exit(0);
    if (child)
        waitpid(child, NULL, 0);
}

static WORK uint32_t one_cpu(void) { return run(1, work), shared->digest; }
static WORK uint32_t two_cpus(void) { return run(2, work), shared->digest; }
static WORK uint32_t contended(void) { return run(2, increment), shared->counter; }
static WORK uint32_t turns(void) { return run(2, take_turns), shared->turn; }

int main(int argc, char **argv)
{
    begin(argc, argv);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return perror("parallel: mmap"), 1;
    measure("one_cpu", one_cpu, 6, PIECES, "pieces/s");
    measure("two_cpus", two_cpus, 12, PIECES, "pieces/s");
    measure("lock", contended, 10, 2.0 * LOCKED, "locks/s");
    measure("turns", turns, 10, 2.0 * TURNS, "turns/s");
    return 0;
}
