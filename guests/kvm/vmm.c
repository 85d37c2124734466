/*
 * A small virtual machine monitor for Linux KVM on Book E cores with the embedded hypervisor category.
 *
 * vmm -m MIB -c CPUS -e ENTRY -t TREE -w MAPPED FILE@ADDRESS...
 *
 * Loads files into the guest's memory as they are and enters vCPU 0 by the ePAPR rules: the device tree is at TREE,
 * and one TLB1 entry maps effective 0 to physical 0, MAPPED bytes. Other vCPUs wait in the board's spin table.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <linux/mman.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "vmm.h"

#define MAX_CPUS 32
#define PAGE 0x10000 /* no kernel's pages are larger */
#define LARGE_PAGE (4u << 20) /* the largest that the kernel can make while it runs */
#define EPAPR_MAGIC 0x45504150
#define STACK_TOP 0xfffff8
#define SECONDARY_MAPPED (64ull << 20)
#define TLB0_ENTRIES 1024 /* larger than the core's: what misses both takes three exits, what is in here one */
#define TLB0_WAYS 8
#define TLB1_ENTRIES 16
#define MAS1_VALID 0x80000000u
#define MAS1_IPROT 0x40000000u
#define MAS2_M 0x4
#define MAS3_ALL 0x3f /* user and supervisor execute, write, read */

struct vcpu {
	unsigned id;
	int fd, stats;
	struct kvm_run *run;
	pthread_t thread;
	uint64_t exits[64];
	struct kvm_book3e_206_tlb_entry tlb[TLB0_ENTRIES + TLB1_ENTRIES];
};

/* ePAPR: a waiting CPU leaves when bit 0 of the address goes. */
struct spin_entry {
	volatile uint32_t addr_high, addr_low, r3_high, r3_low, reserved, pir, unused[2];
};

static int kvm, vm, mpic;
static struct vcpu vcpus[MAX_CPUS];
static unsigned cpu_count = 1;
static struct spin_entry *spin_table;

static int ending[2]; /* a pipe: the first byte in it is the status */

void fail(int error, const char *what, ...)
{
	va_list arguments;

	console_close();
	fputs("vmm: ", stderr);
	va_start(arguments, what);
	vfprintf(stderr, what, arguments);
	va_end(arguments);
	fprintf(stderr, error ? ": %s\n" : "\n", strerror(error));
	_exit(1);
}

void end(int status)
{
	uint8_t byte = status;

	if (write(ending[1], &byte, 1) != 1)
		fail(errno, "ending");
}

static int control(int fd, unsigned long request, void *argument, const char *name)
{
	int done = ioctl(fd, request, argument);

	if (done < 0)
		fail(errno, "%s", name);
	return done;
}

#define CONTROL(fd, request, argument) control(fd, request, (void *)(argument), #request)

void set_irq(unsigned source, bool level)
{
	uint32_t value = level;
	struct kvm_device_attr attr = {
		.group = KVM_DEV_MPIC_GRP_IRQ_ACTIVE, .attr = source, .addr = (uintptr_t)&value,
	};

	CONTROL(mpic, KVM_SET_DEVICE_ATTR, &attr);
}

/* Lets the kernel make large pages as they are asked for; it takes them back when their process ends. */
static void allow_large_pages(void)
{
	char path[80];

	snprintf(path, sizeof path, "/sys/kernel/mm/hugepages/hugepages-%ukB/nr_overcommit_hugepages", LARGE_PAGE >> 10);
	FILE *file = fopen(path, "w");

	if (!file)
		return;
	fprintf(file, "%u\n", UINT32_MAX / LARGE_PAGE);
	fclose(file);
}

/* Large pages if there are enough or can be: KVM maps them by large entries of the core's TLB1, which never miss. */
static void *large_pages(size_t size)
{
	if (size % LARGE_PAGE)
		return MAP_FAILED;
	allow_large_pages();
	return mmap(NULL, size, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | __builtin_ctz(LARGE_PAGE) << MAP_HUGE_SHIFT, -1, 0);
}

static void *add_memory(unsigned slot, uint64_t address, size_t size)
{
	void *memory = large_pages(size);

	if (memory == MAP_FAILED)
		memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		fail(errno, "%zu MiB of memory", size >> 20);
	struct kvm_userspace_memory_region region = {
		.slot = slot, .guest_phys_addr = address, .memory_size = size, .userspace_addr = (uintptr_t)memory,
	};

	CONTROL(vm, KVM_SET_USER_MEMORY_REGION, &region);
	return memory;
}

static void create_mpic(void)
{
	uint64_t base = CCSR_BASE + MPIC_OFFSET;
	struct kvm_create_device create = { .type = KVM_DEV_TYPE_FSL_MPIC_42 };
	struct kvm_device_attr attr = {
		.group = KVM_DEV_MPIC_GRP_MISC, .attr = KVM_DEV_MPIC_BASE_ADDR, .addr = (uintptr_t)&base,
	};

	CONTROL(vm, KVM_CREATE_DEVICE, &create);
	mpic = create.fd;
	CONTROL(mpic, KVM_SET_DEVICE_ATTR, &attr);
}

