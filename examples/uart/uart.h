/* A driver for the 16550 of QorIQ chips. */
#ifndef UART_H
#define UART_H

enum { UART_OK = 0, UART_NONE = -1, UART_TIMEOUT = -2, UART_LINE_ERROR = -3, UART_ABSENT = -4 };

/* Set the port up: 8 bits, no parity, FIFOs on; UART_ABSENT if there is no port. */
int uart_init(unsigned divisor);
/* Send a byte; UART_TIMEOUT if the transmitter does not empty. */
int uart_put(int byte);
/* The next byte that came, UART_NONE, or UART_LINE_ERROR for one that was damaged on its way. */
int uart_get(void);

#endif
