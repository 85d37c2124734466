/* A program without an operating system for a virtual machine of KVM: how long the ways out of a guest take.
 *
 * vCPU 0 enters here as the ePAPR says, with the first 64 MiB mapped. PERCENTAGE is the share of the usual repetitions.
 * The lines are those of bench.h. It ends by the board's power-off line. */
#include <stdint.h>

#define DEVICES 0xE0000000u /* where the registers of the chip, at 0xF_E000_0000, are mapped */
#define SERIAL (DEVICES + 0x4500)
#define GPIO (DEVICES + 0xFF000)
#define TICKS_PER_US 400u

enum { SERIAL_DATA = 0, SERIAL_LSR = 5, SERIAL_SCRATCH = 7 };
enum { GPIO_DIRECTION = 0, GPIO_DATA = 2, POWER_OFF = 0x80000000u };
enum { KVM_HC_FEATURES = 42 << 16 | 3, EV_SUCCESS = 0 };

__asm__(
    "    .set devices, 0xE0000000\n"
    "    .section .text.start, \"ax\"\n"
    "    .globl _start\n"
    "_start:\n"
    "    lis 1, stack_end@ha\n    addi 1, 1, stack_end@l\n"
    "    lis 3, 0x100E\n    mtspr 624, 3\n"                    /* MAS0: TLB1 entry 14 */
    "    lis 3, 0xC000\n    ori 3, 3, 10 << 7\n    mtspr 625, 3\n" /* MAS1: valid, protected, 1 MiB */
    "    lis 3, devices@h\n    ori 3, 3, 0xA\n    mtspr 626, 3\n" /* MAS2: cache-inhibited, guarded */
    "    lis 3, 0xE000\n    ori 3, 3, 0x3F\n    mtspr 627, 3\n" /* MAS3, MAS7: 0xF_E000_0000, every permission */
    "    li 3, 0xF\n    mtspr 944, 3\n"
    "    isync\n    tlbwe\n    isync\n"
    "    bl main\n"
    "1:  b 1b\n"
    "    .text\n");

uint8_t stack[4096] __attribute__((aligned(16)));
__asm__(".globl stack_end\n.set stack_end, stack + 4080\n");

static volatile uint8_t *const serial = (volatile uint8_t *)SERIAL;

static uint32_t ticks(void)
{
    uint32_t low;
    __asm__ volatile("mfspr %0, 268" : "=r"(low));
    return low;
}

static void put(const char *text)
{
    for (; *text; text++)
        serial[SERIAL_DATA] = (uint8_t)*text;
}

static void put_number(uint32_t number, uint32_t base, int digits)
{
    char text[12], *at = text + sizeof text - 1;
    for (*at = 0; number || digits > 0; number /= base, digits--)
        *--at = "0123456789abcdef"[number % base];
    put(at);
}

static void measure(const char *name, uint32_t (*work)(uint32_t), uint32_t repetitions)
{
    uint32_t count = repetitions / 100 * PERCENTAGE;
    work(count / 10 + 1); /* until it is hot */
    uint32_t start = ticks(), done = work(count), us = (ticks() - start) / TICKS_PER_US + 1;
    put("BENCH ");
    put(name);
    put(" time_s=");
    put_number(us / 1000000, 10, 1);
    put(".");
    put_number(us % 1000000, 10, 6);
    put(" score=");
    put_number((uint32_t)((uint64_t)count * 1000000 / us), 10, 1);
    put(" trips/s check=");
    put_number(done == count, 16, 8);
    put("\n");
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

static uint32_t monitor_read(uint32_t count)
{
    uint32_t good = 0;
    serial[SERIAL_SCRATCH] = 0x5A;
    for (uint32_t i = 0; i < count; i++)
        good += serial[SERIAL_SCRATCH] == 0x5A;
    return good;
}

int main(void)
{
    measure("hypercall", hypercall, 500000);
    measure("monitor_read", monitor_read, 50000);
    ((volatile uint32_t *)GPIO)[GPIO_DIRECTION] = POWER_OFF;
    ((volatile uint32_t *)GPIO)[GPIO_DATA] = POWER_OFF;
    return 0;
}