static void create_vcpu(struct vcpu *vcpu, size_t run_size)
{
	struct kvm_book3e_206_tlb_params params = {
		.tlb_sizes = { TLB0_ENTRIES, TLB1_ENTRIES }, .tlb_ways = { TLB0_WAYS, TLB1_ENTRIES },
	};
	struct kvm_config_tlb config = {
		.params = (uintptr_t)&params, .array = (uintptr_t)vcpu->tlb, .array_len = sizeof vcpu->tlb,
		.mmu_type = KVM_MMU_FSL_BOOKE_NOHV,
	};
	struct kvm_enable_cap tlb = { .cap = KVM_CAP_SW_TLB, .args = { (uintptr_t)&config } };
	struct kvm_enable_cap irq = { .cap = KVM_CAP_IRQ_MPIC, .args = { mpic, vcpu->id } };

	vcpu->fd = CONTROL(vm, KVM_CREATE_VCPU, (uintptr_t)vcpu->id);
	vcpu->stats = open_statistics(vcpu->fd);
	CONTROL(vcpu->fd, KVM_ENABLE_CAP, &tlb);
	CONTROL(vcpu->fd, KVM_ENABLE_CAP, &irq);
	vcpu->run = mmap(NULL, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	if (vcpu->run == MAP_FAILED)
		fail(errno, "mapping the state of vCPU %u", vcpu->id);
}

/* Enter at `pc` in supervisor state, with one protected TLB1 entry: effective 0 to `physical`, `mapped` bytes. */
static void start_at(struct vcpu *vcpu, uint64_t pc, uint64_t r3, uint64_t physical, uint64_t mapped)
{
	uint8_t bitmap[(TLB0_ENTRIES + TLB1_ENTRIES) / 8];
	struct kvm_dirty_tlb dirty = { .bitmap = (uintptr_t)bitmap, .num_dirty = TLB0_ENTRIES + TLB1_ENTRIES };
	struct kvm_regs regs = { .pc = pc };
	unsigned size = 0; /* MAS1[TSIZE] */

	while (1024ull << size < mapped)
		size++;
	memset(bitmap, 0xff, sizeof bitmap);
	vcpu->tlb[TLB0_ENTRIES] = (struct kvm_book3e_206_tlb_entry) {
		.mas1 = MAS1_VALID | MAS1_IPROT | size << 7, .mas2 = MAS2_M, .mas7_3 = physical | MAS3_ALL,
	};
	CONTROL(vcpu->fd, KVM_DIRTY_TLB, &dirty);
	regs.gpr[1] = STACK_TOP;
	regs.gpr[3] = r3;
	regs.gpr[6] = EPAPR_MAGIC;
	regs.gpr[7] = mapped;
	CONTROL(vcpu->fd, KVM_SET_REGS, &regs);
}

static void wait_in_spin_table(struct vcpu *vcpu)
{
	struct spin_entry *entry = &spin_table[vcpu->id];

	while (entry->addr_low & 1)
		poll(NULL, 0, 1);
	__sync_synchronize();
	uint64_t address = (uint64_t)entry->addr_high << 32 | entry->addr_low;
	uint64_t offset = address % SECONDARY_MAPPED;

	start_at(vcpu, offset, (uint64_t)entry->r3_high << 32 | entry->r3_low, address - offset, SECONDARY_MAPPED);
}

static void unexpected(struct vcpu *vcpu)
{
	struct kvm_regs regs;

	CONTROL(vcpu->fd, KVM_GET_REGS, &regs);
	fail(0, "vCPU %u: exit %u (%llx) at pc %llx lr %llx msr %llx srr0 %llx", vcpu->id, vcpu->run->exit_reason,
	     (unsigned long long)vcpu->run->hw.hardware_exit_reason, (unsigned long long)regs.pc,
	     (unsigned long long)regs.lr, (unsigned long long)regs.msr, (unsigned long long)regs.srr0);
}

static void *run_vcpu(void *argument)
{
	struct vcpu *vcpu = argument;
	struct kvm_run *run = vcpu->run;

	if (vcpu->id)
		wait_in_spin_table(vcpu);
	for (;;) {
		if (ioctl(vcpu->fd, KVM_RUN, 0) < 0 && errno != EINTR)
			fail(errno, "KVM_RUN of vCPU %u", vcpu->id);
		if (run->exit_reason < sizeof vcpu->exits / sizeof *vcpu->exits)
			vcpu->exits[run->exit_reason]++;
		switch (run->exit_reason) {
		case KVM_EXIT_MMIO: {
			uint64_t offset = run->mmio.phys_addr - CCSR_BASE;

			if (offset >= CCSR_SIZE)
				fail(0, "vCPU %u: access to %llx, where nothing is", vcpu->id,
				     (unsigned long long)run->mmio.phys_addr);
			ccsr_access(offset, run->mmio.data, run->mmio.len, run->mmio.is_write);
			break;
		}
		case KVM_EXIT_INTR:
			break;
		case KVM_EXIT_SYSTEM_EVENT:
			end(run->system_event.type == KVM_SYSTEM_EVENT_SHUTDOWN ? 0 : 2);
			return NULL;
		case KVM_EXIT_WATCHDOG:
			end(3);
			return NULL;
		default:
			unexpected(vcpu);
		}
	}
}

/* FILE@ADDRESS */
static void load(char *word, uint8_t *ram, size_t ram_size)
{
	char *at = strrchr(word, '@');

	if (!at)
		fail(0, "%s: give FILE@ADDRESS", word);
	*at = 0;
	uint64_t address = strtoull(at + 1, NULL, 0);
	int fd = open(word, O_RDONLY);
	struct stat status;

	if (fd < 0 || fstat(fd, &status) < 0)
		fail(errno, "%s", word);
	if (address > ram_size || (uint64_t)status.st_size > ram_size - address)
		fail(0, "%s: does not fit at %llx in %zu MiB; give more memory", word, (unsigned long long)address,
		     ram_size >> 20);
	for (off_t done = 0; done < status.st_size;) {
		ssize_t got = read(fd, ram + address + done, status.st_size - done);

		if (got <= 0)
			fail(errno, "%s", word);
		done += got;
	}
	close(fd);
}

static void print_exits(const struct vcpu *vcpu)
{
	char name[16];

	printf("vmm: vcpu%u exits to user space:", vcpu->id);
	for (unsigned n = 0; n < sizeof vcpu->exits / sizeof *vcpu->exits; n++)
		if (vcpu->exits[n])
			printf(" %s=%llu", n == KVM_EXIT_MMIO ? "mmio" : n == KVM_EXIT_INTR ? "signal" : "other",
			       (unsigned long long)vcpu->exits[n]);
	putchar('\n');
	snprintf(name, sizeof name, "vcpu%u", vcpu->id);
	print_statistics(name, vcpu->stats);
	print_timing(vcpu->id, vm);
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec * 1e-9;
}

int main(int count, char **words)
{
	uint64_t mib = 128, entry = 0, tree = 0, mapped = SECONDARY_MAPPED;
	int option;

	while ((option = getopt(count, words, "m:c:e:t:w:")) >= 0) {
		uint64_t value = optarg ? strtoull(optarg, NULL, 0) : 0;

		switch (option) {
		case 'm': mib = value; break;
		case 'c': cpu_count = value; break;
		case 'e': entry = value; break;
		case 't': tree = value; break;
		case 'w': mapped = value; break;
		default: return 1;
		}
	}
	if (cpu_count < 1 || cpu_count > MAX_CPUS)
		fail(0, "-c %u: 1 to %d vCPUs", cpu_count, MAX_CPUS);
	setvbuf(stdout, NULL, _IOLBF, 0);

	double start = now();

	if (pipe(ending) < 0)
		fail(errno, "a pipe");
	kvm = open("/dev/kvm", O_RDWR);
	if (kvm < 0)
		fail(errno, "/dev/kvm");
	if (ioctl(kvm, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
		fail(0, "/dev/kvm: not version %d of its interface", KVM_API_VERSION);
	vm = CONTROL(kvm, KVM_CREATE_VM, 0);
	int vm_stats = open_statistics(vm);
	uint8_t *ram = add_memory(0, 0, mib << 20);

	for (int n = optind; n < count; n++)
		load(words[n], ram, mib << 20);
	spin_table = add_memory(1, SPIN_TABLE, PAGE);
	for (unsigned n = 0; n < MAX_CPUS; n++)
		spin_table[n] = (struct spin_entry) { .addr_low = 1, .r3_low = n, .pir = n };
	create_mpic();
	size_t run_size = CONTROL(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);

	for (unsigned n = 0; n < cpu_count; n++) {
		vcpus[n].id = n;
		create_vcpu(&vcpus[n], run_size);
	}
	start_at(&vcpus[0], entry, tree, 0, mapped);
	console_open();
	double entered = now();

	for (unsigned n = 0; n < cpu_count; n++)
		if ((option = pthread_create(&vcpus[n].thread, NULL, run_vcpu, &vcpus[n])))
			fail(option, "a thread for vCPU %u", n);

	uint8_t status;

	if (read(ending[0], &status, 1) != 1)
		fail(errno, "waiting for the end");
	console_close();
	printf("\nvmm: ended with status %d: %.3f s to make the machine, %.3f s of running\n", status, entered - start,
	       now() - entered);
	for (unsigned n = 0; n < cpu_count; n++)
		print_exits(&vcpus[n]);
	print_statistics("vm", vm_stats);
	exit(status);
}
