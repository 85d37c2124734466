/* Quicksort of pseudo-random words: compares and branches that cannot be predicted. */
#include "bench.h"

enum { COUNT = 100000, SMALL = 12 };
static uint32_t words[COUNT];

static void insertion_sort(uint32_t *low, uint32_t *high)
{
    for (uint32_t *next = low + 1; next <= high; next++) {
        uint32_t value = *next, *place = next;
        for (; place > low && place[-1] > value; place--)
            *place = place[-1];
        *place = value;
    }
}

static uint32_t median(uint32_t a, uint32_t b, uint32_t c)
{
    return a < b ? (b < c ? b : a < c ? c : a) : (a < c ? a : b < c ? c : b);
}

static void quicksort(uint32_t *low, uint32_t *high)
{
    while (high - low > SMALL) {
        uint32_t pivot = median(*low, low[(high - low) / 2], *high), *left = low, *right = high;
        while (left <= right) {
            while (*left < pivot)
                left++;
            while (*right > pivot)
                right--;
            if (left <= right) {
                uint32_t other = *left;
                *left++ = *right;
                *right-- = other;
            }
        }
        if (right - low < high - left) {
            quicksort(low, right);
            low = left;
        } else {
            quicksort(left, high);
            high = right;
        }
    }
    insertion_sort(low, high);
}

static WORK uint32_t sort(void)
{
    uint32_t random = 2463534242u, check = 0;
    for (int i = 0; i < COUNT; i++)
        words[i] = next_random(&random);
    quicksort(words, words + COUNT - 1);
    for (int i = 1; i < COUNT; i++)
        if (words[i - 1] > words[i])
            return 0;
    for (int i = 0; i < COUNT; i += 97)
        check = mix(check, words[i]);
    return check;
}

int main(int argc, char **argv)
{
    begin(argc, argv);
    measure("quicksort", sort, 240, COUNT / 1e6, "Mwords/s");
    return 0;
}
