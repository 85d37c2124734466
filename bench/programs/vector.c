/* Vectors of 16 bytes, through the compiler's own vector types: AltiVec on Power, SSE on x86.
 *
 * AltiVec multiplies and adds with one rounding; the numbers here are such that nothing is rounded. */
#include "bench.h"
#ifdef __ALTIVEC__
#include <altivec.h>
#undef bool
#undef vector
#undef pixel
#endif

typedef float floats __attribute__((vector_size(16)));
typedef uint32_t words __attribute__((vector_size(16)));
typedef uint8_t bytes __attribute__((vector_size(16)));

enum { N = 64, SIZE = 64 << 10 };
static floats left[N][N / 4], right[N][N / 4], out[N][N / 4];
static bytes picture[SIZE / 16], turned[SIZE / 16];
static words state[256];

static inline floats multiply_add(floats a, floats b, floats c)
{
#ifdef __ALTIVEC__
    return (floats)vec_madd((__vector float)a, (__vector float)b, (__vector float)c);
#else
    return a * b + c;
#endif
}

static WORK uint32_t matrix(void)
{
    uint32_t check = 0;
    for (int i = 0; i < N; i++)
        for (int k = 0; k < N; k++)
            for (int n = 0; n < 4; n++) {
                if (k % 4 == n)
                    left[i][k / 4][n] = (float)((i * 7 + k) % 31 - 15);
                if (k % 4 == n)
                    right[i][k / 4][n] = (float)((i * 3 + k * 5) % 29 - 14);
            }
    for (int repeat = 0; repeat < 8; repeat++)
        for (int i = 0; i < N; i++) {
            floats row[N / 4] = {{0}};
            for (int k = 0; k < N; k++) {
                float one = left[i][k / 4][k % 4];
                floats all = {one, one, one, one};
                for (int n = 0; n < N / 4; n++)
                    row[n] = multiply_add(all, right[k][n], row[n]);
            }
            memcpy(out[i], row, sizeof row);
        }
    for (int i = 0; i < N; i++)
        for (int n = 0; n < 4; n++)
            check = mix_float(check, out[i][i / 4][n]);
    return check;
}

static WORK uint32_t integer(void)
{
    const words odd = {0x9E3779B9, 0x85EBCA6B, 0xC2B2AE35, 0x27D4EB2F}, shift = {5, 7, 11, 13};
    uint32_t check = 0;
    words sum = {1, 2, 3, 4};
    for (unsigned i = 0; i < 256; i++)
        state[i] = (words){i, i * 3, i * 5, i * 7};
    for (int round = 0; round < 64; round++)
        for (int i = 0; i < 256; i++) {
            words x = state[i] + odd;
            x ^= (x << shift) | (x >> (32 - shift));
            words larger = (words)(x > sum);
            sum = (x & larger) | (~sum & ~larger);
            state[i] = x - sum;
        }
    for (int i = 0; i < 256; i++)
        check = mix(mix(check, state[i][0]), state[i][3]);
    return check;
}

static WORK uint32_t permute(void)
{
    const bytes reverse = {15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0};
    const bytes interleave = {0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30};
    uint32_t check = 0;
    enum { COUNT = SIZE / 16 };
    for (int i = 0; i < COUNT; i++)
        for (int n = 0; n < 16; n++)
            if (i % 16 == n)
                picture[i] = (bytes){(uint8_t)i, (uint8_t)(i >> 4), (uint8_t)(i * 3), (uint8_t)n};
    for (int round = 0; round < 8; round++) {
        for (int i = 0; i < COUNT; i++)
            turned[COUNT - 1 - i] = __builtin_shuffle(picture[i], reverse);
        for (int i = 0; i < COUNT; i++)
            picture[i] = __builtin_shuffle(turned[i], turned[(i + 1) % COUNT], interleave);
    }
    for (int i = 0; i < COUNT; i += 10)
        check = mix(check, picture[i][i % 16]);
    return check;
}

int main(int argc, char **argv)
{
    begin(argc, argv);
    measure("vec_matrix", matrix, 15, 8 * 2.0 * N * N * N / 1e6, "MFLOPS");
    measure("vec_integer", integer, 800, 64 * 256 / 1e6, "Mvectors/s");
    measure("vec_permute", permute, 400, 16.0 * SIZE / 1e6, "MB/s");
    return 0;
}
