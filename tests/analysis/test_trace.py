"""Traces as people see them: names, fields, filters, and mistakes told in a line."""

from __future__ import annotations

import re

import pytest

from powervisor.analysis.options import TraceOptions
from powervisor.analysis.running import trace_command
from powervisor.analysis.symbols import Symbols
from powervisor.analysis.trace import Trace
from powervisor.errors import UserError
from tests.system.bare import ORIGIN, bare_machine

from .programs import compiled, needs_compiler, until_done

DEVICES = """
    devices
    load32 r4, DEVICES + 0x4500
    li    r5, 0x83
    stb   r5, 3(r4)               # LCR of serial0
    load32 r7, DEVICES + 0xE00A4  # SVR of GUTS
    lwz   r8, 0(r7)
    load32 r7, DEVICES + 0x40000  # MPIC: GCR, and where nothing is
    lwz   r8, 0x1020(r7)
    load32 r7, DEVICES + 0x2000   # a block that nobody models
    lwz   r9, 0x10(r7)
    lwz   r9, 0x10(r7)
    stw   r9, 0x10(r7)
    load32 r6, RESULTS
    stw   r8, 0(r6)
    li    r5, 1
    stw   r5, 0(r6)
end:
    b     end
"""


def lines_of(source: str, options: str, **machine_options: object) -> list[str]:
    """What a trace of a program tells."""
    lines: list[str] = []
    with bare_machine(source, **machine_options) as machine, Trace(machine, options, write=lines.append):
        until_done(machine)
    return [line.split(maxsplit=3)[-1] for line in lines]


def test_device_accesses_name_registers_and_fields():
    lines = lines_of(DEVICES, "mmio")
    assert any(line.startswith("write serial0.lcr = 0x83 word_length=3 dlab at ") for line in lines), lines
    assert any(line.startswith("read guts.svr = 0x8") for line in lines), lines
    assert any(line.startswith("read mpic.GCR = 0x") for line in lines), lines


def test_a_device_filter_leaves_the_others_out():
    lines = lines_of(DEVICES, "mmio,device=serial0")
    assert lines and all(" serial0." in line for line in lines)


def test_an_address_filter_of_device_accesses_is_physical():
    lines = lines_of(DEVICES, "mmio,address=0xfe00e0000+0x1000")
    assert lines and all(" guts." in line for line in lines)


def test_unknown_accesses_are_told_once_each():
    lines = lines_of(DEVICES, "unknown")
    assert len(lines) == 2
    assert lines[0].startswith("read soc+0x2010 = 0x00000000: no such register at ")
    assert lines[1].startswith("write soc+0x2010 = 0x00000000: no such register at ")


def test_blocks_that_nobody_models_are_chosen_by_their_bus():
    lines = lines_of(DEVICES, "mmio,device=soc")
    assert len(lines) == 3 and all(" soc+0x2010 = " in line for line in lines)


def test_an_access_where_no_device_is_tells_of_the_machine_check():
    source = """
    vector 401, handler           # IVOR1
    map 14, 0xE0000000, 0x8, 0xE0000000, 10, 0xA
    lis   r4, 0xE000
    lis   r5, 0x0000
    ori   r5, r5, 0x1000
    mtmsr r5                      # ME
    lwz   r5, 0(r4)
    .align 4
handler:
    done
    """
    lines = lines_of(source, "unknown,irq")
    assert any(line.startswith("read 0x8e0000000 (4 bytes): nothing is there, machine check at ") for line in lines)
    assert any(line.startswith("MACHINE_CHECK at ") for line in lines)


def test_tlb_entries_and_misses_are_spelled_out():
    source = """
    vector 413, handler           # IVOR13, data TLB error
    lis   r4, 0x7000
    lwz   r5, 16(r4)
    .align 4
handler:
    map 13, 0x70000000, 0, 0x00200000, 2, 4
    done
    """
    lines = lines_of(source, "tlb,mmu,irq")
    miss = next(n for n, line in enumerate(lines) if line.startswith("TLB miss, load 70000010 (as 0 pid 0) at "))
    assert lines[miss + 1].startswith("DATA_TLB at ") and "dear 70000010" in lines[miss + 1]
    write = next(
        line for line in lines if line.startswith("tlbwe TLB1[13] 70000000 -> 200000, 4 KiB, rwx/rwx M as 0 tid 0")
    )
    assert lines.index(write) > miss


@pytest.mark.parametrize("cpu", ["e500mc", "e5500", "e6500"])
def test_instructions_show_the_registers_they_change(cpu):
    source = """
    li    r3, -1
    mtspr 272, r3                 # SPRG0
    addic. r4, r3, 2
    mtlr  r4
    load32 r6, RESULTS
    stw   r3, 0(r6)
end:
    b     end
    """
    lines = lines_of(source, f"insn,address={ORIGIN:#x}+16", cpu=cpu)
    wide = "ffffffff" if cpu == "e500mc" else "ffffffffffffffff"
    one = wide[1:].replace("f", "0") + "1"
    assert [line.split("  ", 2)[2].split(maxsplit=2) for line in lines] == [
        ["li", "r3,-1", f"r3={wide}"],
        ["mtsprg0", "r3", f"sprg0={wide}"],
        ["addic.", "r4,r3,2", f"r4={one} cr=40000000 xer=20000000"],
        ["mtlr", "r4", f"lr={one}"],
    ]


