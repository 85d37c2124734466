/* Fast Fourier transforms there and back, in double and in single precision. */
#include "bench.h"

enum { POINTS = 4096 };
#define PI 3.14159265358979323846

/* For small angles: library sines need not be equal in every last bit. */
static double sine(double x)
{
    double term = x, sum = x;
    for (int n = 3; n < 30; n += 2) {
        term = -term * x * x / (n * (n - 1));
        sum += term;
    }
    return sum;
}

#define REAL double
#define NAME(x) x##_double
#define MIX mix_double
#include "fft.inc"
#undef REAL
#undef NAME
#undef MIX
#define REAL float
#define NAME(x) x##_single
#define MIX mix_float
#include "fft.inc"

int main(int argc, char **argv)
{
    begin(argc, argv);
    start_double();
    start_single();
    measure("fft", fft_double, 320, 2, "transforms/s");
    measure("fft_single", fft_single, 200, 2, "transforms/s");
    return 0;
}
