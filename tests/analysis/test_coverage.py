"""Coverage says what was executed, no more and no less, in the formats of the tools that read it."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from powervisor import Machine
from powervisor.analysis.coverage import Coverage
from powervisor.analysis.symbols import Symbols
from powervisor.errors import UserError
from powervisor.hv.tracing import Listening, Trace
from tests.support.waiting import until
from tests.system.bare import bare_machine

from .programs import compiled, needs_compiler, until_done

BRANCHES = """
    vector 408, handler
    li    r3, 0
    li    r7, 0
    li    r5, 40
    mtctr r5
    load32 r9, table
    b     loop
never:
    li    r4, 1
    b     loop
loop:
    addi  r3, r3, 1
    andi. r4, r3, 3
    beq   fourth
    cmpwi r3, 17
    bne   next
    mtlr  r9
    blr
    nop
next:
    bdnz  loop
    sc
    load32 r6, RESULTS
    stw   r3, 0(r6)
end:
    b     end
fourth:
    addi  r7, r7, 1
    cmpwi r7, 100
    bgt   never
    bl    leaf
    b     next
leaf:
    blr
    nop
table:
    b     next
    .align 4
handler:
    rfi
"""


def executed(source: str) -> set[int]:
    """Every instruction of a program, as a trace of each of them tells."""
    pcs: set[int] = set()
    with bare_machine(source) as machine:
        listener = Listening(lambda events: pcs.update(event.pc for event in events), Trace.INSN)
        machine.vm.tracing.open(listener)
        until_done(machine)
        machine.vm.tracing.close(listener)
    return pcs


def covered(coverage: Coverage) -> set[int]:
    return {at for block in coverage.blocks for at in range(block.address, block.address + block.size, 4)}


def test_what_is_covered_is_what_was_executed():
    with bare_machine(BRANCHES) as machine, Coverage(machine) as coverage:
        until_done(machine)
        machine.hold()
        found, symbols = covered(coverage), machine.symbols
    assert found == executed(BRANCHES)
    assert coverage.covers(symbols["leaf"]) and not coverage.covers(symbols["never"])


def test_what_is_covered_is_the_same_one_at_a_time():
    with bare_machine(BRANCHES) as machine, Coverage(machine) as coverage:
        machine.run(instructions=2000)  # the last thousand are stepped
        assert covered(coverage) == executed(BRANCHES)


def test_flushes_lose_nothing_and_code_that_ran_before_is_told_when_it_runs_again():
    with bare_machine(BRANCHES) as machine:
        until_done(machine)
        with Coverage(machine) as coverage:
            machine.hold()
            machine.vm.flush_code()
            assert covered(coverage) <= {machine.symbols["end"]}
            machine.release()
            until(lambda: covered(coverage))
        assert covered(coverage) == {machine.symbols["end"]}
        assert not machine.vm.state.coverage


def read_drcov(data: bytes) -> tuple[list[list[str]], list[tuple[int, int, int]]]:
    """Modules and blocks, read by the format's rules."""
    head, _, rest = data.partition(b"BB Table: ")
    lines = head.decode().splitlines()
    assert lines[0] == "DRCOV VERSION: 2" and lines[1].startswith("DRCOV FLAVOR: ")
    count = int(re.fullmatch(r"Module Table: version 2, count (\d+)", lines[2])[1])  # type: ignore[index]
    assert lines[3] == "Columns: id, base, end, entry, path"
    modules = [[cell.strip() for cell in line.split(",", 4)] for line in lines[4:]]
    assert len(modules) == count
    number, _, blocks = rest.partition(b" bbs\n")
    assert len(blocks) == 8 * int(number)
    return modules, list(struct.iter_unpack("<IHH", blocks))


PROGRAM = """
int odd(int n) { return n & 1; }
int never(int n) {
    return n + 2;
}
int main(void)
{
    int sum = 0;
    for (int n = 0; n < 10; n++)
        if (odd(n))
            sum += n;
    if (sum == 26)
        sum = never(sum);
    *DONE = sum;
    return 0;
}
"""


@needs_compiler
def test_drcov_and_lcov_files_say_the_same(tmp_path: Path):
    program = compiled(tmp_path, PROGRAM, "-O0")
    symbols = Symbols([program])
    binary, text = tmp_path / "run.drcov", tmp_path / "run.info"
    with Machine(kernel=program, memory=64 << 20, serial=[None]) as machine:
        with Coverage(machine, [binary, text], symbols):
            until_done(machine)
    modules, blocks = read_drcov(binary.read_bytes())
    assert modules[0][4] == str(program)
    base = int(modules[0][1], 16)
    assert all(number == 0 for _, _, number in blocks)
    called, never = symbols.named("odd").address - base, symbols.named("never").address - base
    assert any(start <= called < start + size for start, size, _ in blocks)
    assert not any(start <= never < start + size for start, size, _ in blocks)
    tracefile = text.read_text()
    assert f"SF:{tmp_path / 'program.c'}" in tracefile
    assert "FNDA:1,odd" in tracefile and "FNDA:0,never" in tracefile and "FNDA:1,main" in tracefile
    source = (tmp_path / "program.c").read_text().splitlines()
    hits = {int(n): int(hit) for n, hit in re.findall(r"^DA:(\d+),(\d+)$", tracefile, re.MULTILINE)}
    numbers = {line.strip(): n for n, line in enumerate(source, 1)}
    assert hits[numbers["sum += n;"]] == 1
    assert hits[numbers["return n + 2;"]] == 0
    assert f"LF:{len(hits)}\nLH:{sum(hits.values())}\nend_of_record" in tracefile


@needs_compiler
@pytest.mark.parametrize("version", ["-gdwarf-3", "-gdwarf-5"])
def test_line_tables_of_other_dwarf_versions_are_read(tmp_path: Path, version: str):
    program = compiled(tmp_path, PROGRAM, version)
    with Machine(kernel=program, memory=64 << 20, serial=[None]) as machine:
        with Coverage(machine, [tmp_path / "run.info"], Symbols([program])) as coverage:
            until_done(machine)
        assert f"SF:{tmp_path / 'program.c'}" in coverage.lcov()


def test_code_of_no_known_program_is_in_a_module_of_its_own(tmp_path: Path):
    path = tmp_path / "run.drcov"
    with bare_machine(BRANCHES) as machine, Coverage(machine, [path]):
        until_done(machine)
        loop = machine.symbols["loop"]
    modules, blocks = read_drcov(path.read_bytes())
    assert [module[4] for module in modules] == ["[0x0]"]
    assert any(start <= loop < start + size for start, size, _ in blocks)


@needs_compiler
def test_lcov_without_a_line_table_is_refused_at_once(tmp_path: Path):
    program = compiled(tmp_path, PROGRAM, "-g0")
    with Machine(kernel=program, memory=64 << 20, serial=[None]) as machine:
        with pytest.raises(UserError, match="no program with a line table .*; compile with -g and name it"):
            Coverage(machine, [tmp_path / "run.info"], Symbols([program]))
        assert not machine.vm.state.coverage


def test_a_file_that_cannot_be_written_is_refused_at_once():
    with bare_machine(BRANCHES) as machine, pytest.raises(UserError, match="/none/run.drcov: cannot be written"):
        Coverage(machine, ["/none/run.drcov"])
