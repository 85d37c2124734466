"""The differential tests themselves: mistakes on either side are found, reported and made small."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from powervisor.insns import TABLE
from powervisor.isa import cores
from powervisor.isa.insn import Insn
from powervisor.isa.registers import SPR
from powervisor.native.ints import u64
from powervisor.testing import place, soak
from powervisor.testing.cases import CaseMaker
from powervisor.testing.differential import BLOCKS, STEPS, Pair
from powervisor.testing.sides import OracleSide
from powervisor.testing.state import ambiguous
from powervisor.testing.words import NOP, STOP

from .conftest import Pairs

ENTRIES = {entry.name: entry for entry in TABLE}
ADD = ENTRIES["add"].encode(rt=3, ra=4, rb=5)
SUBF = ENTRIES["subf"].encode(rt=6, ra=4, rb=5)


@pytest.fixture
def wrong_add(monkeypatch: pytest.MonkeyPatch) -> None:
    """An oracle whose add is off by one. The entry itself stays right: images are built from it, and kept."""
    real = OracleSide.execute

    def execute(side: OracleSide, word: int) -> tuple[Insn | None, bool]:
        entry, done = real(side, word)
        if entry is ENTRIES["add"]:
            side.cpu.gpr[entry.operands(word)["rt"]] += u64(1)
        return entry, done

    monkeypatch.setattr(OracleSide, "execute", execute)


def plain(pair: Pair, words: list[int]) -> Any:
    return CaseMaker(pair.core, "plain").case(words, False, plain=True)


def test_a_wrong_result_is_found_and_reduced_to_its_instruction(pairs: Pairs, wrong_add: None) -> None:
    pair = pairs["e500mc"]
    found = pair.check(plain(pair, [SUBF, SUBF, ADD, SUBF]))
    assert found is not None and found.way == STEPS
    small = pair.shrink(found)
    assert list(small.case.words) == [NOP, NOP, ADD, NOP]
    report = small.report()
    assert "add     r3,r4,r5" in " ".join(report.split("\t")) or "add r3,r4,r5" in " ".join(report.split())
    assert "r3: 0x" in report and "native" in report and "r4 0x" in report


def test_agreement_is_silent(pairs: Pairs) -> None:
    pair = pairs["e500mc"]
    assert pair.check(plain(pair, [SUBF, ADD])) is None


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda cpu: setattr(cpu, "vscr", 7), "vscr"),
        (lambda cpu: cpu.fpr.__setitem__(9, 1), "f9"),
        (lambda cpu: cpu.spr.__setitem__(SPR.MAS3, 5), "mas3"),
        (lambda cpu: setattr(cpu.tlb.tlb1[33], "mas3", 1), "tlb1[33].mas3"),
        (lambda cpu: cpu.cr.__setitem__(7, 0x55), "cr7"),
    ],
)
def test_every_kind_of_state_is_compared(pairs: Pairs, monkeypatch: pytest.MonkeyPatch, spoil: Any, words: str) -> None:
    pair = pairs["e5500"]
    load = pair.native.load

    def spoiled(case: Any) -> None:
        load(case)
        spoil(pair.native.cpu)

    monkeypatch.setattr(pair.native, "load", spoiled)
    found = pair.check(plain(pair, [ADD]))
    assert found is not None and any(line.startswith(f"{words}:") for line in found.details)


def test_memory_is_compared(pairs: Pairs, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = pairs["e5500"]
    load = pair.native.load

    def spoiled(case: Any) -> None:
        load(case)
        pair.native.ram[place.DATA_PA + 5] ^= 1

    monkeypatch.setattr(pair.native, "load", spoiled)
    found = pair.check(plain(pair, [ADD]))
    assert found is not None and found.details[0].startswith("RAM 0x5:")


def test_a_stale_translation_is_found_in_blocks_only(pairs: Pairs, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = pairs["e500mc"]
    monkeypatch.setattr(pair.native.engine, "drop_range", lambda *_: None)
    case = plain(pair, [ADD, SUBF])
    case.registers.gpr[:9] = [0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert pair.check(case) is None
    found = pair.check(case.with_words([ADD, ADD]))
    assert found is not None and found.way == BLOCKS


def test_code_overwritten_without_icbi_is_no_mismatch(pairs: Pairs, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = pairs["e500mc"]
    for name in ("hot_after", "hot_at_once"):  # a region, made later, would have the new words
        monkeypatch.setattr(pair.native.vm, name, 0)
    store = ENTRIES["stw"].encode(rs=7, ra=8)
    loop = ENTRIES["bc"].encode(bo=16, bd=-8)
    case = plain(pair, [ADD, store, loop])
    case.registers.gpr[7], case.registers.gpr[8] = SUBF, case.registers.pc
    case.registers.spr[SPR.CTR] = 3
    before = pair.excused
    assert pair.check(case) is None
    assert pair.excused == before + 1
    assert pair.check(replace(case, patched=frozenset((0,)))) is not None


def test_the_end_of_a_case_leaves_with_nothing_changed(pairs: Pairs) -> None:
    pair = pairs["e5500"]
    case = plain(pair, [NOP])
    assert pair.check(case) is None
    assert [word for _, word, _, _, _ in pair.oracle.executed] == [NOP, STOP]
    assert int(pair.native.cpu.pc) == place.STOP_EA
    assert [int(g) for g in pair.native.cpu.gpr] == case.registers.gpr


def test_a_soak_counts_and_ends(capsys: pytest.CaptureFixture[str]) -> None:
    assert soak.main(["--seed", "t", "--core", "e500mc", "--instructions", "300", "--jobs", "1"]) == 0
    out = capsys.readouterr().out
    assert "without a mismatch" in out and "entries never completed" in out


def test_a_soak_repeats_a_case(capsys: pytest.CaptureFixture[str]) -> None:
    one, other = soak.Soak("s", ["e500mc"]).case(5), soak.Soak("s", ["e500mc"]).case(5)
    assert one.words == other.words and one.registers == other.registers
    assert soak.main(["--seed", "t", "--core", "e500mc", "--case", "3"]) == 0
    assert "agree" in capsys.readouterr().out


def test_a_soak_reports_a_mismatch(wrong_add: None, capsys: pytest.CaptureFixture[str]) -> None:
    run = soak.Soak("s", ["e500mc"])
    number = next(n for n in range(200) if run.check(n) is not None)
    run.close()
    assert soak.main(["--seed", "s", "--core", "e500mc", "--case", str(number)]) == 1
    assert "oracle and native code" in capsys.readouterr().out


def test_a_soak_refuses_unknown_cores(capsys: pytest.CaptureFixture[str]) -> None:
    assert soak.main(["--core", "e600", "--case", "1"]) == 1
    assert "e6500" in capsys.readouterr().err


@pytest.mark.parametrize("layout", [place.Layout(n & 1, n >> 1 & 1, n >> 2 & 1, n > 7) for n in range(16)])
def test_no_address_has_two_translations_at_first(pairs: Pairs, layout: place.Layout) -> None:
    for name in ("e500mc", "e6500"):
        side = pairs[name].oracle
        case = plain(pairs[name], [NOP])
        side.load(replace(case, layout=layout))
        assert not ambiguous(side.cpu.tlb)
        entry = side.cpu.tlb.tlb1[40]
        entry.ea, entry.mask, entry.mas1, entry.mas8, entry.valid = place.STOP_EA + 0x2000, 0xFFF, 0x8000_0100, 0, 1
        assert ambiguous(side.cpu.tlb)


def test_cases_of_a_core_name_it(pairs: Pairs) -> None:
    assert CaseMaker(cores.get("e6500"), "x").random_case().core.name == "e6500"
