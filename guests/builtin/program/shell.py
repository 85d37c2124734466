"""The prompt."""

from __future__ import annotations

from ....isa.syntax import spr_names
from ....native.ints import u8, u32, u64
from ....native.lang import NativeFunction, field_addr, native, static
from ..words import blob, peek, poke, say, text, the
from .bench import benchmark
from .board import poweroff, reboot
from .checks import begin, finish
from .console import length_of, stopped
from .core_checks import check_core
from .cpu import faulted, read_safely, read_spr, this, through_window, write_safely
from .editor import read_line
from .identity import print_all
from .mmu_checks import check_memory, check_mmu
from .smp_checks import check_smp
from .state import LINE_SIZE, Board, Console, Scratch
from .strings import cut_word, number_at, printable, same, same_letters, skip_spaces
from .time_checks import check_delivery, check_time
from .tree import find, print_tree, root

SPR_TABLE = b"".join(number.to_bytes(2, "big") + name.encode() + b"\0" for number, name in spr_names().items())
SPR_COUNT = len(spr_names())
SPR_LIMIT = 1024
ROW = 16
DUMP_BYTES = 64
COLUMNS = 3
SPR_NAME = f"  {{:<{max(map(len, spr_names().values())) + 2}s}}"


# ---- commands ------------------------------------------------------------------------------------------------------
# Each gets the rest of its line.


@native
def do_help(rest: u32) -> None:
    """What there is."""
    for usage, what, _ in static(COMMANDS):
        say("  {:<24s}{:s}\n", text(usage), text(what))
    say("Numbers are decimal, or hexadecimal with 0x; what is shown with 0x can be typed so.\n")


@native
def do_info(rest: u32) -> None:
    """The machine."""
    print_all()


@native
def do_dt(rest: u32) -> None:
    """A node of the device tree, or all."""
    node = find(rest) if peek(u8, rest) != 0 else root()
    if node == 0:
        say("dt: no node {:s}; a path such as /soc/serial@4500, or an alias\n", rest)
    else:
        print_tree(node)


@native
def test() -> None:
    """Every test."""
    begin()
    check_core()
    check_mmu()
    check_memory()
    check_time()
    check_delivery()
    check_smp()
    finish()


@native
def do_test(rest: u32) -> None:
    """Every test."""
    test()


@native
def do_timer(rest: u32) -> None:
    """Tests of timers."""
    begin()
    check_time()
    finish()


@native
def do_irq(rest: u32) -> None:
    """Tests of interrupt delivery."""
    begin()
    check_delivery()
    finish()


@native
def do_smp(rest: u32) -> None:
    """Tests of the CPUs together."""
    begin()
    check_smp()
    finish()


@native
def do_bench(rest: u32) -> None:
    """Measurements."""
    benchmark()


@native
def do_echo(rest: u32) -> None:
    """Say it again."""
    say("{:s}\n", rest)


@native
def do_reboot(rest: u32) -> None:
    """Reset the board."""
    reboot()


@native
def do_poweroff(rest: u32) -> None:
    """Switch the board off."""
    poweroff()


@native
def bus_error(address: u64) -> None:
    """Tell that nothing answered."""
    say("0x{:x}: nothing answers there (interrupt {})\n", address, this().fault - 1)


@native
def arguments(rest: u32, first: u64, second: u64) -> tuple[u32, u64, u64]:
    """Up to two numbers with their defaults; how many were given, 9 when one is none."""
    count = u32(0)
    a, b = first, second
    at = rest
    while peek(u8, at) != 0:
        after = cut_word(at)
        good, value = number_at(at)
        if not good or count == 2:
            return u32(9), a, b
        if count == 0:
            a = value
        else:
            b = value
        count += 1
        at = after
    return count, a, b


@native
def do_mem(rest: u32) -> None:
    """Physical memory in hexadecimal and as text."""
    count, address, length = arguments(rest, u64(0), u64(DUMP_BYTES))
    if count == 0 or count > 2:
        say("usage: mem ADDR [LEN], numbers decimal, or hexadecimal with 0x\n")
        return
    end = address + length
    row = address & ~u64(ROW - 1)
    while row < end and not stopped():
        first = u32(address - row) if address > row else u32(0)
        last = u32(end - row) if end - row < ROW else u32(ROW)
        if not read_row(row, first, last):
            return
        print_row(row, first, last)
        row += ROW


@native
def read_row(row: u64, first: u32, last: u32) -> bool:
    """Read some bytes of a row, each once; whether all answered."""
    for n in range(first, last):
        the(Scratch).row[n] = u8(read_safely(through_window(row + u64(n)), 1))
        if faulted():
            bus_error(row + u64(n))
            return False
    return True


@native
def print_row(row: u64, first: u32, last: u32) -> None:
    """Show what was read."""
    say("0x{:010x} ", row)
    for n in range(ROW):
        if n < first or n >= last:
            say("   ")
        else:
            say(" {:02x}", the(Scratch).row[n])
    say("  ")
    for n in range(last):
        say("{:s}", character(the(Scratch).row[n]) if n >= first else text(" "))
    say("\n")


@native
def character(byte: u8) -> u32:
    """A byte as a string of one character, a dot when it is not visible."""
    line = u32(field_addr(the(Console), "character"))
    poke(u8, line, byte if printable(byte) else u8(ord(".")))
    return line


