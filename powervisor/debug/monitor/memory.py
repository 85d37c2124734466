"""Commands about memory and values."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial

from ...errors import UserError
from ...insns import disassemble
from ...machine.memory import Unmapped
from .command import command
from .monitor import Monitor

_UNITS = {"b": 1, "h": 2, "w": 4, "g": 8}
_FORMATS = "xduoc"
_MOST = 4096
_FORMAT = re.compile(rf"/(\d*)([i{_FORMATS}]?)([{''.join(_UNITS)}]?)|/(\d*)([{''.join(_UNITS)}])([{_FORMATS}]?)")


@command("x [/FORMAT] ADDRESS", "memory as the cpu sees it: x /8xw $r1, x /4i $pc")
def x(monitor: Monitor, words: list[str]) -> str:
    """Memory through the chosen vCPU's translations."""
    return _examine(monitor, words, partial(monitor.control.read, monitor.vcpu))


@command("xp [/FORMAT] ADDRESS", "physical memory, devices' registers too")
def xp(monitor: Monitor, words: list[str]) -> str:
    """Physical memory."""
    return _examine(monitor, words, monitor.control.read_physical)


@command("print [/FORMAT] EXPRESSION", "a value: print $r1 + 0x10, print /d $dec")
def print_(monitor: Monitor, words: list[str]) -> str:
    """The value of an expression."""
    _, letter, unit, words = _form(words, "print /x EXPRESSION (x, d, u, o or c)")
    if letter == "i" or not words:
        raise UserError("write print /x EXPRESSION (x, d, u, o or c)")
    size = _UNITS[unit] if unit else 8
    return _shown(monitor.number(" ".join(words)) & (1 << 8 * size) - 1, letter, size, pad=False)


@command("gva2gpa ADDRESS", "the physical address behind an effective one")
def gva2gpa(monitor: Monitor, words: list[str]) -> str:
    """Where an effective address leads."""
    if not words:
        raise UserError("write gva2gpa ADDRESS")
    pa = monitor.vcpu.translate(monitor.number(" ".join(words)))
    if pa is None:
        raise Unmapped("no translation now")
    return f"0x{pa:x}"


def _form(words: list[str], usage: str) -> tuple[int, str, str, list[str]]:
    """Count, letter and unit of /FORMAT, and the words after it."""
    if not words or not words[0].startswith("/"):
        return 1, "x", "", words
    found = _FORMAT.fullmatch(words[0])
    if found is None:
        raise UserError(f"write {usage}")
    count, letter, unit = found.group(1, 2, 3) if found[1] is not None else found.group(4, 6, 5)
    return min(int(count or 1), _MOST), letter or "x", unit, words[1:]


def _examine(monitor: Monitor, words: list[str], read: Callable[[int, int], bytes]) -> str:
    usage = "x /COUNTxw ADDRESS (x, d, u, o, c or i for instructions; b, h, w or g for 1, 2, 4 or 8 bytes)"
    count, letter, unit, words = _form(words, usage)
    if not words:
        raise UserError(f"write {usage}")
    at = monitor.number(" ".join(words))
    lines = _lines(at, count, letter, _UNITS[unit] if unit else 1 if letter == "c" else 4, read)
    return f"{monitor.symbols.text(at).strip()}\n".lstrip() * (letter == "i") + "\n".join(lines)


def _lines(at: int, count: int, letter: str, size: int, read: Callable[[int, int], bytes]) -> Iterator[str]:
    if letter == "i":
        data = read(at, 4 * count)
        for n in range(0, len(data) - 3, 4):
            word = int.from_bytes(data[n : n + 4], "big")
            yield f"0x{at + n:x}: {word:08x}  {disassemble(word, at + n)}"
        return
    data = read(at, size * count)
    values = [
        _shown(int.from_bytes(data[n : n + size], "big"), letter, size, pad=True)
        for n in range(0, len(data) - size + 1, size)
    ]
    each = max(16 // size, 1)
    for n in range(0, len(values), each):
        yield f"0x{at + size * n:x}: {' '.join(values[n : n + each])}"


def _shown(value: int, letter: str, size: int, pad: bool) -> str:
    """A number of so many bytes as x, d, u, o or c asks; `pad` for columns."""
    match letter:
        case "d":
            signed = value - (1 << 8 * size) if value >> 8 * size - 1 else value
            return f"{signed:{len(str(1 << 8 * size)) + 1 if pad else 0}}"
        case "u":
            return f"{value:{len(str(1 << 8 * size)) if pad else 0}}"
        case "o":
            return f"0{value:0{-(-8 * size // 3) if pad else 0}o}"
        case "c":
            return repr(chr(value & 0xFF)) if 0x20 <= value & 0xFF < 0x7F else f"'\\x{value & 0xFF:02x}'"
    return f"{value:0{2 * size}x}" if pad else f"0x{value:x}"
