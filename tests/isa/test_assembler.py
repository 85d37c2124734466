"""The assembler: sources, and what it says of mistakes in them."""

from __future__ import annotations

import pytest

from powervisor.errors import UserError
from powervisor.insns import assemble, assemble_source, disassemble
from powervisor.isa import cores
from powervisor.isa.expressions import ExpressionError, evaluate


def text_of(source: str, origin: int = 0) -> list[str]:
    data = assemble_source(source, origin).data
    return [disassemble(int.from_bytes(data[n : n + 4], "big"), origin + n) for n in range(0, len(data), 4)]


def test_labels_and_symbols_are_addresses_from_the_origin() -> None:
    program = assemble_source("a: nop\nb: .long a, b, c\n.set d, c - a\nc: li r3, d", 0x8000)
    assert program.symbols == {"a": 0x8000, "b": 0x8004, "c": 0x8010, "d": 0x10}
    assert program.data[4:16] == bytes.fromhex("00008000 00008004 00008010")
    assert program.lines == {0x8000: 1, 0x8010: 4}


def test_numeric_labels_refer_to_the_nearest() -> None:
    assert text_of("1: b 1f\n1: b 1b\n b 1b\n1: b 1b") == ["b 0x4", "b 0x4", "b 0x4", "b 0xc"]


def test_halves_of_an_address_make_it_again() -> None:
    for address in (0x1234_8000, 0x1234_7FFF, 0xFFFF_FFFF, 0x8000):
        high, low = assemble_source(f".set x, {address}\nlis r3, x@ha\naddi r3, r3, x@l").data.hex(" ", 4).split()
        value = (int(high, 16) << 16) + (int(low, 16) & 0xFFFF ^ 0x8000) - 0x8000
        assert value & 0xFFFF_FFFF == address


def test_macros_take_arguments_defaults_and_make_labels_of_their_own() -> None:
    source = """
    .macro wait reg, count=4        # until reg is zero
        li \\reg, \\count
    loop\\@: addi \\reg\\(), \\reg, -1
        cmpwi \\reg, 0
        bne loop\\@
    .endm
    wait r3
    wait r4, 7
    """
    once = ["li r3,4", "addi r3,r3,-1", "cmpwi r3,0", "bne 0x4", "li r4,7", "addi r4,r4,-1", "cmpwi r4,0", "bne 0x14"]
    assert text_of(source) == once


def test_repetitions_and_conditions() -> None:
    source = """
    n = 0
    .rept 3; .byte n; .set n, n + 1; .endr
    .if n == 3; .byte 9; .else; .byte 8; .endif
    .if 0; bad; .endif
    """
    assert assemble_source(source).data == bytes((0, 1, 2, 9))


def test_code_is_padded_with_nops_and_data_with_zeros() -> None:
    assert text_of("blr\n.align 4\nblr") == ["blr", "nop", "nop", "nop", "blr"]
    assert assemble_source(".byte 1\n.align 2\n.byte 2\n.balign 4,0xee").data == bytes.fromhex("01000000 02eeeeee")
    assert assemble_source(".org 0x10\nx:", 8).symbols == {"x": 0x10}


def test_registers_may_be_bare_numbers_but_not_of_another_kind() -> None:
    assert assemble("add 3,4,5") == assemble("add r3, r4 ,r5") == assemble("add\tR3,R4,R5")
    assert assemble("lwz 3,8(sp)") == assemble("lwz r3,8(r1)")
    with pytest.raises(UserError, match="'f4': a register rN is needed"):
        assemble("add r3,f4,r5")
    with pytest.raises(UserError, match="rb=32: must be 0..31"):
        assemble("add r3,r4,r32")


def test_branches_reach_as_far_as_they_can() -> None:
    assert assemble("b 0x1fffffc") == 0x49FF_FFFC
    assert assemble("b 0", 0x200_0000) == 0x4A00_0000
    with pytest.raises(UserError, match="0x2000000 bytes away; it can be up to 0x2000000"):
        assemble("b 0x2000000")
    with pytest.raises(UserError, match="not a multiple of 4"):
        assemble("beq 0x1002")
    assert assemble("b 0", 0xFFFF_FFFC, cores.get("e500mc")) == 0x4800_0004


MISTAKES = {
    "add r3,r4": r"1: add with 2 operands; write add rt,ra,rb: 'add r3,r4'",
    "\n\naddd r3,r4,r5": r"3: addd: no such instruction; near: .*add.*",
    "lwz r3,9": r"1: '9': a displacement and a base register are needed, such as 8\(r1\)",
    "li r3,0x12345": r"1: si=74565: must be -32768..32767",
    "ld r3,2(r4)": r"1: d=2: must be .* in steps of 4",
    "nop\nli r3,foo": r"2: foo is not defined: 'li r3,foo'",
    "x: nop\nx: nop": r"2: label x is defined twice",
    "b 1f": r"1: there is no label 1: after this",
    "b 1b\n1:": r"1: there is no label 1: before this",
    ".byte 300": r"1: 300: 0x12c does not fit 1 bytes",
    ".section .text": r"1: .section: no such directive",
    ".ascii hello": r"1: hello: a string in double quotes is needed",
    '.ascii "a\\q"': r"1: \\q is not an escape",
    ".space x\nx:": r"1: x is not defined before this, and the size here depends on it",
    ".byte 1\nnop": r"2: an instruction must be at a multiple of 4; use .align 2",
    ".org 0\n.long 1\n.org 0": r"3: -4 bytes of padding",
    ".macro a\nnop": r"1: .macro without .endm",
    "nop\n.endr": r"2: .endr without its beginning",
    ".macro a x\nli r3,\\x\n.endm\na": r"4: a: the argument x is missing",
    ".macro a\na\n.endm\na": r"4: a uses itself without end",
    "li r3,(4": r"1: '\(4': a closing parenthesis is missing",
    "li r3,4)": r"1: '4\)': '\)' is not expected there",
    "li r3,5/0": r"1: '5/0' divides by zero",
    "li r3,1@x": r"1: @x: there are @l, @h, @ha",
    "li r3,1 ~": r"1: '1 ~': '~' is not expected there",
    "li r3,09": r"1: 09 is not an octal number",
    "/* open\n\n*/ bad": r"3: bad: no such instruction",
}


@pytest.mark.parametrize("source", MISTAKES, ids=repr)
def test_a_mistake_is_told_with_its_line(source: str) -> None:
    with pytest.raises(UserError, match="^boot.s:" + MISTAKES[source]):
        assemble_source(source, 0, name="boot.s")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2 * 3", 7), ("(1 + 2) * 3", 9), ("-7 / 2", -3), ("-7 % 2", -1), ("1 << 4 | 1", 17), ("~0 & 0xff", 255),
        ("0b101 + 017 + 0x1F", 51), ("'A'", 65), ("'\\n", 10), ("3 > 2 && 1 != 2", 1), ("!5 || 0", 0), ("x - 1", 41),
        ("0x12348000@ha", 0x1235), ("(x + 1)@l", 43), ("0x123456789abcdef0@highest", 0x1234), ("2 == 2 & 1", 1),
    ],
)  # fmt: skip
def test_expressions(text: str, value: int) -> None:
    assert evaluate(text, {"x": 42}.__getitem__).value == value


@pytest.mark.parametrize("text", ["", "1 +", "1 << 200", "4 5", "'", "0x", "$"])
def test_expressions_that_are_none(text: str) -> None:
    with pytest.raises((ExpressionError, KeyError)):
        evaluate(text, {}.__getitem__)