@pytest.mark.parametrize(("traced", "expected"), [(0, 0), (1, 1)])
def test_a_cpu_filter_leaves_the_others_out(traced, expected):
    source = """
    devices
    release 1, other
rest:
    b     rest
other:
    vector 408, handler           # IVOR8
    sc
    .align 4
handler:
    done
    """
    lines = lines_of(source, f"irq,cpu={traced}", cores=2)
    assert sum(line.startswith("SYSTEM_CALL at ") for line in lines) == len(lines) == expected


def test_hypercalls_show_arguments_and_results():
    source = """
    li    r3, 99
    load32 r11, 0x10001           # BYTE_CHANNEL_SEND to a handle that is none
    sc    1
    done
    """
    lines = lines_of(source, "hcall", board="ppce500,hypervisor=on")
    assert re.match(r"BYTE_CHANNEL_SEND 63 .* -> EINVAL .* at ", lines[0])


def test_waiting_and_exits_are_timed():
    lines = lines_of(DEVICES, "exit")
    assert any(re.match(r"mmio at \w+, after [\d.]+ us, answered in [\d.]+ us", line) for line in lines)


@needs_compiler
def test_symbols_name_addresses_and_filters(tmp_path):
    program = compiled(tmp_path, "int twice(int n) { return 2 * n; }\nint main(void) { *DONE = twice(21); return 0; }")
    symbols = Symbols([program])
    lines: list[str] = []
    from powervisor import Machine

    with Machine(kernel=program, memory=64 << 20, serial=[None]) as machine:
        with Trace(machine, "insn,address=twice", symbols, lines.append):
            until_done(machine)
    assert len(lines) == 2
    assert re.search(r" <twice>  \w{8}  \S+ r3", lines[0]) and "blr" in lines[1]


def test_a_trace_goes_to_its_file(tmp_path):
    path = tmp_path / "trace.txt"
    lines: list[str] = []
    with bare_machine(DEVICES) as machine, Trace(machine, f"mmio,file={path}", write=lines.append) as trace:
        until_done(machine)
    assert not lines and len(path.read_text().splitlines()) == trace.lines > 2


def test_a_full_disk_ends_the_file_not_the_guest():
    lines: list[str] = []
    with bare_machine(DEVICES) as machine, Trace(machine, "mmio,file=/dev/full", write=lines.append):
        until_done(machine)
    assert "No space left on device; what follows comes here" in lines[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("", "says nothing of what to trace; name some of insn, irq,"),
        ("device=serial0", "says nothing of what to trace"),
        ("mmoi", "unknown property 'mmoi'; did you mean mmio?"),
        ("mmio,cpu=one", "cpu=one is not a number"),
        ("mmio,cpu=3", "cpu=3: there are cpus 0 to 0"),
        ("mmio,device=uart", "device=uart: no such device; there is "),
        ("insn,address=nowhere", "address=nowhere: no such symbol; name a file that has it"),
        ("insn,address=2-1", "address=2-1 ends before it begins"),
        ("irq,lpid=x", "lpid=x is not a number"),
        ("irq,file=/none/trace.txt", "/none/trace.txt: cannot be written (No such file or directory)"),
    ],
)
def test_mistakes_are_told_in_a_line(options, message):
    with bare_machine(DEVICES) as machine:
        with pytest.raises(UserError) as refused:
            Trace(machine, options)
        assert message in str(refused.value) and "\n" not in str(refused.value)
        assert not machine.vm.observers


def test_several_values_and_switches_parse():
    options = TraceOptions.parse("mmio,irq=on,cpu=0,cpu=2,device=serial0,pid=0x10")
    assert (options.kinds, options.cpu, options.pid) == (["irq", "mmio"], (0, 2), 16)


def test_traces_are_switched_by_commands(capfd):
    with bare_machine(DEVICES) as machine:
        assert "no traces" in trace_command(machine, [])
        assert trace_command(machine, ["on", "mmio,device=serial0"]).startswith("1: mmio to the terminal")
        until_done(machine)
        assert trace_command(machine, ["off", "1"]).startswith("no traces")
        assert "serial0.lcr" in capfd.readouterr().err
        for words in (["off", "1"], ["on"], ["on", "nothing"], ["up"]):
            with pytest.raises(UserError):
                trace_command(machine, words)
        assert "only this device" in trace_command(machine, ["help"])


def test_an_instruction_that_changes_many_registers_is_one_line():
    source = """
    load32 r4, RESULTS + 64
many:
    lmw   r20, 0(r4)
    done
    """
    with bare_machine(source, cpu="e500mc") as machine:
        machine.memory[0x100040 : 0x100040 + 48] = bytes(range(1, 49))
        lines: list[str] = []
        with Trace(machine, f"insn,address={machine.symbols['many']:#x}", write=lines.append):
            until_done(machine)
    changed = " ".join(lines).split("lmw r20,0(r4)")[1].split()
    assert changed == [f"r{20 + n}={bytes(range(4 * n + 1, 4 * n + 5)).hex()}" for n in range(12)]
