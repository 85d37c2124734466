/* What programs without an operating system begin with: a stack, the chip's registers, the serial line, the clock.
 *
 * A CPU of the ppce500 board enters as the ePAPR says, with the first 64 MiB mapped. PERCENTAGE is the share of the usual
 * repetitions. The lines are those of bench.h. */
#include <stdint.h>

#define DEVICES 0xE0000000u /* where the registers of the chip, at 0xF_E000_0000, are mapped */
#define SERIAL (DEVICES + 0x4500)
#define TICKS_PER_US 400u

enum { SERIAL_DATA = 0, SERIAL_LSR = 5, SERIAL_SCRATCH = 7 };

/* Up to where a program sets its own registers and goes on with main. TLB1 entry 14 (MAS0) is protected, 1 MiB (MAS1),
   cache-inhibited and guarded (MAS2), at 0xF_E000_0000 with every permission (MAS3, MAS7). */
#define BARE_START \
    "    .set devices, 0xE0000000\n" \
    "    .section .text.start, \"ax\"\n" \
    "    .globl _start\n" \
    "_start:\n" \
    "    lis 1, stack_end@ha\n    addi 1, 1, stack_end@l\n" \
    "    lis 3, 0x100E\n    mtspr 624, 3\n" \
    "    lis 3, 0xC000\n    ori 3, 3, 10 << 7\n    mtspr 625, 3\n" \
    "    lis 3, devices@h\n    ori 3, 3, 0xA\n    mtspr 626, 3\n" \
    "    lis 3, 0xE000\n    ori 3, 3, 0x3F\n    mtspr 627, 3\n" \
    "    li 3, 0xF\n    mtspr 944, 3\n" \
    "    isync\n    tlbwe\n    isync\n"

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
    for (; *text; text++) {
        while (!(serial[SERIAL_LSR] & 0x20)) {
        }
        serial[SERIAL_DATA] = (uint8_t)*text;
    }
}

static void put_number(uint32_t number, uint32_t base, int digits)
{
    char text[12], *at = text + sizeof text - 1;
    for (*at = 0; number || digits > 0; number /= base, digits--)
        *--at = "0123456789abcdef"[number % base];
    put(at);
}

static void report(const char *name, uint32_t count, uint32_t us, const char *unit, int good)
{
    put("BENCH ");
    put(name);
    put(" time_s=");
    put_number(us / 1000000, 10, 1);
    put(".");
    put_number(us % 1000000, 10, 6);
    put(" score=");
    put_number((uint32_t)((uint64_t)count * 1000000 / us), 10, 1);
    put(" ");
    put(unit);
    put(" check=");
    put_number((uint32_t)good, 16, 8);
    put("\n");
}

static uint32_t device_read(uint32_t count)
{
    uint32_t good = 0;
    serial[SERIAL_SCRATCH] = 0x5A;
    for (uint32_t i = 0; i < count; i++)
        good += serial[SERIAL_SCRATCH] == 0x5A;
    return good;
}
