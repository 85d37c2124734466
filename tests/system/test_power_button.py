"""The power button: Linux hears it as gpio-keys, ends its programs, unmounts its disks, and powers off."""

from __future__ import annotations

import subprocess
from contextlib import ExitStack

import pytest

from powervisor import Machine
from tests.system.booting import TROUBLE, needs, options, with_own_files
from tests.system.test_qmp import served


def listening(name, directory):
    """Keywords of `Machine` for Linux to its shell; the test is skipped where its kernel has no ear for the button."""
    needs(name, "CONFIG_KEYBOARD_GPIO", "CONFIG_INPUT_EVDEV")
    return with_own_files(options(name, ""), directory) | {"serial": [None]}


@pytest.mark.parametrize("name", ["k32", pytest.param("k64", marks=pytest.mark.slow)])
def test_linux_ends_its_programs_and_unmounts_its_disks(name, tmp_path):
    image = tmp_path / "disk"
    image.write_bytes(bytes(4 << 20))
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext2", image], check=True)
    with Machine(**listening(name, tmp_path), drives=[f"file={image}"]) as machine:
        machine.start()
        console = machine.console
        console.expect("/ # ", timeout=100)
        console.send("mkdir -p /mnt; mount /dev/vda /mnt && ")
        console.send("(trap 'echo ended >/mnt/how; exit' TERM; echo TRAPS-$((6 * 7)); while :; do sleep 0.1; done)&\n")
        console.expect("TRAPS-42", timeout=30)
        machine.power_down()
        outcome = machine.wait(60)
        assert outcome is not None and outcome.kind == "poweroff"
        assert "The power button was pressed." in console.text
        assert not TROUBLE.search(console.text)
    assert "Filesystem state:         clean\n" in _says("dumpe2fs", "-h", image)
    assert _says("debugfs", "-R", "cat how", image) == "ended\n"


@pytest.mark.slow
@pytest.mark.parametrize("command", [{}, {"command-line": "system_powerdown"}], ids=["QMP", "monitor"])
def test_whoever_asks_for_it_presses_the_same_button(tmp_path, command):
    with ExitStack() as stack:
        machine = stack.enter_context(Machine(**listening("k32", tmp_path)))
        client = served(stack, machine, tmp_path / "qmp")
        machine.console.expect("/ # ", timeout=100)
        if command:
            assert client.ask("human-monitor-command", **command) == ""
        else:
            assert client.ask("system_powerdown") == {}
        assert client.event("SHUTDOWN") == {"guest": True, "reason": "guest-shutdown"}
        outcome = machine.wait(60)
        assert outcome is not None and outcome.kind == "poweroff"


def _says(*words: object) -> str:
    return subprocess.run(list(map(str, words)), check=True, capture_output=True, text=True).stdout
