"""Words of the native subset that only the built-in guest has: strings, volatile memory, assembly routines.

Addresses in the guest are u32. The bodies below never run: `compiler.GuestCompiler` emits these words.
"""

from __future__ import annotations

from typing import Any, NoReturn

from ...native.lang import word


def _only_in_the_guest(name: str) -> NoReturn:
    raise RuntimeError(f"{name}() exists in the built-in guest only")


@word
def text(string: str) -> Any:
    """Address of a string constant, which ends with a NUL."""
    _only_in_the_guest("text")


@word
def blob(data: bytes) -> Any:
    """Address of constant bytes."""
    _only_in_the_guest("blob")


@word
def the(kind: type) -> Any:
    """The one instance of a Struct, zeroed at start."""
    _only_in_the_guest("the")


@word
def peek(kind: Any, address: Any) -> Any:
    """Read an integer at an address, exactly once (device registers, words other CPUs write)."""
    _only_in_the_guest("peek")


@word
def poke(kind: Any, address: Any, value: Any) -> None:
    """Write an integer at an address, exactly once."""
    _only_in_the_guest("poke")


@word
def routine(result: Any, name: str, *arguments: Any) -> Any:
    """Call an assembly routine; `result` is an integer type or None."""
    _only_in_the_guest("routine")


@word
def symbol(name: str) -> Any:
    """Address of a label in the assembly source."""
    _only_in_the_guest("symbol")


@word
def say(form: str, *values: Any) -> None:
    """Print: `{}` decimal, `{:x}` hexadecimal, `{:s}` the string at an address; width and fill as Python has them."""
    _only_in_the_guest("say")
