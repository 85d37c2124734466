/* Threads: the same work by one and by two, a contended lock, and turns taken by two threads. */
#include "bench.h"
#include <pthread.h>
#include <stdatomic.h>

enum { PIECES = 64, CELLS = 4096, LOCKED = 20000, TURNS = 2000 };
static atomic_int next_piece;
static atomic_uint digest;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static uint32_t counter, turn;

static void *work(void *unused)
{
    uint32_t cells[CELLS];
    for (int piece; (piece = atomic_fetch_add(&next_piece, 1)) < PIECES;) {
        uint32_t check = 0, random = (uint32_t)piece + 1;
        for (int i = 0; i < CELLS; i++)
            cells[i] = next_random(&random);
        for (int round = 0; round < 40; round++)
            for (int i = 0; i < CELLS; i++)
                cells[i] = cells[i] * 3 + (cells[(i + 1) % CELLS] >> 5 ^ cells[cells[i] % CELLS]);
        for (int i = 0; i < CELLS; i++)
            check = mix(check, cells[i]);
        atomic_fetch_add(&digest, check);
    }
    return unused;
}

static void *increment(void *unused)
{
    for (int i = 0; i < LOCKED; i++) {
        pthread_mutex_lock(&lock);
        counter += 1;
        pthread_mutex_unlock(&lock);
    }
    return unused;
}

static void *take_turns(void *mine)
{
    uint32_t parity = *(const uint32_t *)mine;
    for (int i = 0; i < TURNS; i++) {
        pthread_mutex_lock(&lock);
        while (turn % 2 != parity)
            pthread_cond_wait(&changed, &lock);
        turn++;
        pthread_cond_broadcast(&changed);
        pthread_mutex_unlock(&lock);
    }
    return mine;
}

static void run(int threads, void *(*function)(void *))
{
    static uint32_t numbers[2] = {0, 1};
    pthread_t started[2];
    for (int i = 0; i < threads; i++)
        if (pthread_create(&started[i], NULL, function, &numbers[i])) {
            puts("parallel: no thread");
            exit(1);
        }
    for (int i = 0; i < threads; i++)
        pthread_join(started[i], NULL);
}

static uint32_t pieces(int threads)
{
    next_piece = 0;
    digest = 0;
    run(threads, work);
    return digest;
}

static WORK uint32_t one_thread(void) { return pieces(1); }
static WORK uint32_t two_threads(void) { return pieces(2); }
static WORK uint32_t contended(void) { return counter = 0, run(2, increment), counter; }
static WORK uint32_t turns(void) { return turn = 0, run(2, take_turns), turn; }

int main(int argc, char **argv)
{
    begin(argc, argv);
    measure("one_thread", one_thread, 16, PIECES, "pieces/s");
    measure("two_threads", two_threads, 32, PIECES, "pieces/s");
    measure("lock", contended, 100, 2.0 * LOCKED, "locks/s");
    measure("turns", turns, 10, 2.0 * TURNS, "turns/s");
    return 0;
}
