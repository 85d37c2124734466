"""Which loops are taken for waiting: those that nothing but another processor's store can end."""

from __future__ import annotations

import ctypes

import pytest

from powervisor.insns import assemble
from powervisor.native.ints import u32, u64
from powervisor.vcpu.spinning import waits

BASE = 0x1000


def begins_with_a_wait(*lines: str, count: int | None = None) -> bool:
    """Whether code is taken for a loop that waits; branches name addresses from 0x1000."""
    words = [assemble(line, BASE + 4 * n) for n, line in enumerate(lines)]
    code = ctypes.create_string_buffer(b"".join(int(word).to_bytes(4, "big") for word in words))
    return bool(waits(u64(ctypes.addressof(code)), u32(len(words) if count is None else count)))


LOCK = ("lwz r9,0(r3)", "cmpwi r9,0", "bne 0x1000")
FLAG = ("lwz r9,128(r2)", "andi. r9,r9,4", "bne 0x1020", "lwz r9,0(r31)", "cmpwi r9,0", "bne 0x1000")
RESERVED = ("lwarx r9,0,r3", "cmpwi r9,0", "bne 0x1000")
HINTED = ("or r1,r1,r1", "lwz r9,0(r3)", "cmpwi r9,0", "beq 0x1020", "or r2,r2,r2", "b 0x1000")


@pytest.mark.parametrize("loop", [LOCK, FLAG, RESERVED, HINTED])
def test_a_loop_over_loads_and_compares_waits(loop):
    assert begins_with_a_wait(*loop)


@pytest.mark.parametrize(
    "loop",
    [
        ("lwz r9,0(r9)", "cmpwi r9,0", "bne 0x1000"),  # follows a list
        ("lwz r9,0(r3)", "addi r3,r3,4", "cmpwi r9,0", "bne 0x1000"),
        ("lwz r9,0(r3)", "stw r9,4(r3)", "cmpwi r9,0", "bne 0x1000"),
        ("lwz r9,0(r3)", "cmpwi r9,0", "bdnz 0x1000"),
        ("lwzu r9,4(r3)", "cmpwi r9,0", "bne 0x1000"),
        ("lwz r9,0(r3)", "cmpwi r9,0", "bne 0x1004"),
        ("lwz r9,0(r3)", "bl 0x1000"),
    ],
)
def test_a_loop_that_comes_to_an_end_itself_does_not(loop):
    assert not begins_with_a_wait(*loop)


def test_code_is_looked_at_up_to_the_end_of_its_page():
    assert not begins_with_a_wait(*LOCK, count=2)
