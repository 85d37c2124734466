"""Linux and U-Boot boot, work and end as they do on a board."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys

import pytest

from powervisor import Machine
from tests.system.booting import TREE, boot, check_linux, files, options

TIMES = 10


def test_linux_boots_on_two_cpus_and_powers_off():
    check_linux(boot("k32", "-smp", "2"), 2)


def test_uboot_comes_to_its_prompt_and_obeys():
    with Machine(**options("uboot"), no_reboot=True, serial=[None]) as machine:
        machine.start()
        machine.console.expect("=> ", timeout=60)

        def said(command: str) -> str:
            machine.console.send(command + "\n")
            return machine.console.expect("=> ", timeout=60)

        assert "U-Boot 20" in said("version")
        assert re.search(r"size\s*=\s*0x0*20000000", said("bdinfo"))
        said("fdt addr ${fdtcontroladdr}")
        assert 'compatible = "fsl,qemu-e500"' in said("fdt print / compatible")
        assert "serial" in said("dm tree")
        machine.console.send("reset\n")
        outcome = machine.wait(60)
        assert outcome is not None and outcome.kind == "reset"


def test_uboot_reset_under_no_reboot_is_status_4():
    words = [sys.executable, "-m", "powervisor", "run", "-no-reboot", "-timeout", "60", "-bios", files("uboot")["bios"]]
    process = subprocess.Popen(
        [*words, "-cpu", "e500mc"], cwd=TREE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        seen = b""
        while b"=> " not in seen:
            piece = process.stdout.read1(4096)
            assert piece, seen
            seen += piece
        process.communicate(b"reset\n", timeout=90)
    finally:
        process.kill()
    assert process.returncode == 4


def test_reboot_boots_linux_again():
    with Machine(**options("k32", "run=reboot+-f"), serial=[None]) as machine:
        machine.start()
        for _ in range(3):
            machine.console.expect("BOOT-OK", timeout=100)
        machine.stop()


def shell(*commands: str) -> str:
    """The kernel argument that makes /init run commands, then power off."""
    return "stop run=" + ";".join(command.replace(" ", "+") for command in commands)


MD5_OF_64_MB = hashlib.md5(bytes(64 << 20)).hexdigest()
PIPES = (
    "for i in $(seq 500); do /bin/true; done; echo LOOP-DONE $?",
    "seq 20000 | sort -rn | tail -n 1 | sed s/^/PIPE-/",
    "dd if=/dev/zero bs=1M count=64 2>/dev/null | md5sum",
)


@pytest.mark.slow
@pytest.mark.parametrize("cpus", [1, 4])
@pytest.mark.parametrize("name", ["k32", "k64", "k64av"])
def test_a_fork_heavy_shell_gives_right_results(name, cpus):
    done = boot(name, "-smp", str(cpus), append=shell(*PIPES))
    check_linux(done, cpus)
    assert "LOOP-DONE 0" in done.output
    assert "PIPE-1\r" in done.output or "PIPE-1\n" in done.output
    assert MD5_OF_64_MB in done.output


SHOWN = {
    **{f"k32-smp{n}": ("k32", n, ("-smp", str(n))) for n in (1, 2, 4, 8)},
    "k32-64M": ("k32", 2, ("-m", "64M")),
    "k32-6G": ("k32", 2, ("-m", "6G")),
    **{f"k64-smp{n}": ("k64", n, ("-smp", str(n))) for n in (1, 2, 4)},
    **{f"k64av-smp{n}": ("k64av", n, ("-smp", str(n))) for n in (1, 2)},
    "k64av-threads": ("k64av", 4, ("-smp", "cores=2,threads=2")),
}


@pytest.mark.slow
@pytest.mark.parametrize("which", SHOWN)
def test_it_boots_ten_times_in_a_row(which):
    name, cpus, words = SHOWN[which]
    for _ in range(TIMES):
        check_linux(boot(name, *words), cpus)


@pytest.mark.slow
def test_uboot_boots_linux_ten_times_in_a_row():
    for _ in range(TIMES):
        done = boot("k32", "-bios", files("uboot")["bios"])
        check_linux(done, 2)
        assert "U-Boot 20" in done.output


@pytest.mark.slow
def test_linux_sees_the_threads_of_cores():
    topology = "cat /sys/devices/system/cpu/cpu*/topology/thread_siblings_list | sed s/^/SIBLINGS-/"
    done = boot("k64av", "-smp", "cores=2,threads=2", append=shell(topology))
    check_linux(done, 4)
    assert re.findall(r"SIBLINGS-([\d,-]+)", done.output) == ["0-1", "0-1", "2-3", "2-3"]
