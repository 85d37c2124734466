/* A small virtual machine monitor for Linux KVM on Book E cores with the embedded hypervisor category. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* The memory map is the ppce500 board's, so that the guest's device tree comes from the same declaration. */
#define CCSR_BASE 0xfe0000000ull
#define CCSR_SIZE 0x100000
#define UART_OFFSET 0x4500
#define UART_SOURCE 42
#define MPIC_OFFSET 0x40000
#define GPIO_OFFSET 0xff000
#define SPIN_TABLE 0xfef000000ull

/* One line on standard error - what, and errno's text when `error` is not 0 - and the end with status 1. */
_Noreturn void fail(int error, const char *what, ...) __attribute__((format(printf, 2, 3)));

/* The virtual machine ends with this status, of 8 bits, and statistics are printed. Returns at once. */
void end(int status);

/* Drive an input of the interrupt controller. */
void set_irq(unsigned source, bool level);

/* A guest's access to the board's register space; `data` are the bytes in memory order. */
void ccsr_access(uint64_t offset, uint8_t *data, unsigned length, bool write);

/* The counters of a vCPU or VM, to be opened before it runs: KVM lets nobody in while a vCPU is running. */
int open_statistics(int fd);

/* The counters that are not 0. */
void print_statistics(const char *name, int stats);
