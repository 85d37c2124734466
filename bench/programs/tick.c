/* A load of timer interrupts: on every CPU a process that sleeps for 100 microseconds, again and again.
 *
 * Every ten seconds each prints TICK <cpu> <sleeps a second>. */
#include "bench.h"
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static long sleep_100us(void)
{
    static const int64_t pause[2] = {0, 100000};
#ifdef SYS_clock_nanosleep_time64 /* the only one that 32-bit kernels may have, and not glibc's first choice */
    return syscall(SYS_clock_nanosleep_time64, CLOCK_MONOTONIC, 0, pause, NULL);
#else
    return syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, pause, NULL);
#endif
}

int main(void)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    int cpu = 0;
    while (cpu < cpus - 1 && fork() != 0)
        cpu++;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof set, &set);
    prctl(PR_SET_TIMERSLACK, 1);
    const struct sched_param before_others = {.sched_priority = 1};
    sched_setscheduler(0, SCHED_FIFO, &before_others);
    for (;;) {
        double start = seconds();
        long count = 0;
        while (seconds() - start < 10) {
            if (sleep_100us() != 0) {
                printf("tick: this kernel cannot sleep\n");
                return 1;
            }
            count++;
        }
        printf("TICK %d %.0f\n", cpu, count / (seconds() - start));
        fflush(stdout);
    }
}
