"""Register declarations: fields, access rules, lanes, hooks."""

import pytest

from powervisor.devices.device import Device, state
from powervisor.devices.gpio import Gpio
from powervisor.devices.registers import Byte, Field, Reg, Register, RegisterArray, Word


class Mixed(Reg):
    plain = Field(31, 24)
    fixed = Field(23, 16, "ro", reset=0x5A)
    latch = Field(15, 8, "w1c", reset=0xFF)
    hidden = Field(7, 4, "wo")


class Toy(Device):
    size = 0x40
    mixed = Register(0x00, Mixed)
    words = RegisterArray(0x10, Word, 3, 8, reset=7)
    bytes = RegisterArray(0x30, Byte, 4, 1)
    log: list[int] = state(list)

    @words.written
    def _on_words(self, index, old, new):
        self.log += [index, old, new]

    @bytes.read
    def _read_bytes(self, index):
        return 0xA0 + index


def test_access_rules_hold_for_the_guest_only():
    toy = Toy("toy")
    toy.write(0, 4, 0x1234_0FF0)
    assert toy.mixed.plain == 0x12 and toy.mixed.fixed == 0x5A
    assert toy.mixed.latch == 0xF0 and toy.mixed.hidden == 0xF
    assert toy.read(0, 4) == 0x125A_F000  # wo reads as 0, the low nibble has no field
    toy.mixed.fixed = 1
    assert toy.read(1, 1) == 1


def test_narrow_accesses_touch_big_endian_lanes_only():
    toy = Toy("toy")
    toy.write(2, 1, 0x0F)
    assert toy.mixed.latch == 0xF0 and toy.mixed.plain == 0
    toy.write(0x12, 2, 0xBEEF)
    assert toy.read(0x10, 4) == 0xBEEF and toy.log == [0, 7, 0xBEEF]
    assert toy.read(0x13, 1) == 0xEF


def test_wide_accesses_are_taken_apart_in_address_order():
    toy = Toy("toy")
    assert toy.read(0x30, 4) == 0xA0A1A2A3
    toy.write(0x16, 4, 0x1122_3344)  # two bytes of a gap, then the upper half of the second word
    assert toy.words[1].value == 0x3344_0007
    assert toy.counters.unknown == {0x16: 1, 0x17: 1}


def test_values_that_do_not_fit_a_field_are_refused():
    with pytest.raises(ValueError, match="plain"):
        Mixed().plain = 0x100


@pytest.mark.parametrize(
    "fields", [{"a": ((3, 0),), "b": ((3, 3),)}, {"a": ((32, 32),)}, {"a": ((0, 4),)}], ids=["overlap", "wide", "order"]
)
def test_wrong_field_declarations_are_refused(fields):
    with pytest.raises(TypeError):
        type("Bad", (Reg,), {name: Field(*bits) for name, (bits,) in fields.items()})


def test_registers_that_overlap_are_refused():
    bad = type("Bad", (Device,), {"a": Register(0, Word), "b": RegisterArray(2, Byte, 1, 1)})
    with pytest.raises(TypeError, match="overlaps"):
        bad("bad")


def test_a_register_prints_its_fields():
    assert repr(Mixed(0x1200_0000)) == "Mixed(0x12000000 plain=0x12 fixed=0x0 latch=0x0 hidden=0x0)"


def test_a_shared_register_keeps_its_value_and_its_rules():
    register = Mixed(0x1200_0000)
    cell = register.share()
    cell.value |= 0x0100_0000
    assert register.plain == 0x13
    register.plain = 0x14
    assert cell.value >> 24 == 0x14
    assert register.share() is cell


def test_only_registers_that_do_nothing_but_hold_bits_are_plain():
    assert Mixed().plain_mask == 0
    assert Word().plain_mask == 0xFFFF_FFFF
    gpio = Gpio("gpio", lambda: None)
    assert {offset for offset, _, _ in gpio.plain_registers()} == {0x04, 0x14, 0x18}
