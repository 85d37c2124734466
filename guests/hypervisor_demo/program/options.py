"""The boot arguments: what is broken on purpose."""

from __future__ import annotations

from ....native.ints import u8, u32
from ....native.lang import native, static
from ...builtin.program.identity import boot_arguments
from ...builtin.program.strings import cut_word, same, skip_spaces
from ...builtin.words import peek, say, text, the
from .state import Hypervisor

FAULT_TLPID, FAULT_TAG, FAULT_EXTGS, FAULT_MASK = 1, 2, 3, 4
FAULTS = (
    ("fault=tlpid", FAULT_TLPID),
    ("fault=tag", FAULT_TAG),
    ("fault=extgs", FAULT_EXTGS),
    ("fault=mask", FAULT_MASK),
)


@native
def fault_named(word: u32) -> u32:
    """The fault an option asks for, 0 when there is no such option."""
    for name, number in static(FAULTS):
        if same(word, text(name)):
            return u32(number)
    return u32(0)


@native
def read_options() -> bool:
    """Understand the boot arguments; False, after a line about it, when one means nothing."""
    at = skip_spaces(boot_arguments())
    while peek(u8, at) != 0:
        word = at
        at = cut_word(at)
        fault = fault_named(word)
        if fault == 0:
            say("hypervisor-demo: {:s}: no such option; there is", word)
            for name, _ in static(FAULTS):
                say(" {}", name)
            say("\n")
            return False
        the(Hypervisor).fault = fault
    return True
