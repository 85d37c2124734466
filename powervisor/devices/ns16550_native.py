"""The 16550's transmitter as vCPUs reach it without leaving native code.

A guest prints by reading line status and writing a byte, over and over; its interrupt handler reads what interrupts
and modem status as well. While none of these has any other effect, native code answers: bytes gather in a `Transmitter`
until Python fetches them. The device says when (`status`, `cause`, `modem`, `open`).
"""

from __future__ import annotations

from powervisor.native.ints import i64, u8, u32, u64
from powervisor.native.lang import NativeFunction, at, atomic_add, atomic_xchg, call_host, copy, field_addr, native
from powervisor.native.locks import acquire, release
from powervisor.native.struct import Array, Struct

ROOM = 4096
"""Bytes that may gather; with more the guest waits for Python."""
DATA, IIR, LSR, MSR = 0, 2, 5, 6
SYS_WRITE = 1
ASK = 0x100
"""Result of a read that only the device can answer."""
KNOWN = 0x200
"""Beside a register's byte: reading it changes nothing. Without that only the device can answer."""


class Transmitter(Struct):
    """What native code and the device share; `data` and `count` belong to the holder of `lock`."""

    lock: u32
    count: u32
    open: u32  # writing a byte only sends it
    status: u32  # what line status reads as, and KNOWN
    cause: u32  # interrupt identification likewise
    modem: u32  # modem status
    reads: u32
    waiting: u32  # Python waits for the bell, an eventfd, to which `one` is written
    bell: u32
    one: u64
    syscall: u64
    data: Array[u8, ROOM]


@native
def uart_read(address: u64, offset: u32) -> u32:
    """The byte at an offset, or ASK."""
    port = at(Transmitter, address)
    value = u32(0)
    if offset == LSR:
        value = port.status
    elif offset == IIR:
        value = port.cause
    elif offset == MSR:
        value = port.modem
    if value & KNOWN == 0:
        return u32(ASK)
    atomic_add(u32, field_addr(port, "reads"), u32(1))
    return value & 0xFF


@native
def uart_write(address: u64, offset: u32, value: u32) -> u32:
    """Write a byte: 1, or 0 when only the device can take it."""
    port = at(Transmitter, address)
    if offset != DATA:
        return u32(0)
    acquire(field_addr(port, "lock"), port.syscall)
    taken = port.open != 0 and port.count < ROOM
    if taken:
        port.data[port.count] = u8(value)
        port.count += 1
    release(field_addr(port, "lock"))
    if taken and atomic_xchg(u32, field_addr(port, "waiting"), u32(0)) != 0:
        call_host(i64, port.syscall, u64(SYS_WRITE), u64(port.bell), field_addr(port, "one"), u64(8))
    return u32(taken)


@native
def uart_take(address: u64, to: u64) -> u32:
    """Move what has gathered to a host address, ROOM bytes at most; how many there were."""
    port = at(Transmitter, address)
    acquire(field_addr(port, "lock"), port.syscall)
    count = port.count
    copy(to, field_addr(port, "data"), u64(count))
    port.count = u32(0)
    release(field_addr(port, "lock"))
    return count


ENTRY_POINTS: dict[str, NativeFunction] = {
    "read": uart_read,
    "write": uart_write,
    "take": uart_take,
}
"""What a machine compiles of this."""
