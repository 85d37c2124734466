/* A program without an operating system: accesses to devices, and interrupts, there and back. */
#include "bare.h"

#define MPIC (DEVICES + 0x40000)

enum { IPI_DISPATCH = 0x40, TASK_PRIORITY = 0x80, GLOBAL_CONFIG = 0x1020, IPI_VECTOR = 0x10A0 };

__asm__(
    BARE_START
    "    lis 3, _start@h\n    mtspr 63, 3\n"                   /* IVPR; the vectors are in these 64 KiB */
    "    li 3, on_external@l\n    mtspr 404, 3\n"              /* IVOR4 */
    "    li 3, on_call@l\n    mtspr 408, 3\n"                  /* IVOR8 */
    "    li 3, on_decrementer@l\n    mtspr 410, 3\n"           /* IVOR10 */
    "    li 3, on_tlb_error@l\n    mtspr 413, 3\n"             /* IVOR13 */
    "    bl main\n"
    "1:  b 1b\n"
    "    .macro enter\n    mtspr 272, 3\n    mtspr 273, 4\n    .endm\n"
    "    .macro leave\n"
    "    lis 3, interrupts@ha\n    lwz 4, interrupts@l(3)\n    addi 4, 4, 1\n    stw 4, interrupts@l(3)\n"
    "    mfspr 3, 272\n    mfspr 4, 273\n    rfi\n"
    "    .endm\n"
    "    .balign 16\n"
    "on_external:\n"
    "    enter\n    lis 3, (devices + 0x40000)@h\n    lwz 4, 0xA0(3)\n    li 4, 0\n    stw 4, 0xB0(3)\n    leave\n"
    "    .balign 16\n"
    "on_decrementer:\n"
    "    enter\n    lis 3, 0x0800\n    mtspr 336, 3\n    leave\n" /* TSR[DIS] */
    "    .balign 16\n"
    "on_tlb_error:\n"
    "    enter\n    mfspr 3, 26\n    addi 3, 3, 4\n    mtspr 26, 3\n    leave\n" /* SRR0: behind the load */
    "    .balign 16\n"
    "on_call:\n"
    "    enter\n    leave\n"
    "    .text\n");

volatile uint32_t interrupts;

static uint32_t mpic_read(uint32_t offset) { return *(volatile uint32_t *)(MPIC + offset); }

static void mpic_write(uint32_t offset, uint32_t value)
{
    *(volatile uint32_t *)(MPIC + offset) = value;
    __asm__ volatile("mbar" ::: "memory");
}

static void measure(const char *name, uint32_t (*work)(uint32_t), uint32_t repetitions, const char *unit)
{
    uint32_t count = repetitions / 100 * PERCENTAGE, start = ticks();
    uint32_t done = work(count ? count : 1), us = (ticks() - start) / TICKS_PER_US;
    us += us == 0;
    report(name, count, us, unit, done == (count ? count : 1));
}

static uint32_t device_write(uint32_t count)
{
    for (uint32_t i = 1; i <= count; i++)
        serial[SERIAL_SCRATCH] = (uint8_t)i;
    return serial[SERIAL_SCRATCH] == (uint8_t)count ? count : 0;
}

static uint32_t controller_read(uint32_t count)
{
    uint32_t good = 0;
    mpic_write(TASK_PRIORITY, 3);
    for (uint32_t i = 0; i < count; i++)
        good += mpic_read(TASK_PRIORITY) == 3;
    mpic_write(TASK_PRIORITY, 0);
    return good;
}

static void await(uint32_t number)
{
    while (interrupts != number) {
    }
}

static uint32_t own_ipi(uint32_t count)
{
    interrupts = 0;
    for (uint32_t i = 1; i <= count; i++) {
        mpic_write(IPI_DISPATCH, 1);
        await(i);
    }
    return interrupts;
}

static uint32_t decrementer(uint32_t count)
{
    interrupts = 0;
    for (uint32_t i = 1; i <= count; i++) {
        __asm__ volatile("mtspr 22, %0" : : "r"(1));
        await(i);
    }
    return interrupts;
}

static uint32_t system_call(uint32_t count)
{
    interrupts = 0;
    for (uint32_t i = 0; i < count; i++)
        __asm__ volatile("sc" ::: "memory");
    return interrupts;
}

static uint32_t tlb_error(uint32_t count)
{
    interrupts = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t value;
        __asm__ volatile("lwz %0, 0(%1)" : "=r"(value) : "b"(0xC0000000u + (i << 12 & 0xFFFF000)) : "memory");
    }
    return interrupts;
}

int main(void)
{
    put("BOOT-OK\n");
    mpic_write(GLOBAL_CONFIG, 0x20000000); /* mixed mode: interrupts are delivered by the MPIC */
    mpic_write(IPI_VECTOR, 8 << 16 | 0x42);
    mpic_write(TASK_PRIORITY, 0);
    __asm__ volatile("mtspr 340, %0" : : "r"(0x04000000)); /* TCR[DIE] */
    __asm__ volatile("wrteei 1" ::: "memory");
    measure("device_read", device_read, 200000, "reads/s");
    measure("device_write", device_write, 200000, "writes/s");
    measure("controller_read", controller_read, 1000000, "reads/s");
    measure("ipi", own_ipi, 200000, "trips/s");
    measure("decrementer", decrementer, 20000, "trips/s");
    measure("call", system_call, 2000000, "trips/s");
    measure("tlb_error", tlb_error, 1000000, "trips/s");
    put("BENCH-DONE\n");
    return 0;
}
