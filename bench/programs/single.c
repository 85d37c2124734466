/* Single precision: a picture of the Mandelbrot set, and a filter over a signal. */
#include "bench.h"

enum { WIDTH = 128, HEIGHT = 96, LIMIT = 200, SAMPLES = 8192, TAPS = 32 };
static float samples[SAMPLES + TAPS], taps[TAPS], filtered[SAMPLES];

static WORK uint32_t mandelbrot(void)
{
    uint32_t check = 0;
    for (int row = 0; row < HEIGHT; row++)
        for (int column = 0; column < WIDTH; column++) {
            float x = 0, y = 0, re = column * (3.0f / WIDTH) - 2.25f, im = row * (2.5f / HEIGHT) - 1.25f;
            uint32_t n = 0;
            for (; n < LIMIT && x * x + y * y < 4.0f; n++) {
                float next = x * x - y * y + re;
                y = 2.0f * x * y + im;
                x = next;
            }
            check = mix(check, n);
        }
    return check;
}

static WORK uint32_t filter(void)
{
    uint32_t check = 0;
    for (int i = 0; i < SAMPLES; i++) {
        float sum = 0;
        for (int k = 0; k < TAPS; k++)
            sum += samples[i + k] * taps[k];
        filtered[i] = sum;
    }
    for (int i = 0; i < SAMPLES; i += 50)
        check = mix_float(check, filtered[i]);
    return check;
}

int main(int argc, char **argv)
{
    uint32_t random = 4711u;
    begin(argc, argv);
    for (int i = 0; i < SAMPLES + TAPS; i++)
        samples[i] = (float)(next_random(&random) % 1000) / 500 - 1;
    for (int i = 0; i < TAPS; i++)
        taps[i] = 1.0f / (float)(i + 3);
    measure("mandelbrot", mandelbrot, 32, 1, "pictures/s");
    measure("filter", filter, 240, 2.0 * SAMPLES * TAPS / 1e6, "MFLOPS");
    return 0;
}
