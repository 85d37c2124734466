/* A disk as programs use it that keep their own caches: 1 MiB after 1 MiB, and 4 KiB anywhere, past the page cache. */
#include "bench.h"
#include <fcntl.h>
#include <unistd.h>

enum { BLOCK = 1 << 20, BLOCKS = 64, PAGE = 4096, PAGES = BLOCKS * (BLOCK / PAGE), READS = 2000 };
static unsigned char *buffer;
static int disk;

/* Every page of the disk begins with its number, most significant byte first. */
static void stamp(unsigned char *page, uint32_t number)
{
    for (int i = 0; i < 4; i++)
        page[i] = (unsigned char)(number >> (24 - 8 * i));
}

static uint32_t number_of(const unsigned char *page)
{
    return (uint32_t)page[0] << 24 | (uint32_t)page[1] << 16 | (uint32_t)page[2] << 8 | page[3];
}

static WORK uint32_t written(void)
{
    uint32_t good = 0;
    for (int block = 0; block < BLOCKS; block++) {
        for (int at = 0; at < BLOCK; at += PAGE)
            stamp(buffer + at, (uint32_t)(block * (BLOCK / PAGE) + at / PAGE));
        good += pwrite(disk, buffer, BLOCK, (off_t)block * BLOCK) == BLOCK;
    }
    return good;
}

static WORK uint32_t in_order(void)
{
    uint32_t good = 0;
    for (int block = 0; block < BLOCKS; block++) {
        if (pread(disk, buffer, BLOCK, (off_t)block * BLOCK) != BLOCK)
            return 0;
        for (int at = 0; at < BLOCK; at += PAGE)
            good += number_of(buffer + at) == (uint32_t)(block * (BLOCK / PAGE) + at / PAGE);
    }
    return good;
}

static WORK uint32_t anywhere(void)
{
    uint32_t good = 0, random = 1;
    for (int n = 0; n < READS; n++) {
        random = random * 1664525 + 1013904223;
        uint32_t page = (random >> 8) % PAGES;
        good += pread(disk, buffer, PAGE, (off_t)page * PAGE) == PAGE && number_of(buffer) == page;
    }
    return good;
}

int main(int argc, char **argv)
{
    begin(argc, argv);
    disk = open("/dev/vda", O_RDWR | O_DIRECT);
    if (disk < 0 || posix_memalign((void **)&buffer, PAGE, BLOCK)) {
        perror("/dev/vda");
        return 1;
    }
    memset(buffer, 0x5A, BLOCK);
    measure("disk_write", written, 8, BLOCKS * (BLOCK / 1e6), "MB/s");
    measure("disk_read", in_order, 8, BLOCKS * (BLOCK / 1e6), "MB/s");
    measure("disk_random", anywhere, 8, READS * (PAGE / 1e6), "MB/s");
    return 0;
}
