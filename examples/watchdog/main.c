/* Counts rounds of work and feeds the core's watchdog, which resets the chip when it gets nothing for 0.2 s. */

#define PORT ((volatile unsigned char *)0xE0004500)
#define SPR_TSR 336
#define SPR_TCR 340
#define RESET_BY_WATCHDOG 0x30000000 /* TSR[WRS] */
#define FEED 0xC0000000              /* TSR[ENW WIS] */
#define RESET_CHIP_AFTER_2_25 0xE0120000 /* TCR[WP=3 WRC=2 WPEXT=9]: bit 39 of the time base */

volatile unsigned *const rounds = (unsigned *)0x00200000;

static void print(const char *text)
{
    while (*text)
        PORT[0] = *text++;
}

int work(void)
{
    return ++*rounds != 0;
}

int main(void)
{
    unsigned status;

    __asm__ volatile("mfspr %0, %1" : "=r"(status) : "i"(SPR_TSR));
    print(status & RESET_BY_WATCHDOG ? "reset by watchdog\n" : "power-on\n");
    __asm__ volatile("mtspr %0, %1" : : "i"(SPR_TCR), "r"(RESET_CHIP_AFTER_2_25));
    while (work())
        __asm__ volatile("mtspr %0, %1" : : "i"(SPR_TSR), "r"(FEED));
    return 0;
}
