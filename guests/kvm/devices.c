/* The devices the board has besides KVM's interrupt controller: a 16550, and the power-off line. */
#include "vmm.h"

enum { THR, IER, IIR, LCR, MCR, LSR, MSR, SCR };
enum { IER_RDI = 0x01, IER_THRI = 0x02, IIR_NONE = 0x01, IIR_THRI = 0x02, IIR_RDI = 0x04, IIR_FIFO = 0xc0 };
enum { FCR_FIFO = 0x01, FCR_CLEAR_RECEIVED = 0x02, LCR_DLAB = 0x80, LSR_READY = 0x01, LSR_EMPTY = 0x60 };

static struct lock lock;

static struct {
	uint8_t registers[8];
	uint8_t divisor[2];
	bool fifo;
	uint8_t received[16];
	unsigned first, count;
	bool empty; /* the transmitter-empty interrupt is pending: until IIR is read or a byte is written */
	bool line;
} uart;

static uint8_t cause(void)
{
	if (uart.count && uart.registers[IER] & IER_RDI)
		return IIR_RDI;
	return uart.empty && uart.registers[IER] & IER_THRI ? IIR_THRI : IIR_NONE;
}

static void settle(void)
{
	bool level = cause() != IIR_NONE;

	if (level != uart.line)
		set_irq(UART_SOURCE, uart.line = level);
}

bool uart_receive(uint8_t byte)
{
	take_lock(&lock);
	bool room = uart.count < (uart.fifo ? sizeof uart.received : 1);

	if (room) {
		uart.received[(uart.first + uart.count++) % sizeof uart.received] = byte;
		settle();
	}
	release_lock(&lock);
	return room;
}

static uint8_t take(void)
{
	if (!uart.count)
		return 0;
	uint8_t byte = uart.received[uart.first];

	uart.first = (uart.first + 1) % sizeof uart.received;
	uart.count--;
	return byte;
}

static uint8_t uart_read(unsigned at)
{
	if (at < 2 && uart.registers[LCR] & LCR_DLAB)
		return uart.divisor[at];
	switch (at) {
	case THR:
		return take();
	case IIR: {
		uint8_t now = cause();

		if (now == IIR_THRI)
			uart.empty = false;
		return now | (uart.fifo ? IIR_FIFO : 0);
	}
	case LSR:
		return LSR_EMPTY | (uart.count ? LSR_READY : 0);
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
		console_write(value);
		uart.empty = true;
		break;
	case IER:
		uart.empty |= value & ~uart.registers[IER] & IER_THRI;
		uart.registers[IER] = value & 0x0f;
		break;
	case IIR:
		uart.fifo = value & FCR_FIFO;
		if (value & FCR_CLEAR_RECEIVED)
			uart.count = 0;
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
	take_lock(&lock);
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
	release_lock(&lock);
}
