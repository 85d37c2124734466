"""What QEMU cannot tell: e6500's own instructions, estimates, availability, byte order, and reset."""

from __future__ import annotations

import random
import struct
from typing import Any

import pytest

from powervisor.insns import TABLE
from powervisor.isa import cores
from powervisor.isa.registers import ESR, IVOR, MAS2, MSR, SPR, VSCR
from powervisor.native.vectors import u8x16, u16x8, u32x4
from powervisor.translate.oracle import Oracle
from powervisor.vcpu.modes import update_mode
from tests.altivec.values import SINGLES, integers

ENTRY = {entry.name: entry for entry in TABLE}
NAN = 0x7FC0_0000


@pytest.fixture
def machine() -> Oracle:
    """An e6500 in hypervisor state with one megabyte mapped one to one."""
    made = Oracle("e6500")
    entry = made.cpu.tlb.tlb1[0]
    entry.mask, entry.mas1, entry.mas3, entry.valid = 0xF_FFFF, 0x8000_0000, 0x3F, 1
    made.cpu.tlb.tlb1_used = 1
    made.cpu.pc = 0x1000
    return made


def run(machine: Oracle, name: str, **fields: int) -> Any:
    """Execute one instruction; the vCPU."""
    machine.execute(ENTRY[name].encode(**fields))
    return machine.cpu


@pytest.mark.parametrize(("name", "T"), (("vabsdub", u8x16), ("vabsduh", u16x8), ("vabsduw", u32x4)))
def test_absolute_difference(machine: Oracle, name: str, T: Any) -> None:
    rng = random.Random(1)
    for _ in range(50):
        machine.cpu.vr[1], machine.cpu.vr[2] = integers(rng), integers(rng)
        a, b = T(machine.cpu.vr[1]).lanes, T(machine.cpu.vr[2]).lanes
        cpu = run(machine, name, vrt=3, vra=1, vrb=2)
        assert T(cpu.vr[3]).lanes == tuple(abs(x - y) for x, y in zip(a, b, strict=True))


def test_general_registers_move_into_vectors(machine: Oracle) -> None:
    machine.cpu.gpr[4], machine.cpu.gpr[5] = 0x0123_4567_89AB_CDEF, 0xFEDC_BA98_7654_3210
    assert run(machine, "mvidsplt", vrt=1, ra=4, rb=5).vr[1] == 0x0123_4567_89AB_CDEF_FEDC_BA98_7654_3210
    assert run(machine, "mviwsplt", vrt=2, ra=4, rb=5).vr[2] == 0x89AB_CDEF_7654_3210_89AB_CDEF_7654_3210


def number(bits: int) -> float:
    value: float = struct.unpack(">f", bits.to_bytes(4, "big"))[0]
    return value


@pytest.mark.parametrize("nj", (0, VSCR.NJ))
def test_power_of_two_is_near_and_exact_of_integers(machine: Oracle, nj: int) -> None:
    rng = random.Random(2)
    tries = [*SINGLES, *(x | 0x8000_0000 for x in SINGLES), *(rng.getrandbits(32) for _ in range(300))]
    tries += [0x3E80_0000 + rng.getrandbits(26) ^ rng.choice((0, 0x8000_0000)) for _ in range(300)]
    machine.cpu.vscr = nj
    for x in tries:
        machine.cpu.vr[1] = x << 96
        got = int(run(machine, "vexptefp", vrt=2, vrb=1).vr[2]) >> 96
        a, wanted = number(x), 0.0
        if a != a:
            assert got == x | 0x0040_0000
            continue
        if a >= 128:
            assert got == 0x7F80_0000
            continue
        wanted = 2.0**a if a > -1000 else 0.0
        if nj and wanted < 2**-126:
            assert got == 0
        else:
            assert abs(number(got) - wanted) <= wanted * 2**-20 + 2**-149
            if a >= -149 and a == int(a):
                assert number(got) == wanted


def test_power_and_logarithm_of_infinities(machine: Oracle) -> None:
    machine.cpu.vr[1] = int(u32x4.of((0x7F80_0000, 0xFF80_0000, 0, 0x8000_0000)))
    assert u32x4(run(machine, "vexptefp", vrt=2, vrb=1).vr[2]).lanes == (0x7F80_0000, 0, 0x3F80_0000, 0x3F80_0000)
    assert u32x4(run(machine, "vlogefp", vrt=2, vrb=1).vr[2]).lanes == (0x7F80_0000, NAN, 0xFF80_0000, 0xFF80_0000)


def test_tininess_comes_before_rounding(machine: Oracle) -> None:
    """With VSCR[NJ]=1 a product that reaches the smallest normal only by rounding is a zero."""
    below, just = 0x3F7F_FFFF, 0x0080_0000  # (1 - 2^-24) * 2^-126
    machine.cpu.vr[1] = int(u32x4.of((below, below | 0x8000_0000, 0x3F80_0000, below)))
    machine.cpu.vr[2] = int(u32x4.of((just,) * 4))
    machine.cpu.vr[3] = int(u32x4.of((0, 0x8000_0000, 0, 0x0000_0000)))
    machine.cpu.vscr = VSCR.NJ
    got = u32x4(run(machine, "vmaddfp", vrt=4, vra=1, vrc=2, vrb=3).vr[4]).lanes
    assert got == (0, 0x8000_0000, 0x0080_0000, 0)
    machine.cpu.vscr = 0
    got = u32x4(run(machine, "vmaddfp", vrt=4, vra=1, vrc=2, vrb=3).vr[4]).lanes
    assert got == (0x0080_0000, 0x8080_0000, 0x0080_0000, 0x0080_0000)


