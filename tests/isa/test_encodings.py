"""Every entry: encodings, decoding, text and back."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from powervisor.errors import UserError
from powervisor.insns import TABLE, assemble, disassemble
from powervisor.isa import cores
from powervisor.isa.aliases import aliases, lines
from powervisor.isa.disasm import render
from powervisor.isa.document import document
from powervisor.isa.insn import insn, parse_encoding
from powervisor.isa.syntax import parse_linear, parse_syntax, spr_names, spr_numbers
from tests.isa.words import fields_at_random, words

DOCUMENT = Path(__file__).parents[2] / "docs" / "instructions.md"


def test_every_entry_decodes_its_own_words() -> None:
    rng = random.Random(1)
    for entry in TABLE:
        found = {TABLE.decode(fields_at_random(entry, rng)) is entry for _ in range(20)}
        assert True in found, f"{entry.name} is never decoded: another entry takes its words"


def test_every_entry_goes_to_text_and_back() -> None:
    for entry, word in words(TABLE, 30):
        text = disassemble(word, 0x1000)
        assert assemble(text, 0x1000) == word, f"{entry.name} {word:#010x} '{text}'"


def test_every_letter_of_every_mnemonic_is_understood() -> None:
    for entry in TABLE:
        for mnemonic, markers in parse_syntax(entry.syntax).spellings():
            word = entry.encode(**markers)
            # An operand of each kind that is zero: a pattern such as `lbz r0,0(0)`.
            text = f"{mnemonic} {','.join(_zero(operand) for operand in parse_syntax(entry.syntax).operands)}"
            assert assemble(text) == word, text


def _zero(operand: object) -> str:
    slots = [str(slot.number) if slot.kind == "fixed" else "0" for slot in operand.slots]  # type: ignore[attr-defined]
    return f"{slots[0]}({slots[1]})" if len(slots) == 2 else slots[0]


def test_a_core_knows_its_own_instructions_only() -> None:
    e500mc, e6500 = cores.get("e500mc"), cores.get("e6500")
    assert disassemble(0x7CA4_29D2) == "mulld r5,r4,r5"
    assert disassemble(0x7CA4_29D2, 0, e500mc) == ".long 0x7ca429d2"
    assert assemble("mulld r5,r4,r5", 0, e6500) == 0x7CA4_29D2
    with pytest.raises(UserError, match="mulld: not an instruction of the e500mc"):
        assemble("mulld r5,r4,r5", 0, e500mc)


def test_no_two_entries_share_a_name_or_a_mnemonic() -> None:
    names = [entry.name for entry in TABLE]
    assert len(names) == len(set(names))
    spelled = [mnemonic for entry in TABLE for mnemonic, _ in parse_syntax(entry.syntax).spellings()]
    assert sorted(spelled) == sorted(set(spelled))


def test_every_entry_has_a_manuals_name() -> None:
    assert [entry.name for entry in TABLE if not entry.summary] == []


def test_every_extended_mnemonic_stands_for_an_entry() -> None:
    wanted = {line for group in lines() for line in group}
    found = {f"{alias.text} = {alias.meaning}" for alias in aliases(TABLE)}
    assert wanted - found == set()


def test_extended_mnemonics_mean_what_they_stand_for() -> None:
    rng, printed = random.Random(7), set()
    for alias in aliases(TABLE):
        slots = parse_syntax(alias.entry.syntax).slots
        for _, markers in [*alias.syntax.spellings()] * 3:
            values = {slot.name: rng.choice((0, 1, 5, 7)) for slot in alias.syntax.slots}
            fields = {slot.name: linear.value(values) for slot, linear in zip(slots, alias.values, strict=True)}
            text = render(alias.syntax, values | markers)
            if "target" in fields:
                fields["li" if "li" in alias.entry.fields else "bd"] = fields.pop("target") & ~3
                text = render(alias.syntax, values | markers | {"target": values["target"] & ~3})
            try:
                word = alias.entry.encode(**fields, **markers)
            except ValueError:
                continue  # such as a shift by -1
            assert assemble(text) == word, f"{text} is not {alias.meaning}"
            printed.add(disassemble(word).split()[0])
    wanted = "blr bdnz bnelr+ beqctrl- twnei mtsrr0 srdi clrrwi. crset vmr trap"
    assert set(wanted.split()) <= printed


def test_bits_the_core_ignores_are_told_of() -> None:
    assert disassemble(0x7C64_2A14 | 0) == "add r3,r4,r5"
    assert disassemble(0x7C03_0000 | 1) == "cmpw r3,r0  # reserved bits set"


def test_a_word_that_is_no_instruction_is_data() -> None:
    assert disassemble(0) == ".long 0x00000000"
    assert disassemble(0x1000_0000, 0, cores.get("e500mc")) == ".long 0x10000000"  # vaddubm


@pytest.mark.parametrize(
    "encoding",
    ["31 rt:5", "31 rt:15 1024:10 rc:1", "31 RT:5 ra:5 rb:5 1:10 rc:1", "64 rt:26", "31 rt:15 1:10 rc"],
)
def test_a_wrong_encoding_is_refused(encoding: str) -> None:
    with pytest.raises(ValueError, match="encoding"):
        parse_encoding(encoding)


def test_split_and_scaled_fields_keep_their_value() -> None:
    _, _, fields = parse_encoding("30 rs:5 ra:5 sh[4:0] mb[4:0] mb[5] 0:3 sh[5] rc:1")
    for value in (0, 1, 31, 32, 63):
        assert fields["sh"].get(fields["sh"].put(value)) == value
        assert fields["mb"].get(fields["mb"].put(value)) == value
    _, _, fields = parse_encoding("18 li:s24<<2 aa:1 lk:1")
    assert fields["li"].get(fields["li"].put(-0x200_0000)) == -0x200_0000
    with pytest.raises(ValueError, match="li=2.* in steps of 4"):
        fields["li"].put(2)
    with pytest.raises(ValueError, match="must be -33554432..33554428"):
        fields["li"].put(0x200_0000)


def test_an_entry_naming_a_field_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="no field bo"):
        insn("31 rt:26", "x rt", variants={"bo": (1,)})


def test_alias_sums_are_solved_backwards() -> None:
    bound: dict[str, int] = {}
    assert parse_linear("31-n").solve(20, bound) and bound == {"n": 11}
    assert not parse_linear("31-n").solve(32, {})
    assert parse_linear("4*bf+2").solve(30, bound) and bound["bf"] == 7
    assert not parse_linear("4*bf+2").solve(29, {})


def test_special_purpose_registers_have_one_number_a_name() -> None:
    assert len(spr_names()) == len(spr_numbers())
    assert spr_numbers()["ivor41"] == 435 and spr_numbers()["mas7_mas3"] == 372


def test_the_page_of_instructions_is_current() -> None:
    wanted = document(TABLE)
    assert DOCUMENT.read_text() == wanted, "run: python -m powervisor.isa.document > docs/instructions.md"
