/* A byte-oriented Lempel-Ziv compressor with one hash table, and its decompressor.
 *
 * A packed stream is a sequence of: 0..127, then that many plus one literal bytes; or 128..255, a match of that many
 * minus 124 bytes (at least MATCH) at a distance given by two bytes. */
#include "bench.h"

enum { SIZE = 256 << 10, MATCH = 4, LONGEST = 131, WINDOW = 65535, HASH_BITS = 13 };
static uint8_t text[SIZE], packed[SIZE + SIZE / 64], unpacked[SIZE];
static int32_t heads[1 << HASH_BITS];
static size_t packed_size;

static void write_text(void)
{
    static const char *const words[] = {
        "interrupt", "the", "of", "memory", "a", "guest", "translates", "and", "register", "page", "entry", "is",
        "vector", "to", "processor", "timer", "in", "device", "on", "host", "store", "when", "load", "address",
    };
    uint32_t random = 88172645u;
    for (size_t at = 0; at < SIZE;) {
        const char *word = words[(next_random(&random) >> 9) % (sizeof words / sizeof *words)];
        for (; *word && at < SIZE; word++)
            text[at++] = (uint8_t)*word;
        if (at < SIZE)
            text[at++] = (next_random(&random) & 15) ? ' ' : '\n';
    }
}

static uint32_t hash_at(const uint8_t *p)
{
    return (((uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3]) * 2654435761u) >> (32 - HASH_BITS);
}

static uint8_t *put_literals(uint8_t *out, const uint8_t *from, size_t count)
{
    while (count) {
        size_t run = count < 128 ? count : 128;
        *out++ = (uint8_t)(run - 1);
        memcpy(out, from, run);
        out += run, from += run, count -= run;
    }
    return out;
}

static size_t compress(void)
{
    uint8_t *out = packed;
    size_t literals = 0, at = 0;
    memset(heads, 0xFF, sizeof heads);
    while (at + MATCH <= SIZE) {
        uint32_t hash = hash_at(text + at);
        int32_t before = heads[hash];
        heads[hash] = (int32_t)at;
        if (before < 0 || at - (size_t)before > WINDOW || memcmp(text + before, text + at, MATCH)) {
            at++;
            continue;
        }
        size_t length = MATCH, distance = at - (size_t)before;
        while (length < LONGEST && at + length < SIZE && text[(size_t)before + length] == text[at + length])
            length++;
        out = put_literals(out, text + literals, at - literals);
        *out++ = (uint8_t)(length + 124);
        *out++ = (uint8_t)(distance >> 8);
        *out++ = (uint8_t)distance;
        at += length;
        literals = at;
    }
    out = put_literals(out, text + literals, SIZE - literals);
    return (size_t)(out - packed);
}

static WORK uint32_t pack(void)
{
    uint32_t check = 0;
    packed_size = compress();
    for (size_t i = 0; i < packed_size; i += 61)
        check = mix(check, packed[i]);
    return mix(check, (uint32_t)packed_size);
}

static WORK uint32_t unpack(void)
{
    const uint8_t *in = packed;
    uint8_t *out = unpacked;
    while (in < packed + packed_size) {
        size_t count = *in++;
        if (count < 128) {
            memcpy(out, in, count + 1);
            in += count + 1, out += count + 1;
        } else {
            const uint8_t *from = out - (in[0] << 8 | in[1]);
            in += 2;
            for (count -= 124; count; count--)
                *out++ = *from++;
        }
    }
    return memcmp(text, unpacked, SIZE) ? 0 : mix(1, (uint32_t)(out - unpacked));
}

int main(int argc, char **argv)
{
    begin(argc, argv);
    write_text();
    measure("lz_pack", pack, 1200, SIZE / 1e6, "MB/s");
    measure("lz_unpack", unpack, 1920, SIZE / 1e6, "MB/s");
    return 0;
}
