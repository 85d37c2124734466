"""The guest inside the package: how it is built and kept, and what it does on every core."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from elftools.elf.elffile import ELFFile

from powervisor import Machine
from powervisor.boot import elf
from powervisor.guests import builtin, kept
from powervisor.guests.builtin import linker
from powervisor.guests.builtin.compiler import GuestModule, compile_guest
from powervisor.guests.builtin.words import routine, say
from powervisor.isa.cores import CORES
from powervisor.native.ints import u32
from powervisor.native.lang import native
from powervisor.native.values import CompileError

SECONDS = 60  # for hosts that are busy, and the first use of a translator
PROMPT = "\r\n> "
READY = "help lists the commands."


def run(**arguments):
    """Run the guest to its end; the outcome and what it printed."""
    with Machine(**arguments) as machine:
        outcome = machine.run(SECONDS)
        return outcome, machine.console.text.replace("\r", "")


def command(*words, typed=""):
    """The same through the command line, with standard input a pipe."""
    return subprocess.run(
        [sys.executable, "-m", "powervisor", "run", *words],
        input=typed, capture_output=True, text=True, timeout=SECONDS,
    )  # fmt: skip


def symbols():
    """Addresses in the guest by name."""
    with open(builtin.image(32), "rb") as file:
        table = ELFFile(file).get_section_by_name(".symtab")
        return {symbol.name: symbol["st_value"] for symbol in table.iter_symbols()}


class Prompt:
    """The guest at its prompt."""

    def __init__(self, machine):
        self.machine = machine
        machine.start()
        machine.console.expect(READY + PROMPT, SECONDS)

    def __call__(self, line):
        """What a command prints."""
        self.machine.console.send(line + "\r")
        text = self.machine.console.expect(PROMPT, SECONDS).replace("\r", "")
        echo, _, answer = text.partition("\n")
        assert echo == line
        return answer.removesuffix("\n> ").removesuffix("> ")


@pytest.fixture(scope="module")
def prompt():
    with Machine(cpu="e500mc", cores=2, append="echo here") as machine:
        yield Prompt(machine)


# ---- what it does --------------------------------------------------------------------------------------------------

MACHINES = [
    ("e500mc", 1, 1), ("e500mc", 2, 1), ("e500mc", 8, 1), ("e5500", 1, 1), ("e5500", 4, 1), ("e6500", 2, 1),
    ("e6500", 2, 2),
]  # fmt: skip


@pytest.mark.parametrize(("cpu", "cores", "threads"), MACHINES)
def test_every_test_passes_and_the_board_powers_off(cpu, cores, threads):
    outcome, text = run(cpu=cpu, cores=cores, threads=threads, append="info; test; poweroff")
    assert outcome.kind == "poweroff", text
    assert "FAIL" not in text
    assert re.search(r"all \d+ tests passed", text)
    cpus = cores * threads
    assert f"{cpus} of {cpus} CPUs report in" in text
    assert f"Core      {cpu} rev 2.0 (PVR 0x{CORES[cpu].pvr:08x})" in text
    assert ("64-bit " in text) == (CORES[cpu].bits == 64)
    assert ("altivec " in text) == (cpu == "e6500")


@pytest.mark.slow
@pytest.mark.parametrize("cores", [16, 32])
def test_many_cpus_report_in(cores):
    outcome, text = run(cpu="e500mc", cores=cores, append="smp; poweroff")
    assert outcome.kind == "poweroff"
    assert f"{cores} of {cores} CPUs report in" in text and "FAIL" not in text


@pytest.mark.parametrize("mib", [64, 6144])
def test_ram_is_found_to_its_end(mib):
    if mib << 20 > os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"):
        pytest.skip("more than this host has")
    outcome, text = run(cpu="e5500", memory=mib << 20, append="info; test; poweroff")
    assert outcome.kind == "poweroff"
    assert f"Memory    {mib} MiB" in text
    assert f"16 places up to 0x{(mib << 20) - 16:x}" in text and "FAIL" not in text


def test_without_arguments_it_shows_the_machine_tests_it_and_measures():
    with Machine(cpu="e500mc") as machine:
        machine.start()
        text = machine.console.expect(READY, SECONDS)
    parts = [text.index(word) for word in ("Core ", "Memory ", "Device tree", "Tests", "tests passed", "Speed")]
    assert parts == sorted(parts)
    assert "serial@4500               ns16550a             irq 42" in text
    assert int(re.search(r"integer +(\d+) million instructions a second", text)[1]) > 0


def test_it_runs_without_a_serial_line():
    done = command("-serial", "none", "-append", "test; poweroff")
    assert (done.returncode, done.stdout) == (0, "")


def test_it_reboots():
    with Machine(cpu="e500mc", append="echo here") as machine:
        prompt = Prompt(machine)
        assert prompt("poke 0x3000000 0x5a") == ""
        machine.console.send("reboot\r")
        machine.console.expect(READY + PROMPT, SECONDS)
        assert prompt("echo again") == "again"
        machine.console.send("poweroff\r")
        assert machine.wait(SECONDS).kind == "poweroff"


def test_an_interrupt_nobody_expects_is_shown_with_its_registers():
    at = symbols()["do_sc"]
    with Machine(cpu="e500mc", append="echo here") as machine:
        Prompt(machine)(f"poke {at} 0")
        machine.console.send("test\r")
        text = machine.console.expect("r31 +[0-9a-f]+\r\n", SECONDS, regex=True)
    assert "*** CPU 0: unexpected program interrupt" in text
    assert f"PC {at:08x}" in text and "ESR 08000000" in text


def test_a_reset_ends_the_machine_under_no_reboot():
    assert run(cpu="e500mc", append="reboot", no_reboot=True)[0].kind == "reset"


def test_the_command_line_runs_it():
    done = command("-append", "echo well; poweroff")
    assert done.returncode == 0, done.stderr
    assert "\nwell\n" in done.stdout


def test_what_is_piped_in_before_it_listens_arrives_whole():
    done = command("-append", "echo well", "-timeout", str(SECONDS), typed="echo first\npoweroff\n")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\n> echo first\nfirst\n> poweroff\n" in done.stdout


# ---- the prompt ----------------------------------------------------------------------------------------------------


def test_help_lists_every_command(prompt):
    *commands, numbers = prompt("help").splitlines()
    words = [line.split()[0] for line in commands]
    assert words == ("help info dt test timer irq smp bench mem peek poke spr echo reboot poweroff".split())
    assert numbers.startswith("Numbers are decimal, or hexadecimal with 0x")


def test_a_number_it_shows_can_be_typed_again(prompt):
    address, value = prompt("peek 0x2000100").split(": ")
    assert prompt(f"poke {address} 0x1234") == "" and prompt(f"peek {address}") == f"{address}: 0x1234"
    assert prompt(f"peek {int(address, 16)}") == f"{address}: 0x1234"
    assert prompt(f"poke {address} {value}") == "" and prompt(f"peek {address}") == f"{address}: {value}"


def test_every_register_is_a_name_and_a_value_apart(prompt):
    cells = prompt("spr").split()
    assert "l2captdatahi" in cells
    assert all(re.fullmatch(r"0x[0-9a-f]{8}", value) for value in cells[1::2])
    assert not any(name.startswith("0x") for name in cells[::2])


@pytest.mark.parametrize("command", ["test", "timer", "irq", "smp"])
def test_tests_can_be_repeated(prompt, command):
    for _ in range(2):
        answer = prompt(command)
        assert "FAIL" not in answer and "tests passed" in answer


def test_memory_is_written_and_shown(prompt):
    assert prompt("poke 0x2000004 0x41424320") == ""
    assert prompt("peek 0x2000004") == "0x2000004: 0x41424320"
    assert prompt("peek 0x2000006 1") == "0x2000006: 0x43"
    assert prompt("mem 0x2000003 6").split() == ["0x0002000000", "00", "41", "42", "43", "20", "00", ".ABC", "."]
    assert prompt.machine.memory[0x2000004:0x2000008] == b"ABC "
    assert len(prompt("mem 0x2000000 64").splitlines()) == 4


def test_device_registers_are_read_through_ccsr(prompt):
    assert prompt("peek 0xfe0040000") == "0xfe0040000: 0x400402"  # MPIC BRR1
    assert prompt("peek 0xfe00e00a4") == f"0xfe00e00a4: 0x{prompt.machine.topology.svr:x}"


def test_where_nothing_answers_it_says_so(prompt):
    for command in ("peek 0xf80000000", "poke 0xf80000000 0", "mem 0xf80000000"):
        assert prompt(command) == "0xf80000000: nothing answers there (interrupt 1)"


def test_special_registers_by_name_and_number(prompt):
    assert prompt("spr pvr") == prompt("spr PVR") == prompt("spr 287") == prompt("spr 0x11f") == "spr 287: 0x80230020"
    names = dict(zip(*[iter(prompt("spr").split())] * 2, strict=True))
    assert names["pvr"] == "0x80230020" and names["ivpr"] == "0x00100000"
    assert "tensr" not in names


@pytest.mark.parametrize(
    ("command", "start"),
    [
        ("nonsense", "nonsense: no such command"), ("spr nonsense", "spr: no register nonsense"),
        ("spr 1024", "spr: no register"), ("spr 1000", "spr 1000: this core has no such register"),
        ("dt /nowhere", "dt: no node /nowhere"), ("mem", "usage: mem"), ("mem 0 1 2", "usage: mem"),
        ("mem 12x", "usage: mem"), ("peek 2", "usage: peek"), ("peek 8 3", "usage: peek"), ("poke 8", "usage: poke"),
        ("poke 8 0x100000000", "usage: poke"),
    ],
)  # fmt: skip
def test_mistakes_are_explained(prompt, command, start):
    answer = prompt(command)
    assert answer.startswith(start) and answer.count("\n") == 0


def test_the_line_can_be_edited_and_recalled(prompt):
    send, expect = prompt.machine.console.send, prompt.machine.console.expect
    send("bad\x15ecko\x7f\x7fho one\r")
    assert expect(PROMPT, SECONDS).endswith("\r\none" + PROMPT)
    send("echo two\r")
    expect(PROMPT, SECONDS)
    send("\x1b[A\x1b[A\x1b[B\x1b[A\r")
    assert expect(PROMPT, SECONDS).endswith("\r\none" + PROMPT)
    send("nonsense\x03")
    assert expect(PROMPT, SECONDS).endswith("^C" + PROMPT)
    send("echo " + "x" * 300 + "\r")
    assert expect(PROMPT, SECONDS).count("x") == 2 * (127 - len("echo "))


def test_control_c_ends_a_long_listing(prompt):
    prompt.machine.console.send("mem 0 0x4000000\r")
    prompt.machine.console.expect("0x0000000400", SECONDS)
    prompt.machine.console.send("\x03")
    prompt.machine.console.expect("^C" + PROMPT, SECONDS)
    assert prompt("echo still here") == "still here"


def test_a_node_of_the_tree_by_path_without_address_and_by_alias(prompt):
    node = prompt("dt /soc/serial")
    assert node.startswith("serial@4500 {") and "interrupts = <0x2a 0x2>;" in node
    assert prompt("dt serial0") == prompt("dt /soc@fe0000000/serial@4500") == node


@pytest.mark.skipif(not shutil.which("dtc"), reason="dtc is not installed")
def test_the_device_tree_it_prints_is_the_one_it_got(prompt):
    def sorted_source(data, form):
        command = ["dtc", "-q", "-s", "-I", form, "-O", "dts"]
        return subprocess.run(command, input=data, capture_output=True, check=True).stdout

    printed = b"/dts-v1/;\n" + prompt("dt").encode()
    blob = subprocess.run(["dtc", "-q", "-I", "dts", "-O", "dtb"], input=printed, capture_output=True, check=True)
    assert sorted_source(blob.stdout, "dtb") == sorted_source(prompt.machine.device_tree_blob, "dtb")


# ---- building ------------------------------------------------------------------------------------------------------


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("POWERVISOR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_it_is_built_once_and_kept(cache):
    path = builtin.image(32)
    assert cache in path.parents
    made = path.stat().st_mtime_ns
    assert builtin.image(64) == path and path.stat().st_mtime_ns == made
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    image = elf.load(path.read_bytes(), "builtin", 64 << 20, 32)
    assert image.entry == image.base == 0x10_0000


def test_it_is_built_again_when_a_source_has_changed(cache, monkeypatch):
    path = builtin.image(32)
    monkeypatch.setattr(builtin, "_key", lambda: "other")
    assert builtin.image(32) != path


def test_without_a_cache_it_is_a_temporary_file_that_goes_away(tmp_path):
    (tmp_path / "cache").write_text("in the way")
    code = "from powervisor.guests.builtin import image; p = image(32); print(p, p.stat().st_size, image(32) == p)"
    environment = os.environ | {"POWERVISOR_CACHE": str(tmp_path / "cache"), "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    path, size, same = done.stdout.split()
    assert path.startswith(str(tmp_path)) and int(size) > 10_000 and same == "True"
    assert not os.path.exists(path)


@native
def too_few_values() -> None:
    say("{} and {}\n", u32(1))


@native
def unknown_label() -> None:
    routine(None, "nowhere")


def test_say_wants_a_value_for_each_field():
    module = GuestModule()
    module.require(too_few_values)
    with pytest.raises(CompileError, match="as many {} as values"):
        module.emit()


def test_a_routine_nobody_wrote_is_a_link_error():
    code, _ = compile_guest((unknown_label,), ())
    compiled = linker.Object(code)
    compiled.place(0x1000)
    with pytest.raises(linker.LinkError, match="nowhere is not defined"):
        for section in compiled.sections.values():
            compiled.relocated(section, {})
    with pytest.raises(linker.LinkError, match="nowhere: R_PPC_REL24: .* does not fit"):
        for section in compiled.sections.values():
            compiled.relocated(section, {"nowhere": 0x1000_0000})


@pytest.mark.parametrize(
    ("name", "old", "target", "place", "new"),
    [
        ("R_PPC_ADDR16_HA", 0, 0x1234_8000, 0, 0x1235), ("R_PPC_ADDR16_HA", 0, 0x1234_7FFF, 0, 0x1234),
        ("R_PPC_ADDR16_HI", 0, 0x1234_8000, 0, 0x1234), ("R_PPC_ADDR16_LO", 0, 0x1234_8000, 0, 0x8000),
        ("R_PPC_REL24", 0x4800_0001, 0x1000, 0x1010, 0x4BFF_FFF1), ("R_PPC_REL32", 0, 0x10, 0x20, 0xFFFF_FFF0),
    ],
)  # fmt: skip
def test_relocations_change_their_bits(name, old, target, place, new):
    change = next(change for known, _, change in linker.RELOCATIONS.values() if known == name)
    assert change(old, target, place) == new


def test_the_symbols_are_there_for_debuggers(cache):
    known = symbols()
    assert known["start"] == 0x10_0000
    assert any(name.endswith("on_interrupt") for name in known)


# ---- elsewhere -----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not shutil.which("qemu-system-ppc64"), reason="qemu-system-ppc64 is not installed")
@pytest.mark.parametrize("cpu", list(CORES))
def test_qemu_runs_it_too(cpu):
    command = ["qemu-system-ppc64", "-M", "ppce500", "-cpu", cpu, "-smp", "2", "-nic", "none", "-nographic"]
    command += ["-kernel", str(builtin.image(32)), "-append", "info; test; poweroff"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0
    assert "FAIL" not in done.stdout and "tests passed" in done.stdout
    assert "2 of 2 CPUs report in" in done.stdout


def test_files_of_old_versions_are_removed(tmp_path, monkeypatch):
    monkeypatch.setenv("POWERVISOR_CACHE", str(tmp_path))
    folder = tmp_path / "guests"
    folder.mkdir()
    for n in range(20):
        (folder / f"builtin-{n}.elf").touch()
        os.utime(folder / f"builtin-{n}.elf", (n, n))
    (folder / "uImage-k32").touch()
    made = builtin.image(32)
    names = {path.name for path in folder.iterdir()}
    assert len(names) == kept.KEPT + 1
    assert {made.name, "builtin-19.elf", "uImage-k32"} <= names
