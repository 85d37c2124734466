/* The devices the board has besides KVM's interrupt controller: a 16550 without input, and the power-off line. */
#include <pthread.h>
#include <stdio.h>

#include "vmm.h"

enum { THR, IER, IIR, LCR, MCR, LSR, MSR, SCR };
enum { IER_THRI = 0x02, IIR_NONE = 0x01, IIR_THRI = 0x02, IIR_FIFO = 0xc0, LCR_DLAB = 0x80, LSR_EMPTY = 0x60 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static struct {
	uint8_t registers[8];
	uint8_t divisor[2];
	bool fifo;
	bool empty; /* the transmitter-empty interrupt is pending: until IIR is read or a byte is written */
	bool line;
} uart;

static void settle(void)
{
	bool level = uart.empty && uart.registers[IER] & IER_THRI;

	if (level != uart.line)
		set_irq(UART_SOURCE, uart.line = level);
}

static uint8_t uart_read(unsigned at)
{
	if (at < 2 && uart.registers[LCR] & LCR_DLAB)
		return uart.divisor[at];
	switch (at) {
	case THR:
		return 0;
	case IIR: {
		uint8_t cause = uart.line ? IIR_THRI : IIR_NONE;

		uart.empty = uart.empty && !uart.line;
		return cause | (uart.fifo ? IIR_FIFO : 0);
	}
	case LSR:
		return LSR_EMPTY;
	case MSR:
		return 0xb0; /* carrier, data set ready, clear to send */
	default:
		return uart.registers[at];
	}
}

static void uart_write(unsigned at, uint8_t value)
{
	if (at < 2 && uart.registers[LCR] & LCR_DLAB) {
		uart.divisor[at] = value;
		return;
	}
	switch (at) {
	case THR:
		putchar(value);
		uart.empty = true;
		break;
	case IER:
		uart.empty |= value & ~uart.registers[IER] & IER_THRI;
		uart.registers[IER] = value & 0x0f;
		break;
	case IIR:
		uart.fifo = value & 1;
		break;
	case LSR:
	case MSR:
		break;
	default:
		uart.registers[at] = value;
	}
}

/* The QorIQ GPIO block: line 0, the most significant bit, switches off when it is an output and high. */
enum { GPIO_DIRECTION, GPIO_DATA = 2, GPIO_REGISTERS = 8 };
static uint32_t gpio[GPIO_REGISTERS];

static void gpio_access(unsigned at, uint8_t *data, bool write)
{
	if (write) {
		gpio[at] = data[0] << 24 | data[1] << 16 | data[2] << 8 | data[3];
		if (gpio[GPIO_DIRECTION] & gpio[GPIO_DATA] & 0x80000000u)
			end(0);
	} else
		for (int n = 0; n < 4; n++)
			data[n] = gpio[at] >> (24 - 8 * n);
}

void ccsr_access(uint64_t offset, uint8_t *data, unsigned length, bool write)
{
	pthread_mutex_lock(&lock);
	if (offset - UART_OFFSET < 8 && length == 1) {
		if (write)
			uart_write(offset - UART_OFFSET, *data);
		else
			*data = uart_read(offset - UART_OFFSET);
		settle();
	} else if (offset - GPIO_OFFSET < sizeof gpio && length == 4) {
		gpio_access((offset - GPIO_OFFSET) / 4, data, write);
	} else if (!write) {
		for (unsigned n = 0; n < length; n++)
			data[n] = 0; /* silent, as the board's gaps are */
	}
	pthread_mutex_unlock(&lock);
}
