#include "uart.h"

#define PORT ((volatile unsigned char *)0xE0004500)
enum { DATA, IER, FCR, LCR, MCR, LSR, MSR, SCRATCH };
enum { DLAB = 0x80, EIGHT_BITS = 0x03, FIFOS_ON_AND_EMPTY = 0x07 };
enum { READY = 0x01, ERRORS = 0x1E, EMPTY = 0x20 };
enum { PATIENCE = 10000 };

int uart_init(unsigned divisor)
{
    PORT[SCRATCH] = 0x5A;
    if (PORT[SCRATCH] != 0x5A)
        return UART_ABSENT;
    PORT[LCR] = DLAB | EIGHT_BITS;
    PORT[DATA] = divisor & 0xFF;
    PORT[IER] = divisor >> 8;
    PORT[LCR] = EIGHT_BITS;
    PORT[FCR] = FIFOS_ON_AND_EMPTY;
    return UART_OK;
}

int uart_put(int byte)
{
    int polls;

    for (polls = 0; polls < PATIENCE; polls++)
        if (PORT[LSR] & EMPTY) {
            PORT[DATA] = byte;
            return UART_OK;
        }
    return UART_TIMEOUT;
}

int uart_get(void)
{
    int status = PORT[LSR];
    int byte;

    if (!(status & READY))
        return UART_NONE;
    byte = PORT[DATA];
    return status & ERRORS ? UART_LINE_ERROR : byte;
}
