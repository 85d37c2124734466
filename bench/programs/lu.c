/* A linear system solved by Gauss's elimination with pivots, in double precision. */
#include "bench.h"

enum { N = 120 };
static double a[N][N + 1], solution[N];

static WORK uint32_t solve(void)
{
    uint32_t check = 0, random = 77777u;
    for (int i = 0; i < N; i++)
        for (int k = 0; k <= N; k++)
            a[i][k] = (double)(next_random(&random) % 10000) / 1000 - 5;
    for (int i = 0; i < N; i++) {
        int pivot = i;
        for (int k = i + 1; k < N; k++) {
            double best = a[pivot][i] < 0 ? -a[pivot][i] : a[pivot][i], now = a[k][i] < 0 ? -a[k][i] : a[k][i];
            if (now > best)
                pivot = k;
        }
        for (int n = i; n <= N; n++) {
            double other = a[i][n];
            a[i][n] = a[pivot][n];
            a[pivot][n] = other;
        }
        for (int k = i + 1; k < N; k++) {
            double factor = a[k][i] / a[i][i];
            for (int n = i; n <= N; n++)
                a[k][n] -= factor * a[i][n];
        }
    }
    for (int i = N - 1; i >= 0; i--) {
        double rest = a[i][N];
        for (int k = i + 1; k < N; k++)
            rest -= a[i][k] * solution[k];
        solution[i] = rest / a[i][i];
    }
    for (int i = 0; i < N; i++)
        check = mix_double(check, solution[i]);
    return check;
}

int main(int argc, char **argv)
{
    begin(argc, argv);
    measure("lu", solve, 160, 2.0 / 3 * N * N * N / 1e6, "MFLOPS");
    return 0;
}
