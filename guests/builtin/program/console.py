"""The serial line: output by polling, input by interrupt into a ring."""

from __future__ import annotations

from ....devices.ns16550 import IIR_TRANSMIT, Fcr, Ier, Lsr, Ns16550
from ....native.ints import u8, u32, u64
from ....native.lang import field_addr, native
from ..words import peek, poke, routine, the
from .state import RING_SIZE, Console

DATA, IER, LSR = Ns16550.data.offset, Ns16550.ier.offset, Ns16550.lsr.offset
CTRL_C = 3
IIR = FCR = Ns16550.iir.offset


@native
def put(byte: u8) -> None:
    """Send one byte."""
    uart = the(Console).uart
    if uart == 0:
        return
    while peek(u8, uart + LSR) & Lsr.transmit_empty.mask == 0:
        routine(None, "relax")
    poke(u8, uart + DATA, byte)


@native
def put_char(byte: u8) -> None:
    """Send one character; a newline gets its carriage return."""
    if byte == 10:
        put(u8(13))
    put(byte)


@native
def length_of(string: u32) -> u32:
    """Bytes before the NUL."""
    n = u32(0)
    while peek(u8, string + n) != 0:
        n += 1
    return n


@native
def put_text(string: u32, width: u32, right: bool) -> None:
    """Send a string, padded with spaces to a width."""
    length = length_of(string)
    if right:
        for _ in range(length, width):
            put(u8(32))
    for n in range(length):
        put_char(peek(u8, string + n))
    if not right:
        for _ in range(length, width):
            put(u8(32))


@native
def divide(value: u64, by: u32) -> tuple[u64, u32]:
    """Quotient and remainder, without the compiler's 64-bit division routine, which is not here."""
    if value >> 32 == 0:
        small = u32(value)
        return u64(small // by), small % by
    quotient = u64(0)
    rest = u64(0)
    for n in range(64):
        bit = u64(63 - n)
        rest = rest << 1 | (value >> bit & 1)
        if rest >= u64(by):
            rest -= u64(by)
            quotient |= u64(1) << bit
    return quotient, u32(rest)


@native
def put_number(value: u64, base: u32, width: u32, fill: u8, right: bool) -> None:
    """Send a number in a base up to 16, padded to a width."""
    count = u32(1)
    rest, digit = divide(value, base)
    while rest != 0:
        rest, digit = divide(rest, base)
        count += 1
    if right:
        for _ in range(count, width):
            put(fill)
    for n in range(count):
        rest, digit = divide(value, base)
        for _ in range(count - 1 - n):
            rest, digit = divide(rest, base)
        put(u8(digit) + (u8(48) if digit < 10 else u8(87)))
    if not right:
        for _ in range(count, width):
            put(u8(32))


# ---- input ---------------------------------------------------------------------------------------------------------


@native
def on_uart() -> bool:
    """The line's interrupt: keep what came; whether the transmitter asked."""
    console = the(Console)
    cause = peek(u8, console.uart + IIR) & 15
    while peek(u8, console.uart + LSR) & Lsr.data_ready.mask:
        after = (console.head + 1) % RING_SIZE
        if after == console.tail:
            enable_uart(0)  # the rest waits in the line until there is room
            console.full = 1
            return cause == IIR_TRANSMIT
        byte = peek(u8, console.uart + DATA)
        if byte == CTRL_C:
            console.stop = 1
        console.ring[console.head] = byte
        console.head = after
    return cause == IIR_TRANSMIT


@native
def stopped() -> bool:
    """Whether the user wants no more of what is being printed."""
    return peek(u32, u32(field_addr(the(Console), "stop"))) != 0


@native
def enable_uart(mask: u8) -> None:
    """Which interrupts the line may raise (IER)."""
    if the(Console).uart != 0:
        poke(u8, the(Console).uart + IER, mask)


@native
def open_console(uart: u32) -> None:
    """Use the line whose registers are at an address."""
    the(Console).uart = uart
    if uart != 0:
        poke(u8, uart + IER, u8(0))
        poke(u8, uart + FCR, u8(Fcr.enable.mask))


@native
def get() -> u8:
    """The next character typed; sleeps until there is one."""
    console = the(Console)
    head = u32(field_addr(console, "head"))
    while peek(u32, head) == console.tail:
        routine(None, "idle", head, console.tail)
    byte = console.ring[console.tail]
    console.tail = (console.tail + 1) % RING_SIZE
    if peek(u32, u32(field_addr(console, "full"))) != 0:
        console.full = 0
        enable_uart(Ier.receive.mask)
    return byte