@pytest.mark.parametrize("name", sorted(ENTRY[name].name for name in ENTRY if ENTRY[name].group.startswith("altivec")))
def test_without_msr_vec_the_instruction_is_unavailable(machine: Oracle, name: str) -> None:
    cpu = machine.cpu
    cpu.msr = int(MSR.ME | MSR.CM)
    update_mode(cpu)
    cpu.spr[SPR.IVOR32] = 0x200
    cpu.spr[SPR.IVPR] = 0x8_0000
    before = [int(cpu.vr[n]) for n in range(32)]
    machine.execute(ENTRY[name].encode())
    if name.startswith("ds"):
        assert cpu.pc == 0x1004  # data stream hints are no-operations whatever MSR[VEC]
    else:
        assert cpu.pc == 0x8_0200 and cpu.spr[SPR.SRR0] == 0x1000 and cpu.spr[SPR.ESR] == ESR.SPV
    assert before == [int(cpu.vr[n]) for n in range(32)]


@pytest.mark.parametrize("core", ("e500mc", "e5500"))
def test_other_cores_have_no_altivec(core: str) -> None:
    table = TABLE.for_core(cores.get(core).categories)
    assert not [entry.name for entry in table if entry.group.startswith("altivec")]
    assert table.decode(ENTRY["vaddubm"].encode(vrt=1)) is None


def test_reset_leaves_non_java_mode() -> None:
    assert Oracle("e6500").cpu.vscr == VSCR.NJ


def test_vscr_keeps_only_its_two_bits(machine: Oracle) -> None:
    machine.cpu.vr[1] = (1 << 128) - 1
    assert run(machine, "mtvscr", vrb=1).vscr == VSCR.NJ | VSCR.SAT
    assert run(machine, "mfvscr", vrt=2).vr[2] == VSCR.NJ | VSCR.SAT


# ---- pages with the E attribute --------------------------------------------------------------------------------------


@pytest.fixture
def little(machine: Oracle) -> Oracle:
    """The same with a little-endian page."""
    machine.cpu.tlb.tlb1[0].mas2 = MAS2.E
    return machine


def test_quadwords_of_a_little_endian_page_are_reversed(little: Oracle) -> None:
    little.ram[0x2000:0x2010] = bytes(range(16))
    little.cpu.gpr[3] = 0x2005
    cpu = run(little, "lvx", vrt=1, ra=0, rb=3)
    assert cpu.vr[1] == 0x0F0E0D0C_0B0A0908_07060504_03020100
    cpu.vr[2] = 0x00112233_44556677_8899AABB_CCDDEEFF
    run(little, "stvx", vrs=2, ra=0, rb=3)
    assert little.ram[0x2000:0x2010] == bytes.fromhex("ffeeddccbbaa99887766554433221100")


@pytest.mark.parametrize(("letter", "size"), (("b", 1), ("h", 2), ("w", 4)))
@pytest.mark.parametrize("offset", range(0, 16, 3))
def test_elements_of_a_little_endian_page_lie_as_in_a_quadword(
    little: Oracle, letter: str, size: int, offset: int
) -> None:
    little.ram[0x2000:0x2010] = bytes(range(0xA0, 0xB0))
    little.cpu.gpr[3] = 0x2000 + offset
    at = offset & -size
    whole = int(run(little, "lvx", vrt=1, ra=0, rb=3).vr[1])
    little.cpu.vr[2] = 0
    element = int(run(little, f"lve{letter}x", vrt=2, ra=0, rb=3).vr[2])
    mask = (1 << 8 * size) - 1 << 8 * at
    assert element & mask == whole & mask
    little.cpu.vr[4] = whole ^ (1 << 128) - 1
    run(little, f"stve{letter}x", vrs=4, ra=0, rb=3)
    changed = bytes(x ^ 0xFF if at <= n < at + size else x for n, x in enumerate(range(0xA0, 0xB0)))
    assert little.ram[0x2000:0x2010] == changed


def test_a_store_without_permission_changes_nothing(machine: Oracle) -> None:
    cpu = machine.cpu
    cpu.tlb.tlb1[0].mas3 = 0x33  # no write
    cpu.spr[SPR.IVPR], cpu.spr[SPR.IVOR0 + IVOR.DATA_STORAGE] = 0x8_0000, 0x300
    cpu.gpr[3] = 0x2000
    machine.ram[0x2000:0x2010] = bytes(16)
    cpu.vr[1] = (1 << 128) - 1
    run(machine, "stvx", vrs=1, ra=0, rb=3)
    assert cpu.pc == 0x8_0300 and cpu.spr[SPR.DEAR] == 0x2000 and cpu.spr[SPR.ESR] & ESR.ST
    assert machine.ram[0x2000:0x2010] == bytes(16)


@pytest.mark.parametrize(("name", "size"), (("vx", 16), ("vebx", 1), ("vehx", 2), ("vewx", 4)))
def test_addresses_have_32_bits_in_32_bit_mode(machine: Oracle, name: str, size: int) -> None:
    cpu = machine.cpu
    cpu.msr = int(MSR.VEC)
    update_mode(cpu)
    machine.ram[0x2000:0x2010] = bytes(range(16))
    cpu.gpr[3] = 0xFEDC_BA98_0000_2007
    at = 7 & -size
    cpu.vr[1] = 0x1011_1213_1415_1617_1819_1A1B_1C1D_1E1F
    run(machine, f"st{name}", vrs=1, ra=0, rb=3)
    stored = bytes(n + 16 if at <= n < at + size else n for n in range(16))
    assert machine.ram[0x2000:0x2010] == stored
    run(machine, f"l{name}", vrt=2, ra=0, rb=3)
    assert int(cpu.vr[2]).to_bytes(16, "big")[at : at + size] == stored[at : at + size]
