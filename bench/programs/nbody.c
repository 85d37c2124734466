/* Gravitation among a few bodies, in double precision: leapfrog steps. The square root is our own: not every core
 * and C library have one that rounds alike. */
#include "bench.h"

enum { BODIES = 6, STEPS = 2000 };
struct body { double x[3], v[3], mass; };
static struct body bodies[BODIES];

static double root(double value)
{
    uint64_t bits;
    double guess;
    memcpy(&bits, &value, sizeof bits);
    bits = (bits >> 1) + ((uint64_t)1023 << 51);
    memcpy(&guess, &bits, sizeof guess);
    for (int i = 0; i < 4; i++)
        guess = 0.5 * (guess + value / guess);
    return guess;
}

static void kick(double step)
{
    for (int i = 0; i < BODIES; i++)
        for (int k = i + 1; k < BODIES; k++) {
            struct body *a = &bodies[i], *b = &bodies[k];
            double d[3], square = 0.01;
            for (int n = 0; n < 3; n++) {
                d[n] = b->x[n] - a->x[n];
                square += d[n] * d[n];
            }
            double pull = step / (square * root(square));
            for (int n = 0; n < 3; n++) {
                a->v[n] += d[n] * (b->mass * pull);
                b->v[n] -= d[n] * (a->mass * pull);
            }
        }
}

static WORK uint32_t nbody(void)
{
    uint32_t check = 0, random = 362436069u;
    for (int i = 0; i < BODIES; i++) {
        for (int n = 0; n < 3; n++) {
            bodies[i].x[n] = (double)(next_random(&random) % 2000) / 100 - 10;
            bodies[i].v[n] = (double)(next_random(&random) % 2000) / 2000 - 0.5;
        }
        bodies[i].mass = i ? 0.01 * i : 20;
    }
    for (int step = 0; step < STEPS; step++) {
        kick(0.001);
        for (int i = 0; i < BODIES; i++)
            for (int n = 0; n < 3; n++)
                bodies[i].x[n] += 0.001 * bodies[i].v[n];
    }
    for (int i = 0; i < BODIES; i++)
        check = mix_double(check, bodies[i].x[0]);
    return check;
}

int main(int argc, char **argv)
{
    begin(argc, argv);
    measure("nbody", nbody, 200, STEPS / 1e6, "Msteps/s");
    return 0;
}
