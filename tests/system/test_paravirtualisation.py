"""Unmodified Linux with Powervisor as its ePAPR hypervisor: console, idle, several CPUs, reboot and power-off."""

from __future__ import annotations

import json
import random
import re
import socket
import time
from hashlib import md5

import pytest

from powervisor import Machine
from powervisor.console import open_named
from tests.support.hypercalls import BOARD
from tests.system.booting import boot, check_linux, needs, options
from tests.system.test_devices import shell

DRIVERS = "CONFIG_PPC_EPAPR_HV_BYTECHAN", "CONFIG_EPAPR_PARAVIRT", "CONFIG_KVM_GUEST"
PROMPT = "# "


def check_boot(guest: str, cpus: int, stats, *words: str) -> None:
    """It has its console on a byte channel and every CPU idles by hypercall, which native code answers."""
    needs(guest, *DRIVERS)
    look = shell("cat /sys/class/tty/console/active | sed s/^/ACTIVE-/", "sleep 0.2", "grep ehv-bc /proc/interrupts")
    done = boot(guest, "-M", BOARD, "-stats", str(stats), *words, append=look)
    check_linux(done, cpus)
    assert "console [ttyEHV0] enabled" in done.output
    assert "registered /dev/ttyEHV0 for byte channel 1" in done.output
    assert re.search(r"ACTIVE-.*ttyEHV0", done.output)
    assert len(re.findall(r"OpenPIC +\d+ Level +ehv-bc", done.output)) == 2
    for vcpu in json.loads(stats.read_text())["vcpus"]:
        idle = vcpu["counters"]["hypercalls"] - vcpu["exits"].get("hcall", 0)
        assert idle > 1 and vcpu["counters"]["halts"] > 1


def test_linux_uses_its_hypervisor(tmp_path):
    check_boot("k32", 2, tmp_path / "stats", "-smp", "2")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("guest", "cpus", "words"),
    [
        ("k32", 8, ("-smp", "8")),
        ("k64", 1, ("-smp", "1")),
        ("k64", 4, ("-smp", "4")),
        ("k64av", 2, ("-smp", "2")),
        ("k64av", 4, ("-smp", "cores=2,threads=2")),
    ],
)
def test_linux_uses_its_hypervisor_on_every_core(tmp_path, guest, cpus, words):
    check_boot(guest, cpus, tmp_path / "stats", *words)


def test_the_console_takes_what_is_typed_and_pasted():
    """More than the guest's terminal holds: its driver holds the interrupt off meanwhile, and nothing is lost."""
    needs("k32", *DRIVERS)
    words = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz", k=60) + ["\n"]) * 500
    with Machine(**options("k32", "") | {"board": BOARD}, serial=[None]) as machine:
        machine.start()
        machine.console.expect(PROMPT, timeout=60)
        machine.console.send("echo $((6 * 7)); tty\n")
        assert "42\r\n/dev/ttyEHV0" in machine.console.expect("EHV0", timeout=20)
        machine.console.send(f"stty -echo; head -c {len(words)} | md5sum\n")
        machine.console.send(words, timeout=60)
        machine.console.expect(md5(words.encode()).hexdigest(), timeout=60)
        machine.console.send("poweroff -f\n")
        outcome = machine.wait(30)
        assert outcome is not None and outcome.kind == "poweroff"


@pytest.mark.slow
@pytest.mark.parametrize("guest", ["k32", "k64"])
def test_reboot_boots_again(guest):
    needs(guest, *DRIVERS)
    with Machine(**options(guest, "run=reboot+-f") | {"board": BOARD, "cores": 2}, serial=[None]) as machine:
        machine.start()
        for _ in range(3):
            machine.console.expect("BOOT-OK", timeout=100)
        machine.stop()


@pytest.mark.slow
def test_a_second_channel_waits_for_its_reader(tmp_path):
    """5 MB to a socket that nobody reads for a while: the guest waits for transmit interrupts, and all arrive."""
    needs("k32", *DRIVERS)
    _, chardev = open_named(f"socket,id=p,path={tmp_path}/s,server=on,wait=off")
    count = 5 << 20
    append = shell(
        "stty -F /dev/ttyEHV1 raw",
        f"dd if=/dev/urandom of=/tmp/out bs={count} count=1 2>/dev/null; md5sum /tmp/out",
        "cat /tmp/out >/dev/ttyEHV1",
        "echo SENT",
        "read -r line </dev/ttyEHV1; echo heard $line",
    )
    with Machine(**options("k32", append) | {"board": BOARD}, serial=[None, chardev]) as machine:
        machine.start()
        machine.console.expect("/tmp/out", timeout=60)
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(60)
            client.connect(f"{tmp_path}/s")
            time.sleep(1)
            assert "\nSENT" not in machine.console.text
            got = bytearray()
            while len(got) < count:
                piece = client.recv(1 << 16)
                assert piece
                got += piece
            machine.console.expect("\nSENT", timeout=60)
            client.sendall(b"words\n")
            machine.console.expect("heard words", timeout=60)
            outcome = machine.wait(60)
        assert outcome is not None and outcome.kind == "poweroff"
        assert f"{md5(got).hexdigest()}  /tmp/out" in machine.console.text


@pytest.mark.slow
def test_uarts_can_stay(tmp_path):
    done = boot("k32", "-M", f"{BOARD},serial=uart,doorbells=0", append="stop")
    check_linux(done, 2)
    assert "console [ttyS0] enabled" in done.output and "EHV" not in done.output
