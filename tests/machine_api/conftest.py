"""A machine that counts, stores, calls and reads a device in a loop."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from powervisor import Machine
from tests.system.bare import bare_machine

LOOP = """
    devices
    load32 r4, DEVICES + 0xE00A4  # GUTS SVR
    load32 r6, RESULTS
    load32 r7, DEVICES + 0x4500   # serial0
    li    r3, 0
again:
    addi  r3, r3, 1
count:
    stw   r3, 4(r6)
    lwz   r5, 0(r4)
svr_read:
    stw   r5, 0(r6)
    stb   r3, 7(r7)               # scratch register
    lbz   r8, 7(r7)
    stb   r8, 15(r6)
    b     again
"""


@pytest.fixture
def looping() -> Iterator[Machine]:
    """LOOP, before its first instruction."""
    with bare_machine(LOOP) as machine:
        yield machine
