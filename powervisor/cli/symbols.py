"""powervisor symbols: names of a kernel's addresses for gdb, where there is no vmlinux."""

from pathlib import Path

from powervisor.analysis.symbol_map import elf_of_map
from powervisor.boot.image import read_file
from powervisor.cli.options import Parser
from powervisor.errors import UserError


def main(words: list[str]) -> int:
    """Write the ELF file."""
    parser = Parser("symbols", "Make an ELF file with the names of Linux's System.map, or of a copy of /proc/kallsyms.")
    parser.add_argument("map", metavar="MAP", help="System.map, or what a guest shows as /proc/kallsyms")
    parser.add_argument("elf", metavar="ELF", help="the file to write; gdb-multiarch ELF reads it")
    options = parser.parse(words)
    made = elf_of_map(read_file("MAP", options.map), options.map)
    try:
        Path(options.elf).write_bytes(made)
    except OSError as error:
        raise UserError(f"{options.elf}: cannot be written ({error.strerror})") from None
    return 0
