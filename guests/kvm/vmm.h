/* A small virtual machine monitor for Linux KVM on Book E cores with the embedded hypervisor category. */
#pragma once

#include <sched.h>
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

/* Held for moments. The C library's needs the futex call of 32-bit times, which a 32-bit kernel may be built without. */
struct lock {
	bool held;
};

static inline void take_lock(struct lock *lock)
{
	while (__atomic_test_and_set(&lock->held, __ATOMIC_ACQUIRE))
		sched_yield();
}

static inline void release_lock(struct lock *lock)
{
	__atomic_clear(&lock->held, __ATOMIC_RELEASE);
}

/* One line on standard error - what, and errno's text when `error` is not 0 - and the end with status 1. */
_Noreturn void fail(int error, const char *what, ...) __attribute__((format(printf, 2, 3)));

/* The virtual machine ends with this status, of 8 bits, and statistics are printed. Returns at once. */
void end(int status);

/* Drive an input of the interrupt controller. */
void set_irq(unsigned source, bool level);

/* A guest's access to the board's register space; `data` are the bytes in memory order. */
void ccsr_access(uint64_t offset, uint8_t *data, unsigned length, bool write);

/* A byte for the guest's serial line; false when there is no room for it yet. */
bool uart_receive(uint8_t byte);

/* Give the guest the standard streams: a terminal is raw from then on, and Ctrl-] ends the machine. */
void console_open(void);

/* A byte of the guest's for standard output, which gets it in a moment. */
void console_write(uint8_t byte);

/* Give the terminal back, and keep the guest from writing; before the end of the process only. */
void console_close(void);

/* The counters of a vCPU or VM, to be opened before it runs: KVM lets nobody in while a vCPU is running. */
int open_statistics(int fd);

/* The counters that are not 0. */
void print_statistics(const char *name, int stats);

/* What a vCPU's exits took, where the kernel measures that (CONFIG_KVM_EXIT_TIMING) and debugfs is mounted. */
void print_timing(unsigned id, int vm);
