/* A JSON parser that builds a tree, and a walk over the tree. */
#include "bench.h"

enum kind { NUL, FALSE, TRUE, NUMBER, STRING, ARRAY, OBJECT };
struct value {
    enum kind kind;
    uint32_t hash;             /* of a string */
    int64_t number;            /* in thousandths */
    struct value *first, *next; /* members of an array, alternating keys and values of an object */
};
enum { TEXT = 200000, VALUES = 60000, RECORDS = 1500 };
static char text[TEXT];
static struct value pool[VALUES];
static size_t used;
static const char *at;

static size_t write_text(void)
{
    char *out = text;
    uint32_t random = 521288629u;
    out += sprintf(out, "{\"version\": 3, \"records\": [\n");
    for (int i = 0; i < RECORDS; i++) {
        unsigned a = next_random(&random), b = next_random(&random);
        out += sprintf(out, "  {\"id\": %d, \"name\": \"unit\\t%x \\u00e9\", \"scale\": %s%u.%u, \"on\": %s, \"tags\": [", i,
                       a & 0xFFFF, a & 1 ? "-" : "", b % 5000, b % 1000, b & 8 ? "true" : "false");
        for (unsigned n = 0; n < (b >> 5) % 6; n++)
            out += sprintf(out, "%s%u", n ? ", " : "", (a >> n) % 777);
        out += sprintf(out, "], \"parent\": null}%s\n", i < RECORDS - 1 ? "," : "");
    }
    out += sprintf(out, "]}\n");
    return (size_t)(out - text);
}

static void fail(const char *what)
{
    printf("json: %s at %ld\n", what, (long)(at - text));
    exit(1);
}

static char skip(void)
{
    while (*at == ' ' || *at == '\n' || *at == '\t' || *at == '\r')
        at++;
    return *at;
}

static struct value *make(enum kind kind)
{
    if (used == VALUES)
        fail("too many values");
    pool[used] = (struct value){.kind = kind};
    return &pool[used++];
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : (fail("not a digit"), 0);
}

static struct value *parse_string(void)
{
    struct value *string = make(STRING);
    uint32_t hash = 2166136261u;
    for (at++; *at != '"'; at++) {
        uint32_t c = (uint8_t)*at;
        if (c < ' ')
            fail("control character");
        if (c == '\\') {
            switch (*++at) {
            case 'n': c = '\n'; break;
            case 't': c = '\t'; break;
            case 'r': c = '\r'; break;
            case 'b': c = '\b'; break;
            case 'f': c = '\f'; break;
            case 'u':
                c = 0;
                for (int i = 0; i < 4; i++)
                    c = c << 4 | (uint32_t)hex_digit(*++at);
                break;
            default: c = (uint8_t)*at;
            }
        }
        hash = mix(hash, c);
    }
    at++;
    string->hash = hash;
    return string;
}

static struct value *parse_number(void)
{
    struct value *number = make(NUMBER);
    bool negative = *at == '-';
    int64_t value = 0;
    at += negative;
    if (*at < '0' || *at > '9')
        fail("not a number");
    while (*at >= '0' && *at <= '9')
        value = value * 10 + (*at++ - '0');
    value *= 1000;
    if (*at == '.') {
        int64_t place = 100;
        for (at++; *at >= '0' && *at <= '9'; place /= 10)
            value += place * (*at++ - '0');
    }
    number->number = negative ? -value : value;
    return number;
}

static struct value *parse_word(const char *word, enum kind kind)
{
    size_t length = strlen(word);
    if (strncmp(at, word, length))
        fail("unknown word");
    at += length;
    return make(kind);
}

static struct value *parse_value(void);

static struct value *parse_members(enum kind kind, char end)
{
    struct value *whole = make(kind), **last = &whole->first;
    at++;
    if (skip() == end) {
        at++;
        return whole;
    }
    for (;;) {
        if (kind == OBJECT) {
            if (skip() != '"')
                fail("no key");
            *last = parse_string();
            last = &(*last)->next;
            if (skip() != ':')
                fail("no colon");
            at++;
        }
        *last = parse_value();
        last = &(*last)->next;
        char after = skip();
        at++;
        if (after == end)
            return whole;
        if (after != ',')
            fail("no comma");
    }
}

static struct value *parse_value(void)
{
    switch (skip()) {
    case '{': return parse_members(OBJECT, '}');
    case '[': return parse_members(ARRAY, ']');
    case '"': return parse_string();
    case 't': return parse_word("true", TRUE);
    case 'f': return parse_word("false", FALSE);
    case 'n': return parse_word("null", NUL);
    default: return parse_number();
    }
}

static uint32_t walk(const struct value *value, uint32_t hash)
{
    hash = mix(hash, (uint32_t)value->kind);
    if (value->kind == STRING)
        hash = mix(hash, value->hash);
    else if (value->kind == NUMBER)
        hash = mix(mix(hash, (uint32_t)(value->number >> 32)), (uint32_t)value->number);
    for (const struct value *member = value->first; member; member = member->next)
        hash = walk(member, hash);
    return hash;
}

static WORK uint32_t parse(void)
{
    used = 0;
    at = text;
    return walk(parse_value(), 0);
}

int main(int argc, char **argv)
{
    begin(argc, argv);
    size_t size = write_text();
    measure("json", parse, 720, (double)size / 1e6, "MB/s");
    return 0;
}
