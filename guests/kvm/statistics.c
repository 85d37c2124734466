/* What KVM counts, through its statistics file descriptors: a header, descriptors with names, and values. */
#include <errno.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm.h"

static void get(int fd, void *to, size_t size, off_t at)
{
	if (pread(fd, to, size, at) != (ssize_t)size)
		fail(errno, "reading KVM's statistics");
}

int open_statistics(int fd)
{
	int stats = ioctl(fd, KVM_GET_STATS_FD, NULL);

	if (stats < 0)
		fail(errno, "KVM_GET_STATS_FD");
	return stats;
}

void print_statistics(const char *name, int stats)
{
	struct kvm_stats_header header;

	get(stats, &header, sizeof header, 0);
	size_t size = sizeof(struct kvm_stats_desc) + header.name_size;
	struct kvm_stats_desc *desc = malloc(size);

	if (!desc)
		fail(errno, "statistics");
	printf("vmm: %s", name);
	for (unsigned n = 0; n < header.num_desc; n++) {
		uint64_t value;

		get(stats, desc, size, header.desc_offset + n * size);
		if (desc->size != 1)
			continue; /* a histogram */
		get(stats, &value, sizeof value, header.data_offset + desc->offset);
		if (value)
			printf(" %s=%llu", desc->name, (unsigned long long)value);
	}
	putchar('\n');
	free(desc);
}

void print_timing(unsigned id, int vm)
{
	char text[256];

	snprintf(text, sizeof text, "/sys/kernel/debug/kvm/%d-%d/vcpu%u/timing", (int)getpid(), vm, id);
	FILE *file = fopen(text, "r");

	if (!file)
		return;
	while (fgets(text, sizeof text, file))
		printf("vmm: vcpu%u %s", id, text);
	fclose(file);
}
