/* Memory: the C library's memcpy and memset, and loops over large arrays of doubles.
 *
 * The arrays lie side by side, or (_alias) 16 MiB apart, where whatever is indexed by low address bits collides. */
#include "bench.h"
#include <sys/mman.h>

enum { SIZE = 4 << 20, COUNT = SIZE / 8, APART = 16 << 20, PAGE = 4096 };
static double *near[3], *far[3];

static void fill(double *array, int seed)
{
    for (int i = 0; i < COUNT; i++)
        array[i] = (i + seed) % 1000;
}

static uint32_t sample(const double *array)
{
    uint32_t check = 0;
    for (int i = 0; i < COUNT; i += PAGE / 8 + 1)
        check = mix_double(check, array[i]);
    return check;
}

static void copy(double *to, const double *from)
{
    for (int i = 0; i < COUNT; i++)
        to[i] = from[i];
}

static void scale(double *to, const double *from)
{
    for (int i = 0; i < COUNT; i++)
        to[i] = 3.0 * from[i];
}

static void add(double *to, const double *one, const double *two)
{
    for (int i = 0; i < COUNT; i++)
        to[i] = one[i] + two[i];
}

static void triad(double *to, const double *one, const double *two)
{
    for (int i = 0; i < COUNT; i++)
        to[i] = one[i] + 3.0 * two[i];
}

static WORK uint32_t memcpy_near(void) { return memcpy(near[2], near[0], SIZE), sample(near[2]); }
static WORK uint32_t memcpy_far(void) { return memcpy(far[2], far[0], SIZE), sample(far[2]); }
static WORK uint32_t memset_near(void) { return memset(near[2], 0x3F, SIZE), sample(near[2]); }
static WORK uint32_t copy_near(void) { return copy(near[2], near[0]), sample(near[2]); }
static WORK uint32_t copy_far(void) { return copy(far[2], far[0]), sample(far[2]); }
static WORK uint32_t scale_near(void) { return scale(near[2], near[0]), sample(near[2]); }
static WORK uint32_t add_near(void) { return add(near[2], near[0], near[1]), sample(near[2]); }
static WORK uint32_t triad_near(void) { return triad(near[2], near[0], near[1]), sample(near[2]); }
static WORK uint32_t triad_far(void) { return triad(far[2], far[0], far[1]), sample(far[2]); }

int main(int argc, char **argv)
{
    const double mb = SIZE / 1e6;
    begin(argc, argv);
    char *room = mmap(NULL, 4 * APART, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED)
        return perror("memory: mmap"), 1;
    for (int i = 0; i < 3; i++) {
        near[i] = (double *)(room + i * (SIZE + 85 * PAGE));
        far[i] = (double *)(room + i * APART);
    }
    for (int i = 0; i < 3; i++)
        fill(near[i], i);
    measure("memcpy", memcpy_near, 80, 2 * mb, "MB/s");
    measure("memset", memset_near, 400, mb, "MB/s");
    measure("copy", copy_near, 60, 2 * mb, "MB/s");
    measure("scale", scale_near, 40, 2 * mb, "MB/s");
    measure("add", add_near, 40, 3 * mb, "MB/s");
    measure("triad", triad_near, 20, 3 * mb, "MB/s");
    for (int i = 0; i < 3; i++)
        fill(far[i], i);
    measure("memcpy_alias", memcpy_far, 40, 2 * mb, "MB/s");
    measure("copy_alias", copy_far, 30, 2 * mb, "MB/s");
    measure("triad_alias", triad_far, 20, 3 * mb, "MB/s");
    return 0;
}