@native
def width_ok(size: u64) -> bool:
    """Whether an access of so many bytes exists."""
    return size == 1 or size == 2 or size == 4


@native
def do_peek(rest: u32) -> None:
    """One read of a physical address."""
    count, address, size = arguments(rest, u64(0), u64(4))
    if count == 0 or count > 2 or not width_ok(size) or address & size - 1 != 0:
        say("usage: peek ADDR [1|2|4], the address a multiple of the size\n")
        return
    value = read_safely(through_window(address), u32(size))
    if faulted():
        bus_error(address)
    else:
        say("0x{:x}: 0x{:x}\n", address, value)


@native
def do_poke(rest: u32) -> None:
    """One write of a word to a physical address."""
    count, address, value = arguments(rest, u64(0), u64(0))
    if count != 2 or address & 3 != 0 or value >> 32 != 0:
        say("usage: poke ADDR VALUE, a word to a multiple of 4\n")
        return
    write_safely(through_window(address), 4, u32(value))
    if faulted():
        bus_error(address)


@native
def spr_number(name: u32) -> u32:
    """The number of a register by name or number; SPR_LIMIT when there is none."""
    good, value = number_at(name)
    if good:
        return u32(value) if value < SPR_LIMIT else u32(SPR_LIMIT)
    at = blob(SPR_TABLE)
    for _ in range(SPR_COUNT):
        if same_letters(name, at + 2):
            return u32(peek(u8, at)) << 8 | u32(peek(u8, at + 1))
        at += length_of(at + 2) + 3
    return u32(SPR_LIMIT)


@native
def print_spr(value: u64) -> None:
    """A register's value in the core's width."""
    if the(Board).wide:
        say("0x{:016x}", value)
    else:
        say("0x{:08x}", value)


@native
def print_sprs() -> None:
    """Every register that can be read."""
    at = blob(SPR_TABLE)
    column = u32(0)
    for _ in range(SPR_COUNT):
        if stopped():
            return
        value = read_spr(u32(peek(u8, at)) << 8 | u32(peek(u8, at + 1)))
        if not faulted():
            say(SPR_NAME, at + 2)
            print_spr(value)
            column += 1
            if column % COLUMNS == 0:
                say("\n")
        at += length_of(at + 2) + 3
    if column % COLUMNS != 0:
        say("\n")


@native
def do_spr(rest: u32) -> None:
    """A special-purpose register."""
    if peek(u8, rest) == 0:
        print_sprs()
        return
    number = spr_number(rest)
    if number == SPR_LIMIT:
        say("spr: no register {:s}; a name such as PVR, or a number (287, 0x11f) below {}\n", rest, SPR_LIMIT)
        return
    value = read_spr(number)
    if faulted():
        say("spr {}: this core has no such register, or it cannot be read\n", number)
    else:
        say("spr {}: ", number)
        print_spr(value)
        say("\n")


COMMANDS: tuple[tuple[str, str, NativeFunction], ...] = (
    ("help", "this list", do_help),
    ("info", "core, memory, board, devices", do_info),
    ("dt [PATH]", "the device tree, or a node and what is below it", do_dt),
    ("test", "every test", do_test),
    ("timer", "time base and decrementer", do_timer),
    ("irq", "doorbell, MPIC: IPIs, timer, serial line", do_irq),
    ("smp", "the CPUs together: lwarx, locks, IPIs, clocks", do_smp),
    ("bench", "how fast this is", do_bench),
    ("mem ADDR [LEN]", "physical memory", do_mem),
    ("peek ADDR [SIZE]", "read 1, 2 or 4 bytes at a physical address, once", do_peek),
    ("poke ADDR VALUE", "write a word to a physical address", do_poke),
    ("spr [NAME|NUMBER]", "a special-purpose register, or all", do_spr),
    ("echo TEXT", "say it", do_echo),
    ("reboot", "reset the board (global utilities)", do_reboot),
    ("poweroff", "switch the board off (GPIO line 0)", do_poweroff),
)


# ---- the prompt ----------------------------------------------------------------------------------------------------


@native
def execute(line: u32) -> None:
    """Do what a line says."""
    word = skip_spaces(line)
    if peek(u8, word) == 0:
        return
    rest = cut_word(word)
    for usage, _, command in static(COMMANDS):
        if same(word, text(usage.split()[0])):
            command(rest)
            return
    say("{:s}: no such command; help lists them\n", word)


@native
def execute_all(commands: u32) -> None:
    """Do what a string of commands with `;` between them says."""
    line = u32(field_addr(the(Console), "line"))
    at = commands
    while peek(u8, at) != 0:
        n = u32(0)
        while peek(u8, at + n) != 0 and peek(u8, at + n) != ord(";") and n < LINE_SIZE - 1:
            poke(u8, line + n, peek(u8, at + n))
            n += 1
        poke(u8, line + n, u8(0))
        say("> {:s}\n", line)
        execute(line)
        at += n
        if peek(u8, at) == ord(";"):
            at = skip_spaces(at + 1)


@native
def prompt() -> None:
    """Ask for commands for ever."""
    while True:
        say("> ")
        execute(read_line())
