"""powervisor disasm: instructions as text, from words on the command line or from a file."""

import struct
from collections.abc import Iterator

from powervisor.boot.image import read_file
from powervisor.cli.options import Parser, parse_number
from powervisor.errors import UserError

_ELF_MAGIC = b"\x7fELF"
_POWER_MACHINES = ("EM_PPC", "EM_PPC64")


def main(words: list[str]) -> int:
    """Disassemble the given words or the code of a file."""
    parser = Parser("disasm", "Disassemble instruction words, or a file (ELF: its code; else big-endian words).")
    parser.add_argument("words", nargs="*", metavar="WORD", help="an instruction as 8 hexadecimal digits")
    parser.option("-cpu", metavar="CORE", help="the core whose instructions are known (default: all)")
    parser.option("-file", metavar="FILE", help="take the words from there")
    parser.option("-address", metavar="ADDRESS", help="where the code runs; in a file with addresses: where to begin")
    parser.option("-count", metavar="N", help="stop after N instructions")
    options = parser.parse(words)
    if bool(options.words) == bool(options.file):
        raise UserError("give either words or -file FILE")
    from powervisor.insns import TABLE
    from powervisor.isa.cores import get
    from powervisor.isa.disasm import Disassembler

    core = get(options.cpu) if options.cpu else None
    disassembler = Disassembler(TABLE.for_core(core.categories), core.bits) if core else Disassembler(TABLE)
    address = None if options.address is None else parse_number(options.address, "-address")
    left = None if options.count is None else parse_number(options.count, "-count")
    if options.file:
        source = _from_file(options.file, read_file("-file", options.file), address)
    else:
        source = _numbered([_word(word) for word in options.words], address or 0)
    for pc, word in source:
        if left is not None:
            if left <= 0:
                break
            left -= 1
        print(f"{pc:08x}:  {word:08x}  {disassembler.text(word, pc)}")
    return 0


def _word(text: str) -> int:
    digits = text.lower().removeprefix("0x")
    if not digits or len(digits) > 8 or set(digits) - set("0123456789abcdef"):
        raise UserError(f"{text}: not an instruction word; write 8 hexadecimal digits, for example 7c221a14")
    return int(digits, 16)


def _numbered(words: list[int], address: int) -> Iterator[tuple[int, int]]:
    return ((address + 4 * n, word) for n, word in enumerate(words))


def _from_file(path: str, data: bytes, address: int | None) -> Iterator[tuple[int, int]]:
    if not data.startswith(_ELF_MAGIC):
        yield from _numbered(_words(data), address or 0)
        return
    from io import BytesIO

    from elftools.common.exceptions import ELFError
    from elftools.elf.constants import SH_FLAGS
    from elftools.elf.elffile import ELFFile

    try:
        elf = ELFFile(BytesIO(data))
        if elf["e_machine"] not in _POWER_MACHINES or elf.little_endian:
            raise UserError(f"-file {path}: not big-endian Power code ({elf.get_machine_arch()}); name a PowerPC ELF")
        code = [
            (section["sh_addr"], section.data())
            for section in elf.iter_sections()
            if section["sh_flags"] & SH_FLAGS.SHF_EXECINSTR and section["sh_type"] != "SHT_NOBITS"
        ]
    except (ELFError, ValueError, struct.error) as error:
        raise UserError(f"-file {path}: a damaged ELF file ({error}); make it again") from None
    for base, text in code:
        skip = 0 if address is None else max(0, address - base) // 4
        yield from _numbered(_words(text)[skip:], base + 4 * skip)


def _words(data: bytes) -> list[int]:
    return [word for (word,) in struct.iter_unpack(">I", data[: len(data) & ~3])]
