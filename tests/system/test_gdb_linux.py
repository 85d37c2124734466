"""Debian's gdb-multiarch and Linux with two CPUs: its kernel, from its first function on, and its programs."""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from powervisor import Machine
from powervisor.analysis.symbol_map import elf_of_map
from powervisor.debug.gdb.server import GdbServer
from powervisor.guests.archive import Cpio
from tests.analysis.programs import COMPILER, needs_compiler
from tests.system.booting import options
from tests.system.test_gdb import gdb

pytestmark = [
    pytest.mark.skipif(not shutil.which("gdb-multiarch"), reason="there is no gdb-multiarch"),
    needs_compiler,
]

PROGRAM = """
int counter;

int following(int number)
{
    return number + 1;
}

void own_number(void)
{
    register int r0 __asm__("r0") = 20;
    __asm__ volatile("sc" : "+r"(r0) : : "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "cr0");
}

void _start(void)
{
    for (;;) {
        counter = following(counter);
        own_number();
    }
}
"""


def program(directory: Path) -> Path:
    """PROGRAM for Linux, with what a debugger wants to know of it."""
    source, output = directory / "spin.c", directory / "spin"
    source.write_text(PROGRAM)
    flags = ["-g", "-O1", "-fno-inline", "-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none"]
    subprocess.run([COMPILER, *flags, "-o", output, source], check=True)
    return output


def test_linux_with_two_cpus_is_debugged_from_start_kernel_to_a_user_program(tmp_path):
    spin = program(tmp_path)
    words = options("k32", "")
    archive = Cpio()
    archive.file("spin", spin.read_bytes(), 0o755)
    initrd = tmp_path / "initrd"
    initrd.write_bytes(Path(words["initrd"]).read_bytes() + gzip.compress(archive.data()))
    with Machine(**words | {"cores": 2, "serial": [None], "initrd": initrd}) as machine:
        server = GdbServer(machine, "tcp::0")
        machine.start()
        console = machine.console
        console.expect("/ # ", timeout=60)
        console.send("grep -E ' T (start_kernel|ksys_sync|sys_getpid|do_exit)$' /proc/kallsyms; echo tol''d\n")
        kernel = tmp_path / "kernel"
        kernel.write_bytes(elf_of_map(console.expect("told", timeout=20).encode(), "kallsyms"))

        idle = gdb(server.address, "info threads", "detach")
        assert len(re.findall(r"Thread 1\.[12] \(CPU [01] \[\w+\]\) +0x\w+", idle)) == 2

        threading.Timer(1, lambda: console.send("sync; echo syn''ced\n")).start()
        text = gdb(
            server.address, "hbreak *ksys_sync", "continue", "print $pc", "info registers pid pvr msr", "x/i $pc",
            "stepi", "stepi", "print $pc", "monitor info tlb", "detach", file=kernel,
        )  # fmt: skip
        assert re.search(r"hit Breakpoint 1, 0x\w+ in ksys_sync \(\)", text)
        assert "<ksys_sync>" in text and "<ksys_sync+8>" in text
        assert re.search(r"pvr +0x80230020", text)
        assert re.search(r"^1 +0 00000000c0000000 0000000000 ", text, re.M)
        console.expect("synced", timeout=20)

        console.send("/spin & echo sta''rted\n")
        console.expect("started", timeout=20)
        text = gdb(
            server.address, f"add-symbol-file {kernel}", "break following if number > 2", "continue", "backtrace",
            "print $msr >> 14 & 1", "finish", "delete", "watch counter", "continue", "delete", "break sys_getpid",
            "continue", "print $msr >> 14 & 1", "detach", file=spin,
        )  # fmt: skip
        assert re.search(r"hit Breakpoint 1, following \(number=\d+\) at .*spin.c:6", text)
        assert re.search(r"#1 +0x\w+ in _start \(\) at .*spin.c:18", text)
        assert "$1 = 1" in text, "in user mode"
        number = int(re.search(r"Value returned is \$2 = (\d+)", text)[1])
        assert re.search(rf"atchpoint 2: counter\n\nOld value = {number - 1}\nNew value = {number}\n", text)
        assert re.search(r"hit Breakpoint 3, 0x\w+ in sys_getpid \(\)", text) and "$3 = 0" in text

        console.send("/spin & echo beg''un\n")
        console.expect("begun", timeout=20)
        text = gdb(
            server.address, "break following", "continue", "set $first = $pid", "delete",
            'eval "monitor break %#lx pid %ld", &following, $pid', "continue", "print $pid - $first", "stepi",
            "continue", "print $pid - $first", "monitor delete", "detach", file=spin,
        )  # fmt: skip
        assert "$1 = 0" in text and "$2 = 0" in text and text.count("received signal SIGTRAP") == 2
        console.send("killall spin; echo kil''led\n")
        console.expect("killed", timeout=20)

        text = gdb(
            server.address, "break start_kernel", "monitor system_reset", "continue", "info threads", "print $pid",
            "delete", "detach", file=kernel,
        )  # fmt: skip
        assert re.search(r"Breakpoint 1, 0x\w+ in start_kernel \(\)", text)
        assert re.search(r"Thread 1\.1 \(CPU 0 \[runs\]\) +0x\w+ in start_kernel", text)
        assert "(CPU 1 [held])" in text and "$1 = 0" in text
        server.close()
        console.expect("/ # ", timeout=60)
        console.send("poweroff -f\n")
        assert machine.wait(20).kind == "poweroff"
