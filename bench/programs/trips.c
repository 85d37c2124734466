/* A program without an operating system for a virtual machine of KVM: how long the ways out of a guest take.
 *
 * It ends by the board's power-off line. */
#include "bare.h"

#define GPIO (DEVICES + 0xFF000)

enum { GPIO_DIRECTION = 0, GPIO_DATA = 2, POWER_OFF = 0x80000000u };
enum { KVM_HC_FEATURES = 42 << 16 | 3, EV_SUCCESS = 0 };

__asm__(
    BARE_START
    "    bl main\n"
    "1:  b 1b\n"
    "    .text\n");

static void measure(const char *name, uint32_t (*work)(uint32_t), uint32_t repetitions)
{
    uint32_t count = repetitions / 100 * PERCENTAGE;
    work(count / 10 + 1); /* until it is hot */
    uint32_t start = ticks(), done = work(count), us = (ticks() - start) / TICKS_PER_US + 1;
    report(name, count, us, "trips/s", done == count);
}

static uint32_t hypercall(uint32_t count)
{
    uint32_t good = 0;
    for (uint32_t i = 0; i < count; i++) {
        register uint32_t token __asm__("r11") = KVM_HC_FEATURES;
        register uint32_t status __asm__("r3");
        __asm__ volatile("sc 1" : "=r"(status), "+r"(token)
                         : : "r0", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r12", "memory");
        good += status == EV_SUCCESS;
    }
    return good;
}

int main(void)
{
    measure("hypercall", hypercall, 500000);
    measure("monitor_read", device_read, 50000);
    ((volatile uint32_t *)GPIO)[GPIO_DIRECTION] = POWER_OFF;
    ((volatile uint32_t *)GPIO)[GPIO_DATA] = POWER_OFF;
    return 0;
}
