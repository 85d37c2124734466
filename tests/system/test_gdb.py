"""Debian's gdb-multiarch as people use it: with programs of their own, and partitions of a hypervisor."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

import pytest

from powervisor.debug.gdb.server import GdbServer
from tests.debug.test_gdb import GUEST
from tests.system.bare import bare_machine
from tests.system.booting import TREE

pytestmark = pytest.mark.skipif(not shutil.which("gdb-multiarch"), reason="there is no gdb-multiarch")

PROGRAM = """
volatile int counter, last;

int square(int x)
{
    return x * x;
}

void _start(void)
{
    for (;;) {
        counter++;
        last = square(counter);
    }
}
"""


def gdb(address, *commands, file=None, timeout=60, extended=False):
    """What gdb prints."""
    words = ["gdb-multiarch", "-nx", "-batch", *([str(file)] if file else [])]
    lines = ["set pagination off", "set confirm off", "set width 0"]
    lines += [*([] if file else ["set endian big"]), f"target {'extended-' * extended}remote {address}", *commands]
    done = subprocess.run(
        words + [word for line in lines for word in ("-ex", line)],
        capture_output=True,
        text=True,
        timeout=timeout,
        errors="replace",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr  # where `monitor` goes


@pytest.mark.parametrize(("cpu", "prefix", "emulation"), [("e500mc", "powerpc-linux-gnu", "")])
def test_a_program_is_loaded_stepped_and_watched_by_its_source(tmp_path, cpu, prefix, emulation):
    compiler = shutil.which(f"{prefix}-gcc")
    if compiler is None:
        pytest.skip(f"there is no {prefix}-gcc")
    source, program = tmp_path / "program.c", tmp_path / "program"
    source.write_text(PROGRAM)
    flags = ["-g", "-O0", "-nostdlib", "-static", "-ffreestanding", "-Wl,-Ttext=0x100000,--build-id=none"]
    subprocess.run([compiler, *flags, "-o", str(program), str(source)], check=True)
    with bare_machine("stay: b stay", cpu) as machine:
        server = GdbServer(machine, "tcp::0")
        machine.hold()
        machine.start()
        text = gdb(
            server.address, "load", "set $r1 = 0x200000", "break square", "continue", "continue", "print x",
            "backtrace", "finish", "next", "print last", "delete", "watch counter", "continue", "print counter",
            "tbreak *$pc", "monitor info cpus", "detach", file=program,
        )  # fmt: skip
        server.close()
        assert "Start address 0x0010" in text
        assert len(re.findall(r"Breakpoint 1, square \(x=\d\) at .*program.c:6", text)) == 2
        assert "$1 = 2" in text and "Value returned is $2 = 4" in text and "$3 = 4" in text
        assert re.search(r"#1 +0x\w+ in _start \(\) at .*program.c:13", text)
        assert re.search(r"Hardware watchpoint 2: counter\n\nOld value = 2\nNew value = 3\n", text)
        assert "$4 = 3" in text and re.search(r"cpu0: pc 0x10\w+, runs, \d+ instructions", text)


def test_the_command_line_waits_for_gdb(tmp_path):
    words = [sys.executable, "-m", "powervisor", "run", "-append", "test; poweroff", "-S", "-gdb", f"unix:{tmp_path}/s"]
    run = subprocess.Popen(
        words, cwd=TREE, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    while not (tmp_path / "s").exists():
        assert run.poll() is None, run.stdout.read()
    assert "$1 = 0x100004" in gdb(f"{tmp_path}/s", "stepi", "print/x $pc", "detach")
    with run.stdout:
        assert run.stdout.read().count("PASS") > 10
    assert run.wait(30) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-gdb", "tcp::99999"], "-gdb tcp::99999: write tcp::PORT, tcp:HOST:PORT or unix:PATH"),
        (["-gdb", "unix:/nowhere/gdb"], "-gdb unix:/nowhere/gdb: cannot listen there (No such file or directory)"),
    ],
)
def test_a_wrong_place_for_gdb_is_one_line(words, message):
    done = subprocess.run(
        [sys.executable, "-m", "powervisor", "run", *words], cwd=TREE, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1 and message in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("cpu", ["e500mc", "e6500"])
def test_a_partition_is_an_inferior_with_breakpoints_of_its_own(cpu):
    with bare_machine(GUEST, cpu) as machine:
        server = GdbServer(machine, "tcp::0")
        machine.hold()
        machine.start()
        shared = machine.symbols["shared"]
        text = gdb(
            server.address, "set schedule-multiple on", "add-inferior", "inferior 2", "attach 6", "info threads",
            "inferior 1", f"break *{shared:#x}", "continue", "print $msr >> 28 & 1", "continue", "print $msr >> 28 & 1",
            "delete", "inferior 2", f"break *{shared:#x}", "info os processes", "inferior 1", "continue", "continue",
            "print $msr >> 28 & 1", "print $_inferior", "info threads", "stepi", "print/x $pc", "detach inferiors 2",
            "detach inferiors 1", extended=True,
        )  # fmt: skip
        server.close()
        assert "Thread 6.1 (partition 5, CPU 0 [in another process]) <unavailable> in ?? ()" in text
        assert text.count("Thread 1.1 hit Breakpoint 1") == 2 and "$1 = 0" in text and "$2 = 0" in text
        assert "Thread 2.1 hit Breakpoint 2" in text and "$3 = 1" in text and "$4 = 2" in text
        assert "Thread 1.1 (CPU 0 [in another process])" in text and f"$5 = {shared + 4:#x}" in text
        assert re.search(r"^6 +partition with LPID 5", text, re.M)
        assert "[Inferior 2 (process 6) detached]" in text and "[Inferior 1 (process 1) detached]" in text
