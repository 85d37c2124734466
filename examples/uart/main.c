/* Echoes what comes, and '?' for a byte that was damaged; ends with the first error of the port. */
#include "uart.h"

static int print(const char *text)
{
    int result = UART_OK;

    while (*text && result == UART_OK)
        result = uart_put(*text++);
    return result;
}

int main(void)
{
    int result = uart_init(217); /* 115,200 baud of 400 MHz */

    if (result == UART_OK)
        result = print("ready\n");
    while (result == UART_OK) {
        int byte = uart_get();

        if (byte == UART_LINE_ERROR)
            result = uart_put('?');
        else if (byte != UART_NONE)
            result = uart_put(byte);
    }
    return result;
}
