"""The board, from the device tree: clocks, RAM, the devices the guest uses; switching it off."""

from __future__ import annotations

from ....devices.gpio import POWER_OFF_LINE, Gpio, line_mask
from ....devices.guts import Guts, Rstcr
from ....native.ints import u32, u64
from ....native.lang import native
from ..words import peek, poke, routine, text, the
from . import layout
from .console import open_console
from .cpu import DEVICE, KIB4, MIB1, map_page
from .state import Board
from .tree import cell, cells64, find, find_compatible, find_property, first_child, follow, next_sibling, string


@native
def memory_size() -> u64:
    """Bytes of RAM from address 0, by the /memory nodes."""
    size = u64(0)
    node = first_child(follow(text("/")))
    while node != 0:
        at, length = find_property(node, text("reg"))
        if is_memory(node) and at != 0 and length >= 16:
            size += cells64(at + 8)
        node = next_sibling(node)
    return size


@native
def is_memory(node: u32) -> bool:
    """Whether a node describes RAM."""
    kind = string(node, text("device_type"))
    return peek(u32, kind) == int.from_bytes(b"memo", "big")


@native
def offset_of(name: u32) -> u32:
    """Offset in CCSR of the first device compatible with a name; 0 when there is none."""
    return cell(find_compatible(name), text("reg"), u32(0))


@native
def console_node() -> u32:
    """The serial line that /chosen names, else the first one, else 0."""
    at, _ = find_property(follow(text("/chosen")), text("stdout-path"))
    node = find(at) if at != 0 else u32(0)
    return node if node != 0 else find_compatible(text("ns16550"))


@native
def read_board(tree: u32, map_size: u32) -> None:
    """Find everything, map the devices, open the console."""
    board = the(Board)
    board.tree = tree
    board.map_size = map_size
    ranges, _ = find_property(follow(text("/soc")), text("ranges"))
    if ranges == 0:
        return
    board.ccsr = cells64(ranges + 4)
    board.ram = memory_size()
    board.timebase_hz = cell(first_child(follow(text("/cpus"))), text("timebase-frequency"), u32(0))
    map_devices()
    uart = console_node()
    if uart != 0:
        board.uart = cell(uart, text("reg"), u32(0))
        board.uart_source = cell(uart, text("interrupts"), u32(0))
        open_console(u32(layout.CCSR) + board.uart)
    board.mpic = offset_of(text("fsl,mpic"))
    board.guts = offset_of(text("fsl,mpc8544-guts"))
    board.gpio = offset_of(text("fsl,qoriq-gpio"))


@native
def map_devices() -> None:
    """Map CCSR; every CPU does it for itself."""
    map_page(layout.CCSR_SLOT, layout.CCSR, the(Board).ccsr, MIB1, DEVICE)


@native
def map_spin_table(physical: u64) -> u32:
    """Effective address of a spin-table entry."""
    map_page(layout.SPIN_SLOT, layout.SPIN_TABLE, physical & ~u64(0xFFF), KIB4, DEVICE)
    return u32(layout.SPIN_TABLE) | u32(physical) & 0xFFF


@native
def reboot() -> None:
    """Ask the global utilities for a reset; they answer at once."""
    poke(u32, u32(layout.CCSR) + the(Board).guts + Guts.rstcr.offset, u32(Rstcr.hreset_request.mask))
    routine(None, "halt")


@native
def poweroff() -> None:
    """Drive the line that switches the board off."""
    gpio = u32(layout.CCSR) + the(Board).gpio
    line = u32(line_mask(POWER_OFF_LINE))
    direction, data = gpio + Gpio.direction.offset, gpio + Gpio.data.offset
    poke(u32, direction, peek(u32, direction) | line)
    poke(u32, data, peek(u32, data) | line)
    routine(None, "halt")
