/* What every benchmark program shares: a piece of work with a known result, done again and again against the clock.
 *
 * The first argument is the percentage of the usual repetitions. Each measurement prints one line:
 *     BENCH <name> time_s=<seconds> score=<units a second> <unit> check=<hexadecimal>
 * The check is a digest of the work's result. It depends neither on the number of repetitions nor on byte order, word
 * size or page size, so every machine must print the same. */
#ifndef BENCH_H
#define BENCH_H
#define _GNU_SOURCE
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Never inlined, cloned or found to be pure: every repetition is executed. */
#define WORK __attribute__((noipa))

static long percentage = 100;

static void begin(int argc, char **argv)
{
    if (argc > 1 && (percentage = atol(argv[1])) < 1)
        percentage = 1;
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec * 1e-9;
}

static long scaled(long repetitions)
{
    long share = repetitions * percentage / 100;
    return share > 0 ? share : 1;
}

static void report(const char *name, double time, double units, const char *unit, uint32_t check)
{
    printf("BENCH %s time_s=%.6f score=%.4f %s check=%08x\n", name, time, units / time, unit, (unsigned)check);
    fflush(stdout);
}

/* Repeat `work`, which is worth so many units, and report; results that differ from the first one end the program. */
static inline void measure(const char *name, uint32_t (*work)(void), long repetitions, double units, const char *unit)
{
    long count = scaled(repetitions);
    double start = seconds();
    uint32_t check = work();
    for (long n = 1; n < count; n++) {
        uint32_t again = work();
        if (again != check) {
            printf("%s: repetition %ld gave %08x, the first one %08x\n", name, n, (unsigned)again, (unsigned)check);
            exit(1);
        }
    }
    report(name, seconds() - start, units * count, unit, check);
}

/* Fowler/Noll/Vo's hash, a 32-bit word at a time. */
static inline uint32_t mix(uint32_t hash, uint32_t word)
{
    return (hash ^ word) * 16777619u;
}

static inline uint32_t mix_double(uint32_t hash, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return mix(mix(hash, (uint32_t)(bits >> 32)), (uint32_t)bits);
}

static inline uint32_t mix_float(uint32_t hash, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return mix(hash, bits);
}

/* Pseudo-random numbers (xorshift). */
static inline uint32_t next_random(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}
#endif
