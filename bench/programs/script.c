/* A small dynamic language, compiled to code for a stack machine: tagged values, tables, functions.
 *
 * Statements: x = e; t[e] = e; while e { }; if e { } else { }; return e; fun name(a, b) { }
 * Expressions: < == + - * / % calls, t[e], {} (a new table), numbers, "strings". Functions see their own variables. */
#include "bench.h"

static const char source[] =
    "fun fib(n) { if n < 2 { return n; } return fib(n - 1) + fib(n - 2); }\n"
    "fun primes(limit) {\n"
    "  sieve = {}; i = 2; count = 0;\n"
    "  while i < limit {\n"
    "    if sieve[i] == 0 { count = count + 1; j = i * i; while j < limit { sieve[j] = 1; j = j + i; } }\n"
    "    i = i + 1;\n"
    "  }\n"
    "  return count;\n"
    "}\n"
    "fun collatz(limit) {\n"
    "  known = {}; known[1] = 1; best = 0; n = 1;\n"
    "  while n < limit {\n"
    "    x = n; steps = 0;\n"
    "    while known[x] == 0 { if x % 2 == 0 { x = x / 2; } else { x = 3 * x + 1; } steps = steps + 1; }\n"
    "    known[n] = known[x] + steps;\n"
    "    if best < known[n] { best = known[n]; }\n"
    "    n = n + 1;\n"
    "  }\n"
    "  return best;\n"
    "}\n"
    "fun words() {\n"
    "  t = {}; t[\"memory\"] = 1; t[\"interrupt\"] = 2; t[\"guest\"] = 3; i = 0; sum = 0;\n"
    "  while i < 3000 { t[\"guest\"] = t[\"guest\"] + i; sum = sum + t[\"memory\"] * t[\"interrupt\"]; i = i + 1; }\n"
    "  return sum + t[\"guest\"];\n"
    "}\n"
    "fun main() { return fib(19) * 7 + primes(9000) * 5 + collatz(1500) * 3 + words(); }\n";

enum tag { INTEGER, NAME, TABLE };
struct value { enum tag tag; int64_t data; };
struct slot { struct value key, value; bool taken; };
struct table { uint32_t used; struct slot *slots; };

enum op { PUSH, GET, SET, INDEX, STORE, NEW, LESS, EQUAL, ADD, SUB, MUL, DIV, MOD, JUMP, UNLESS, CALL, RETURN };
struct code { enum op op; int a, b; struct value value; };
struct function { uint32_t name; int entry, parameters, locals; };

enum { CODE = 1000, FUNCTIONS = 16, LOCALS = 16, STACK = 4000, TABLES = 8, SLOTS = 1 << 15 };
static struct code code[CODE];
static int code_size;
static struct function functions[FUNCTIONS];
static int function_count;
static uint32_t locals[LOCALS];
static int local_count;
static const char *at;
static struct value stack[STACK];
static struct table tables[TABLES];
static int table_count;
static struct slot slots[TABLES][SLOTS];

static void fail(const char *what)
{
    printf("script: %s at %.20s\n", what, at);
    exit(1);
}

/* ---- compiler ---- */

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || c == '_';
}

static char skip(void)
{
    while (*at == ' ' || *at == '\n')
        at++;
    return *at;
}

static bool accept(const char *word)
{
    size_t length = strlen(word);
    skip();
    if (strncmp(at, word, length) || (is_letter(*word) && is_letter(at[length])))
        return false;
    at += length;
    return true;
}

static void expect(const char *word)
{
    if (!accept(word))
        fail(word);
}

static uint32_t identifier(void)
{
    uint32_t hash = 2166136261u;
    if (!is_letter(skip()))
        fail("name expected");
    while (is_letter(*at))
        hash = mix(hash, (uint8_t)*at++);
    return hash;
}

static int emit(enum op op, int a, int b)
{
    if (code_size == CODE)
        fail("too much code");
    code[code_size] = (struct code){.op = op, .a = a, .b = b};
    return code_size++;
}

static void emit_push(enum tag tag, int64_t data)
{
    code[emit(PUSH, 0, 0)].value = (struct value){tag, data};
}

static int local(uint32_t name)
{
    for (int i = 0; i < local_count; i++)
        if (locals[i] == name)
            return i;
    if (local_count == LOCALS)
        fail("too many variables");
    locals[local_count] = name;
    return local_count++;
}

static void expression(void);

static void primary(void)
{
    if (accept("(")) {
        expression();
        expect(")");
    } else if (accept("{")) {
        expect("}");
        emit(NEW, 0, 0);
    } else if (accept("\"")) {
        uint32_t hash = 2166136261u;
        while (*at != '"')
            hash = mix(hash, (uint8_t)*at++);
        at++;
        emit_push(NAME, hash);
    } else if (skip() >= '0' && *at <= '9') {
        int64_t number = 0;
        while (*at >= '0' && *at <= '9')
            number = number * 10 + (*at++ - '0');
        emit_push(INTEGER, number);
    } else {
        uint32_t name = identifier();
        if (accept("(")) {
            int callee = 0, arguments = 0;
            while (callee < function_count && functions[callee].name != name)
                callee++;
            if (callee == function_count)
                fail("unknown function");
            for (bool more = !accept(")"); more; more = !accept(")")) {
                expression();
                arguments++;
                accept(",");
            }
            emit(CALL, callee, arguments);
        } else {
            emit(GET, local(name), 0);
        }
    }
    while (accept("[")) {
        expression();
        expect("]");
        emit(INDEX, 0, 0);
    }
}

static void product(void)
{
    primary();
    for (;;) {
        enum op op = accept("*") ? MUL : accept("/") ? DIV : accept("%") ? MOD : PUSH;
        if (op == PUSH)
            return;
        primary();
        emit(op, 0, 0);
    }
}

