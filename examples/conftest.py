"""Builds each example's firmware with the cross compiler, and its twin with Powervisor's assembler."""

import shutil
import subprocess
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from powervisor import LoaderDevice
from powervisor.insns import assemble_source

GCC = "powerpc-linux-gnu-gcc"
FLAGS = "-mcpu=e500mc -msoft-float -O1 -g -ffreestanding -nostdlib -static -Wl,--build-id=none".split()
ORIGIN = 0x10_0000
START = Path(__file__).parent / "start.s"


def compiled(sources: Path, to: Path):
    """Options of `Machine` that run the C sources of a directory, and their symbols."""
    firmware = to / "firmware.elf"
    files = [START, *sorted(sources.glob("*.c"))]
    subprocess.run([GCC, *FLAGS, f"-Wl,-Ttext={ORIGIN:#x}", "-o", firmware, *files], check=True)
    with open(firmware, "rb") as file:
        table = ELFFile(file).get_section_by_name(".symtab")
        symbols = {symbol.name: symbol["st_value"] for symbol in table.iter_symbols()}
    return {"kernel": firmware}, symbols


def assembled(sources: Path, to: Path):
    """The same of the assembler sources."""
    text = "\n".join(path.read_text() for path in (START, *sorted(sources.glob("*.s"))))
    program = assemble_source(text, ORIGIN)
    firmware = to / "firmware.bin"
    firmware.write_bytes(program.data)
    return {"loaders": [LoaderDevice(str(firmware), ORIGIN, 0)]}, program.symbols


@pytest.fixture(scope="module", params=["C", "assembler"])
def firmware(request, tmp_path_factory):
    """Options and symbols of the firmware beside a test, of both kinds where there is a compiler."""
    if request.param == "C" and shutil.which(GCC) is None:
        pytest.skip(f"no {GCC} (apt install gcc-powerpc-linux-gnu)")
    build = compiled if request.param == "C" else assembled
    return build(request.path.parent, tmp_path_factory.mktemp("firmware"))


@pytest.fixture
def options(firmware):
    """What `Machine` needs to run the firmware."""
    return {"cpu": "e500mc", "memory": 64 << 20, **firmware[0]}


@pytest.fixture
def symbols(firmware):
    """Addresses in the firmware by name."""
    return firmware[1]


@pytest.fixture
def machine(make_machine, options):
    """A board with the firmware, before its first instruction."""
    return make_machine(**options)
