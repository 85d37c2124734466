"""Functions of a region whose stack frames are in two pages."""

from __future__ import annotations

import pytest

from tests.system.bare import bare_machine, results

CALLS = 2000
"""Of a function, at each place of the stack pointer."""
FRAME = """
    .set  STACK, 0x40000000

    # TLB1 entry n: 4 KiB at an address of the stack, to physical
    .macro page n, ea, pa
    load32 r31, 0x10000000 | \\n << 16
    mtspr 624, r31
    load32 r31, 0xC0000100
    mtspr 625, r31
    load32 r31, STACK + \\ea
    mtspr 626, r31
    load32 r31, (\\pa) | 0x3F
    mtspr 627, r31
    isync
    tlbwe
    isync
    .endm

    page  5, 0x0000, 0x300000
    page  6, 0x1000, 0x200000       # not behind the other one
    MODE
    li    r3, 0
    li    r20, FIRST
places:
    load32 r1, STACK + 0x1000
    add   r1, r1, r20
    load32 r21, CALLS
calls:
    bl    sum
    addi  r21, r21, -1
    cmpwi r21, 0
    bne   calls
    addi  r20, r20, STEP
    cmpwi r20, 96
    blt   places
    load32 r9, RESULTS
    stw   r3, 4(r9)
    li    r8, 1
    stw   r8, 0(r9)
end:
    b     end

sum:                                # r3 + 15, by a frame of 80 bytes with accesses of every size
    stwu  r1, -80(r1)
    addi  r4, r3, 1
    addi  r5, r3, 2
    stw   r4, 8(r1)
    stw   r5, 12(r1)
    STORE r4, 16(r1)
    STORE r5, 24(r1)
    sth   r4, 32(r1)
    stb   r5, 34(r1)
    stw   r4, 36(r1)
    stw   r5, 76(r1)
    stw   r3, 40(r1)
    lwz   r6, 76(r1)                # r3 + 2
    lwz   r7, 36(r1)                # r3 + 1
    LOAD  r8, 24(r1)                # r3 + 2
    LOAD  r10, 16(r1)               # r3 + 1
    lbz   r11, 34(r1)               # the lowest byte of r3 + 2
    lwz   r12, 40(r1)               # r3
    lwz   r1, 0(r1)
    subf  r6, r12, r6               # 2
    subf  r7, r12, r7               # 1
    subf  r8, r12, r8               # 2
    subf  r10, r12, r10             # 1
    subf  r11, r5, r11
    rlwinm r11, r11, 0, 24, 31      # 0
    add   r6, r6, r7
    add   r6, r6, r8
    add   r6, r6, r10
    add   r6, r6, r11
    addi  r6, r6, 9
    add   r3, r12, r6
    blr
"""
INSNS_PER_CALL = 40


def program(first: int, step: int, wide: bool) -> str:
    """The frames end so many bytes, and steps more, after the stack's second page begins; with 64-bit accesses in
    64-bit mode."""
    mode = "mfmsr r31\n oris r31, r31, 0x8000\n mtmsr r31\n isync" if wide else ""
    text = FRAME.replace("MODE", mode).replace("FIRST", str(first)).replace("STEP", str(step))
    for name, narrow, in64 in (("STORE", "stw", "std"), ("LOAD", "lwz", "ld")):
        text = text.replace(name, in64 if wide else narrow)
    return text.replace("CALLS", str(CALLS))


@pytest.fixture(params=["off", "force"])
def tier1(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Without regions, and with regions of all that is met."""
    monkeypatch.setenv("POWERVISOR_TIER1", request.param)
    return str(request.param)


def check(cpu: str, first: int, step: int, wide: bool) -> int:
    """Call the function at all places and check its sums; how often a region left an instruction to its handler."""
    with bare_machine(program(first, step, wide), cpu=cpu) as machine:
        calls = CALLS * len(range(first, 96, step))
        machine.run(instructions=calls * INSNS_PER_CALL)
        assert results(machine, 2) == (1, 15 * calls & 0xFFFF_FFFF)
        return int(machine.statistics()["vcpus"][0]["counters"].get("region-stops", 0))


@pytest.mark.parametrize(("cpu", "wide"), [("e500mc", False), ("e5500", True)])
def test_frames_in_two_pages_are_as_any_and_stay_in_the_region(tier1: str, cpu: str, wide: bool) -> None:
    assert check(cpu, -16, 16, wide) < CALLS // 10


@pytest.mark.parametrize(("cpu", "wide"), [("e500mc", False), ("e5500", True)])
def test_odd_frames_in_two_pages_are_as_any(tier1: str, cpu: str, wide: bool) -> None:
    assert (check(cpu, -14, 10, wide) > CALLS) == (tier1 == "force")
