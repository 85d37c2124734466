"""The hypervisor inside the package: what it shows on every core, its exit status; its pages tell the truth."""

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from powervisor import Machine
from powervisor.guests import catalogue
from powervisor.guests import hypervisor_demo as demo
from powervisor.guests.hypervisor_demo import build
from powervisor.guests.hypervisor_demo.program import layout, options, partitions
from powervisor.isa.cores import CORES
from powervisor.isa.registers import MAS3

SECONDS = 60  # for hosts that are busy, and the first use of a translator
SOURCES = Path(demo.__file__).parent
PAGES = sorted((Path(__file__).parents[2] / "docs" / "hypervisor").glob("*.md"))
MACHINES = ["-smp 1", "-smp 2"]
QUOTED = re.compile(r"^```(\w+)(.*?)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
VARIES = re.compile(r" us$|\(IVOR10\)|decrementer|apart\): \d\d")
"""Lines with numbers that depend on the host's clock; the last are exits of fault=extgs."""


@cache
def run(words: str) -> tuple[int, str, str]:
    """The demo through the command line: status, output, complaints. A first start tells that it takes longer."""
    command = [sys.executable, "-m", "powervisor", "run", "hypervisor-demo", *words.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout, re.sub("powervisor run: building the .* translator .*\n", "", done.stderr)


def table(text: str) -> dict[str, tuple[int, int]]:
    """The rows of the closing table."""
    rows = re.findall(r"^(\S.*?) {2,}(\d+) +(\d+)$", text, re.MULTILINE)
    return {title: (int(a), int(b)) for title, a, b in rows}


# ---- what it shows -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("smp", [*MACHINES, "-smp cores=1,threads=2"])
@pytest.mark.parametrize("cpu", list(CORES))
def test_all_its_checks_hold(cpu, smp):
    if "threads" in smp and cpu != "e6500":
        pytest.skip("one thread a core")
    status, text, errors = run(f"-cpu {cpu} {smp}")
    assert (status, errors) == (0, ""), text + errors
    assert f"Two partitions on {cpu}\n" in text
    assert text.count("\n  ok  ") == 15 and "\n  NO  " not in text
    assert text.endswith("\nall 15 checks hold\n")
    assert ("CPU 1" in text) == (smp != "-smp 1")
    mode = 0x9000_9000 if CORES[cpu].bits == 64 else 0x1000_9000
    assert text.count(f"my MSR is 0x{mode:x}: GS is set") == 2
    rows = table(text)
    slices = rows.pop("exits: ends of time slices (IVOR10)")
    assert min(slices) >= layout.SLICES
    lrat = int(cpu == "e6500")
    assert rows == {
        "timer interrupts taken without an exit": (layout.TICKS, layout.TICKS),
        "system calls without an exit": (layout.SYSTEM_CALLS, layout.SYSTEM_CALLS),
        # one to come to life and one after each job; words; rings, of which the last finds nobody
        "exits: hypercalls (IVOR40)": (1 + 9 + 5 + layout.CALLS + layout.RINGS + 1, 1 + 5 + 3),
        "exits: guest doorbells (IVOR38)": (0, layout.RINGS),
        "exits: hypervisor privilege (IVOR41)": (1 if lrat else 3, 1),
        "exits: data TLB errors (IVOR13)": (2, 2),
        "exits: LRAT errors (IVOR42)": (lrat, 0),
        "exits: external inputs (IVOR4)": (0, 0),
        "instructions done in its stead": (1 if lrat else 2, 0),
        "accesses and entries refused": (3, 2),
    }


@pytest.mark.parametrize("cpu", list(CORES))
def test_memory_tells_the_same_as_the_program(cpu):
    """Seen from outside: both ran the same program in different memory, and neither wrote into the other's vault."""
    kernel = demo.image(CORES[cpu].bits)
    with Machine(cpu=cpu, kernel=kernel, no_reboot=True) as machine:
        assert machine.run(SECONDS).kind == "poweroff"
        text = machine.console.text

        def word(address: int) -> int:
            return int.from_bytes(machine.memory[address : address + 4], "big")

        places = re.findall(r"KiB are at 0x(\w+), its vault at 0x(\w+)", text)
        labels = build.partition(CORES[cpu].bits).symbols
        wrote = (layout.MEMORY_SIZE // 2 | MAS3.SR | MAS3.SW, 0)
        refusals = (3, 2)
        for number, (memory, vault) in enumerate((int(m, 16), int(v, 16)) for m, v in places):
            assert word(memory + labels["ticks"]) == layout.TICKS
            assert word(memory + labels["calls"]) == layout.SYSTEM_CALLS
            assert word(memory + labels["refusals"]) == refusals[number]
            assert word(memory + labels["strangers"]) == 0
            assert word(memory + layout.MEMORY_SIZE // 2) == wrote[number]
            canaries = (partitions.CANARY + number).to_bytes(4, "big") * (layout.VAULT_SIZE // 4)
            assert machine.memory[vault : vault + layout.VAULT_SIZE] == canaries
        assert len(places) == 2


# ---- what it is when something is wrong ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "cpu", "says"),
    [
        ("fault=tlpid", "e500mc", ["A was refused three times, B's", "B was refused three times, A's"]),
        ("fault=tag", "e5500", ["A got an answer to each", "none was lost, none came twice"]),
        ("fault=extgs", "e5500", ["all its own, and its own doing"] * 2),
        ("fault=mask", "e6500", ["all its own, and its own doing"] * 2),
    ],
)
def test_what_is_broken_is_found_and_told_by_the_exit_status(fault, cpu, says):
    status, text, errors = run(f"-cpu {cpu} -append {fault}")
    assert status == 4 and "-no-reboot" in errors
    failed = re.findall("^  NO  (.*)$", text, re.MULTILINE)
    assert len(failed) == len(says) and all(map(str.startswith, failed, says)), text
    assert text.endswith(f"\n{len(says)} of 15 checks FAILED\n")


def test_every_fault_is_tried():
    marks = test_what_is_broken_is_found_and_told_by_the_exit_status.pytestmark
    assert {case[0] for case in marks[0].args[1]} == {name for name, _ in options.FAULTS}


@pytest.mark.parametrize("words", ["turbo", "fault=tlpid turbo", "fault=", "fault=tlpid,tag"])
def test_an_option_that_it_does_not_know_is_one_line(words):
    command = [sys.executable, "-m", "powervisor", "run", "hypervisor-demo", "-append", words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, stdin=subprocess.DEVNULL)
    assert done.returncode == 4
    known = " ".join(name for name, _ in options.FAULTS)
    assert done.stdout == f"hypervisor-demo: {words.split()[-1]}: no such option; there is {known}\n"
    assert done.stderr.count("\n") == 1


def test_it_is_built_once_for_each_word_size_and_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("POWERVISOR_CACHE", str(tmp_path))
    paths = [demo.image(bits) for bits in (32, 64, 32)]
    assert paths[0] == paths[2] != paths[1]
    assert sorted(path.name for path in catalogue.cache().iterdir()) == sorted({path.name for path in paths})


# ---- its pages -----------------------------------------------------------------------------------------------------


def quotes(*kinds: str) -> list[tuple[str, str, str]]:
    """Quoted blocks of some kinds on all pages: page, what comes after the kind, the lines."""
    return [
        (page.name, rest.strip(), text)
        for page in PAGES
        for kind, rest, text in QUOTED.findall(page.read_text())
        if kind in kinds
    ]


def stripped(text: str) -> str:
    """Lines without the numbers that the clock decides, empty lines left out."""
    lines = [line.rstrip() for line in text.splitlines()]
    return "\n".join(re.sub(r" *\d+", " n", line) if VARIES.search(line) else line for line in lines if line) + "\n"


def test_pages_follow_each_other():
    assert [page.name[0] for page in PAGES] == list("123456")
    for page in PAGES[1:]:
        assert f"]({page.name})" in PAGES[0].read_text()


@pytest.mark.parametrize(("page", "words", "text"), quotes("output"))
def test_quoted_output_is_what_it_prints(page, words, text):
    """In order; lines between those quoted may be left out."""
    printed = iter(stripped(run(words)[1]).splitlines())
    for line in stripped(text).splitlines():
        assert line in printed, f"{page}: {line!r} is not printed (here) with options '{words}'"


@pytest.mark.parametrize(("page", "file", "text"), quotes("asm", "python"))
def test_quoted_sources_stand_there(page, file, text):
    places = [SOURCES / file, SOURCES / "program" / file]
    assert text in next(place for place in places if place.exists()).read_text(), f"{page}: {file} reads otherwise"


def test_every_label_that_is_named_exists():
    named = 0
    for page in PAGES:
        for file, label in re.findall(r"([\w/]+\.(?:s|py)):\s+`(\w+)`", page.read_text()):
            text = (SOURCES / file).read_text()
            if file.endswith(".s"):
                assert re.search(rf"^({label}:|\.macro {label}\b)", text, re.MULTILINE), f"{page.name}: {file}: {label}"
            else:
                functions = {node.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)}
                assert label in functions, f"{page.name}: {file}: {label}"
            named += 1
    assert named > 20


def test_every_command_on_the_pages_is_tried_here():
    lines = [line.strip() for page in PAGES for line in page.read_text().splitlines() if line.startswith("    powerv")]
    tried = {"", "-cpu e6500 -smp 2", *(f"-append {name}" for name, _ in options.FAULTS)}
    for command in lines:
        words = command.partition("#")[0].split()
        assert words[:3] == ["powervisor", "run", "hypervisor-demo"] and " ".join(words[3:]) in tried, command


def test_every_file_is_in_the_list_of_page_6():
    listed = set(re.findall(r"`([\w/]+\.(?:s|py))`", PAGES[-1].read_text())) - {"guests/builtin/routines.s"}
    files = {str(path.relative_to(SOURCES)) for path in SOURCES.rglob("*") if path.suffix in (".s", ".py")}
    assert listed == {file for file in files if not file.endswith("__init__.py") and file != "build.py"}
    assert all(len((SOURCES / file).read_text().splitlines()) < 500 for file in files)
