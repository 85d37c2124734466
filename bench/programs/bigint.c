/* Products of big integers: the schoolbook's method, and Karatsuba's above it. Least significant limb first. */
#include "bench.h"

enum { LIMBS = 512, SIMPLE = 32 };
static uint32_t one[LIMBS], two[LIMBS], product[2 * LIMBS], simple[2 * LIMBS], scratch[8 * LIMBS];

static void multiply_simple(uint32_t *out, const uint32_t *a, const uint32_t *b, int count)
{
    memset(out, 0, 2 * (size_t)count * sizeof *out);
    for (int i = 0; i < count; i++) {
        uint64_t carry = 0;
        for (int k = 0; k < count; k++) {
            carry += (uint64_t)a[i] * b[k] + out[i + k];
            out[i + k] = (uint32_t)carry;
            carry >>= 32;
        }
        out[i + count] = (uint32_t)carry;
    }
}

static uint32_t add(uint32_t *to, const uint32_t *from, int count)
{
    uint64_t carry = 0;
    for (int i = 0; i < count; i++) {
        carry += (uint64_t)to[i] + from[i];
        to[i] = (uint32_t)carry;
        carry >>= 32;
    }
    return (uint32_t)carry;
}

static uint32_t subtract(uint32_t *to, const uint32_t *from, int count)
{
    uint32_t borrow = 0;
    for (int i = 0; i < count; i++) {
        uint64_t difference = (uint64_t)to[i] - from[i] - borrow;
        to[i] = (uint32_t)difference;
        borrow = (uint32_t)(difference >> 32) & 1;
    }
    return borrow;
}

/* |x - y|, and whether x < y. */
static bool distance(uint32_t *out, const uint32_t *x, const uint32_t *y, int count)
{
    int top = count - 1;
    while (top > 0 && x[top] == y[top])
        top--;
    bool less = x[top] < y[top];
    memcpy(out, less ? y : x, (size_t)count * sizeof *out);
    subtract(out, less ? x : y, count);
    return less;
}

static void propagate(uint32_t *to, uint32_t carry)
{
    while (carry)
        carry = (*to++ += carry) < carry;
}

/* `room` has 4 * count limbs. */
static void multiply(uint32_t *out, const uint32_t *a, const uint32_t *b, int count, uint32_t *room)
{
    if (count <= SIMPLE) {
        multiply_simple(out, a, b, count);
        return;
    }
    int half = count / 2;
    uint32_t *middle = room, *cross = room + count, *rest = room + 2 * count;
    multiply(out, a, b, half, rest);
    multiply(out + count, a + half, b + half, half, rest);
    bool negative = distance(cross, a, a + half, half);
    negative ^= distance(cross + half, b, b + half, half);
    multiply(middle, cross, cross + half, half, rest);
    /* a1 * b0 + a0 * b1 = a0 * b0 + a1 * b1 - (a0 - a1) * (b0 - b1) */
    memcpy(cross, out, (size_t)count * sizeof *cross);
    uint32_t carry = add(cross, out + count, count);
    carry = negative ? carry + add(cross, middle, count) : carry - subtract(cross, middle, count);
    carry += add(out + half, cross, count);
    propagate(out + half + count, carry);
}

static WORK uint32_t karatsuba(void)
{
    uint32_t check = 0;
    multiply(product, one, two, LIMBS, scratch);
    for (int i = 0; i < 2 * LIMBS; i++)
        check = mix(check, product[i]);
    return check;
}

static WORK uint32_t schoolbook(void)
{
    uint32_t check = 0;
    multiply_simple(simple, one, two, LIMBS);
    for (int i = 0; i < 2 * LIMBS; i++)
        check = mix(check, simple[i]);
    return check;
}

int main(int argc, char **argv)
{
    uint32_t random = 123456789u;
    begin(argc, argv);
    for (int i = 0; i < LIMBS; i++)
        one[i] = next_random(&random), two[i] = next_random(&random);
    measure("karatsuba", karatsuba, 4800, 1, "products/s");
    measure("schoolbook", schoolbook, 2400, 1, "products/s");
    if (memcmp(product, simple, sizeof product)) {
        puts("bigint: the products differ");
        return 1;
    }
    return 0;
}
