"""Registers, fields, TLBs, memory and devices by name."""

from __future__ import annotations

import pytest

from powervisor import Machine
from powervisor.errors import UserError
from powervisor.machine.memory import Unmapped
from tests.system.bare import ORIGIN, RESULTS, bare_machine

CCSR = 0xF_E000_0000


def test_fields_of_a_special_purpose_register_have_names(looping: Machine):
    cpu = looping.cpus[0]
    cpu.spr.tcr = cpu.spr.tcr.replace(DIE=1, WP=2)
    assert cpu.spr["TCR"] == 0x8400_0000
    assert (cpu.spr.tcr.DIE, cpu.spr.tcr.WP, cpu.spr.tcr.FIE) == (1, 2, 0)
    assert repr(cpu.spr.tcr) == "<TCR 0x84000000 WP=0x2 DIE>"
    assert cpu.regs["tcr"] == 0x8400_0000
    cpu.spr["srr1"] = 0x8000
    assert cpu.spr.srr1.EE == 1, "SRR1 has the fields of MSR"


def test_a_wrong_register_or_field_is_named_with_what_there_is(looping: Machine):
    spr = looping.cpus[0].spr
    with pytest.raises(UserError, match="e5500 has no special-purpose register tcrr: did you mean tcr"):
        spr["tcrr"]
    with pytest.raises(AttributeError, match="no special-purpose register nonesuch"):
        _ = spr.nonesuch
    with pytest.raises(AttributeError, match="has no special-purpose register spefscr"):
        spr.spefscr = 1
    with pytest.raises(AttributeError, match="TCR has no field DEI: there are WP, WRC"):
        _ = spr.tcr.DEI
    with pytest.raises(UserError, match=r"TCR\[WP\] takes 0 to 0x3, not 0x4"):
        spr.tcr.replace(WP=4)
    with pytest.raises(UserError, match="no register 'r32'"):
        looping.cpus[0].regs["r32"]


def test_registers_of_another_core_are_not_there():
    with bare_machine("b .", cpu="e500mc") as machine:
        assert "mas7_mas3" not in machine.cpus[0].spr
        assert "lrat" not in machine.cpus[0].spr and "mas8" in machine.cpus[0].spr


def test_tlb_entries_are_objects(looping: Machine):
    looping.run(until=looping.symbols["count"])  # type: ignore[attr-defined]
    cpu = looping.cpus[0]
    entry = cpu.tlb.lookup(0xE000_4500)
    assert entry is not None
    assert (entry.tlb, entry.index, entry.ea, entry.pa, entry.size) == (1, 14, 0xE000_0000, CCSR, 1 << 20)
    assert (entry.attributes, entry.user, entry.supervisor, entry.gs, entry.lpid) == ("IG", "rwx", "rwx", False, 0)
    assert 0xE000_4500 in entry and 0xE010_0000 not in entry
    assert [(e.tlb, e.index) for e in cpu.tlb] == [(1, 0), (1, 14), (1, 15)]
    assert len(cpu.tlb) == 3
    assert cpu.tlb.lookup(0x5000_0000) is None
    assert (cpu.translate(0xE000_4500), cpu.translate(0x5000_0000)) == (CCSR + 0x4500, None)


def test_tlb_lookup_agrees_with_translation_of_a_wider_address():
    with bare_machine("b .", cpu="e500mc") as machine:
        assert machine.cpus[0].tlb.lookup(0x1_0000_1000) == machine.cpus[0].tlb.lookup(0x1000), "32-bit mode"


def test_physical_memory_has_numbers_and_layouts(looping: Machine):
    memory = looping.memory
    memory[RESULTS : RESULTS + 4] = b"\x01\x02\x03\x04"
    assert (memory.read8(RESULTS), memory.read16(RESULTS + 1), memory.read32(RESULTS)) == (1, 0x203, 0x1020304)
    memory.write64(RESULTS, 0x1122334455667788)
    assert memory.read64(RESULTS) == 0x1122334455667788
    memory.pack("HI", RESULTS, 7, 8)
    assert memory.unpack("HI", RESULTS) == (7, 8)
    assert memory[RESULTS : RESULTS + 6] == bytes([0, 7, 0, 0, 0, 8])


def test_physical_memory_reaches_device_registers(looping: Machine):
    assert looping.memory.read32(CCSR + 0xE00A4) == looping.cpus[0].spr.svr
    looping.memory.write8(CCSR + 0x4507, 0x5A)
    assert looping.devices["serial0"].registers["scratch"][0].value == 0x5A


def test_memory_where_nothing_is_is_refused(looping: Machine):
    with pytest.raises(Unmapped, match="no device or RAM at 0x8000000000"):
        looping.memory.read32(0x80_0000_0000)
    with pytest.raises(UserError, match="0x100 does not fit into 1 byte"):
        looping.memory.write8(RESULTS, 0x100)
    with pytest.raises(Unmapped, match="0x50000000: no translation on cpu0"):
        looping.cpus[0].memory.read32(0x5000_0000)


def test_effective_memory_is_what_the_program_sees(looping: Machine):
    looping.run(until=looping.symbols["count"])  # type: ignore[attr-defined]
    memory = looping.cpus[0].memory
    assert memory.read32(0xE00E_00A4) == looping.cpus[0].spr.svr
    memory.write(RESULTS, b"hello\0rest")
    assert memory.text(RESULTS) == "hello"
    assert looping.memory[RESULTS : RESULTS + 5] == b"hello"


def test_an_effective_number_across_a_missing_page_is_refused(looping: Machine):
    end = 64 << 20  # of the entry the CPU begins with
    with pytest.raises(Unmapped, match="0x4000000: nothing is there"):
        looping.cpus[0].memory.read32(end - 2)


def test_devices_have_names_and_registers_with_fields(looping: Machine):
    assert {"serial0", "mpic", "guts", "rtc", "spin-table"} <= set(looping.devices)
    assert looping.devices["serial0"].lcr.dlab == 0  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="no device serial9: did you mean serial"):
        looping.devices["serial9"]


def test_a_disassembly_begins_at_pc(looping: Machine):
    cpu = looping.cpus[0]
    looping.run(until=looping.symbols["again"])  # type: ignore[attr-defined]
    first, second = cpu.disassemble(count=2)
    assert (first.address, first.text) == (cpu.pc, "addi r3,r3,1")
    assert str(second) == f"0x{cpu.pc + 4:x}: {second.word:08x}  stw r3,4(r6)"
    assert cpu.disassemble(ORIGIN)[0].text.startswith("lis")


def test_time_stands_still_while_the_machine_is_held(looping: Machine):
    looping.run(0.05)
    then = looping.time
    assert then >= 0.05
    looping.run(0.02)
    assert then + 0.02 <= looping.time < then + 5
    looping.hold()
    assert looping.time == looping.time
