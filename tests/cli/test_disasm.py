"""powervisor disasm: words, raw files and ELF files."""

import struct

import pytest


def elf(code: bytes, address: int = 0x1000, machine: int = 20, data: int = 2) -> bytes:
    """A 32-bit ELF with one executable section, .text, and an empty one behind it."""
    order = ">" if data == 2 else "<"
    names = b"\0.text\0.shstrtab\0"
    sections = [
        (0,) * 10,
        (1, 1, 6, address, 52, len(code), 0, 0, 4, 0),  # progbits, alloc + exec
        (7, 3, 0, 0, 52 + len(code), len(names), 0, 0, 1, 0),
    ]
    table = 52 + len(code) + len(names)
    header = struct.pack(
        order + "16sHHIIIIIHHHHHH", b"\x7fELF\x01" + bytes([data]) + b"\x01" + bytes(9),
        2, machine, 1, address, 0, table, 0, 52, 0, 0, 40, len(sections), 2,
    )  # fmt: skip
    return header + code + names + b"".join(struct.pack(order + "10I", *section) for section in sections)


CODE = struct.pack(">3I", 0x7C221A14, 0x60000000, 0x38200200)


def test_words_are_disassembled_at_their_address(command):
    done = command("disasm", "7c221a14", "0x60000000", "-address", "0xc0000000")
    assert done.status == 0
    assert done.out == "c0000000:  7c221a14  add r1,r2,r3\nc0000004:  60000000  nop\n"


def test_a_core_knows_only_its_own_instructions(command):
    ld = "e8640008"  # 64-bit cores only
    assert "ld r3,8(r4)" in command("disasm", "-cpu", "e5500", ld).out
    assert ".long" in command("disasm", "-cpu", "e500mc", ld).out
    assert "ld r3" in command("disasm", ld).out


def test_a_raw_file_is_big_endian_words_and_a_rest_is_left(command, tmp_path):
    (tmp_path / "raw").write_bytes(CODE + b"xy")
    done = command("disasm", "-file", str(tmp_path / "raw"), "-address", "0x100", "-count", "2")
    assert [line.split()[0] for line in done.out.splitlines()] == ["00000100:", "00000104:"]
    assert len(command("disasm", "-file", str(tmp_path / "raw")).out.splitlines()) == 3


def test_an_elf_file_gives_its_code_at_its_addresses(command, tmp_path):
    (tmp_path / "elf").write_bytes(elf(CODE))
    lines = command("disasm", "-file", str(tmp_path / "elf")).out.splitlines()
    assert lines[0] == "00001000:  7c221a14  add r1,r2,r3"
    assert len(lines) == 3
    done = command("disasm", "-file", str(tmp_path / "elf"), "-address", "0x1008")
    assert done.out == "00001008:  38200200  li r1,512\n"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (elf(CODE, machine=62), "not big-endian Power code"),
        (elf(CODE, data=1), "not big-endian Power code"),
        (elf(CODE)[:-30], "damaged ELF"),
        (b"\x7fELF\x01\x02", "damaged ELF"),
    ],
)
def test_what_is_no_power_code_is_refused(command, tmp_path, data, says):
    (tmp_path / "file").write_bytes(data)
    done = command("disasm", "-file", str(tmp_path / "file"))
    assert (done.status, done.out) == (1, "")
    assert says in done.err


@pytest.mark.parametrize("word", ["xyz", "123456789", "", "0x"])
def test_what_is_no_word_is_refused(command, word):
    assert "not an instruction word" in command("disasm", "60000000", word).err