static void sum(void)
{
    product();
    for (;;) {
        enum op op = accept("+") ? ADD : accept("-") ? SUB : PUSH;
        if (op == PUSH)
            return;
        product();
        emit(op, 0, 0);
    }
}

static void expression(void)
{
    sum();
    enum op op = accept("<") ? LESS : accept("==") ? EQUAL : PUSH;
    if (op != PUSH) {
        sum();
        emit(op, 0, 0);
    }
}

static void block(void);

static void statement(void)
{
    if (accept("while")) {
        int top = code_size;
        expression();
        int leave = emit(UNLESS, 0, 0);
        block();
        emit(JUMP, top, 0);
        code[leave].a = code_size;
    } else if (accept("if")) {
        expression();
        int otherwise = emit(UNLESS, 0, 0);
        block();
        if (accept("else")) {
            int end = emit(JUMP, 0, 0);
            code[otherwise].a = code_size;
            block();
            code[end].a = code_size;
        } else {
            code[otherwise].a = code_size;
        }
    } else if (accept("return")) {
        expression();
        emit(RETURN, 0, 0);
        expect(";");
    } else {
        int variable = local(identifier());
        if (accept("[")) {
            emit(GET, variable, 0);
            expression();
            expect("]");
            expect("=");
            expression();
            emit(STORE, 0, 0);
        } else {
            expect("=");
            expression();
            emit(SET, variable, 0);
        }
        expect(";");
    }
}

static void block(void)
{
    expect("{");
    while (!accept("}"))
        statement();
}

static void compile(void)
{
    at = source;
    code_size = function_count = 0;
    while (skip()) {
        struct function *function = &functions[function_count++];
        expect("fun");
        *function = (struct function){.name = identifier(), .entry = code_size};
        local_count = 0;
        expect("(");
        for (bool more = !accept(")"); more; more = !accept(")")) {
            local(identifier());
            accept(",");
        }
        function->parameters = local_count;
        block();
        emit_push(INTEGER, 0);
        emit(RETURN, 0, 0);
        function->locals = local_count;
    }
}

/* ---- machine ---- */

static struct slot *find(struct table *table, struct value key)
{
    uint32_t hash = ((uint32_t)key.data * 2654435761u) ^ (uint32_t)key.tag;
    for (uint32_t n = hash >> 7;; n++) {
        struct slot *slot = &table->slots[n & (SLOTS - 1)];
        if (!slot->taken || (slot->key.tag == key.tag && slot->key.data == key.data))
            return slot;
    }
}

static struct table *table_of(struct value value)
{
    if (value.tag != TABLE)
        fail("not a table");
    return &tables[value.data];
}

static int64_t number_of(struct value value)
{
    if (value.tag != INTEGER)
        fail("not a number");
    return value.data;
}

static int64_t run(void)
{
    struct { int pc, frame; } calls[64];
    int depth = 0, frame = 0, top, pc = functions[function_count - 1].entry;
    memset(stack, 0, sizeof stack);
    top = functions[function_count - 1].locals;
    for (;;) {
        const struct code *now = &code[pc++];
        int64_t a, b;
        switch (now->op) {
        case PUSH: stack[top++] = now->value; break;
        case GET: stack[top++] = stack[frame + now->a]; break;
        case SET: stack[frame + now->a] = stack[--top]; break;
        case NEW:
            if (table_count == TABLES)
                fail("too many tables");
            tables[table_count] = (struct table){.slots = slots[table_count]};
            memset(slots[table_count], 0, sizeof *slots);
            stack[top++] = (struct value){TABLE, table_count++};
            break;
        case INDEX: {
            struct slot *slot = find(table_of(stack[top - 2]), stack[top - 1]);
            stack[--top - 1] = slot->taken ? slot->value : (struct value){INTEGER, 0};
            break;
        }
        case STORE: {
            struct table *table = table_of(stack[top - 3]);
            struct slot *slot = find(table, stack[top - 2]);
            if (!slot->taken && ++table->used == SLOTS)
                fail("table is full");
            *slot = (struct slot){stack[top - 2], stack[top - 1], true};
            top -= 3;
            break;
        }
        case JUMP: pc = now->a; break;
        case UNLESS:
            if (!number_of(stack[--top]))
                pc = now->a;
            break;
        case CALL: {
            const struct function *callee = &functions[now->a];
            if (depth == 64 || top + LOCALS > STACK - LOCALS)
                fail("stack overflow");
            calls[depth].pc = pc;
            calls[depth++].frame = frame;
            frame = top - now->b;
            for (top = frame + callee->parameters; top < frame + callee->locals; top++)
                stack[top] = (struct value){INTEGER, 0};
            pc = callee->entry;
            break;
        }
        case RETURN:
            if (!depth)
                return number_of(stack[top - 1]);
            stack[frame] = stack[top - 1];
            top = frame + 1;
            pc = calls[--depth].pc;
            frame = calls[depth].frame;
            break;
        default:
            b = number_of(stack[--top]);
            a = number_of(stack[top - 1]);
            switch (now->op) {
            case LESS: a = a < b; break;
            case EQUAL: a = a == b; break;
            case ADD: a += b; break;
            case SUB: a -= b; break;
            case MUL: a *= b; break;
            case DIV: a = b ? a / b : 0; break;
            default: a = b ? a % b : 0;
            }
            stack[top - 1].data = a;
        }
    }
}

static WORK uint32_t script(void)
{
    table_count = 0;
    compile();
    return (uint32_t)run();
}

int main(int argc, char **argv)
{
    begin(argc, argv);
    measure("script", script, 120, 1, "runs/s");
    return 0;
}
