"""The session of docs/libvirt.md: machines that powervisor libvirt xml writes live with libvirt."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.libvirt.daemons import Daemons
from tests.libvirt.guests import unique
from tests.support.waiting import until
from tests.system.booting import TREE, files, needs, with_own_files

PAGE = TREE / "docs" / "libvirt.md"
PROMPT = "    $ "
pytestmark = pytest.mark.slow


class Host:
    """A shell on a host where the launchers are the tests' own, and so is libvirt."""

    def __init__(self, daemons: Daemons, directory: Path) -> None:
        self.daemons, self.directory = daemons, directory
        daemons.machine_log("any").parent.mkdir(parents=True, exist_ok=True)  # as packages do
        programs = directory / "bin"
        programs.mkdir()
        for path in daemons.emulators.values():
            (programs / path.name).symlink_to(path)
        guests = directory / "guests"
        guests.mkdir()
        found = files("k32")
        shutil.copyfile(found["kernel"], guests / Path(found["kernel"]).name)
        own = with_own_files(found, directory)["initrd"]
        shutil.copyfile(own, guests / Path(found["initrd"]).name)
        self._environment = {**os.environ, "POWERVISOR_GUESTS": str(guests), "PYTHONPATH": str(TREE)}
        more = f"-prefix {directory}" + (" -session" if daemons.session else "")
        self._functions = (
            f'powervisor() {{ {shlex.quote(sys.executable)} -m powervisor "$@" {more}; }}\n'
            f'virsh() {{ command virsh -c {shlex.quote(daemons.uri)} "$@"; }}\n'
            'sudo() { "$@"; }\n'
        )

    def run(self, line: str) -> str:
        """What a line of the page prints."""
        done = subprocess.run(
            ["sh", "-c", self._functions + line], cwd=self.directory, env=self._environment, capture_output=True,
            text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture
def host(daemons):
    directory = daemons.directory / unique("host")
    directory.mkdir()
    return Host(daemons, directory)


def test_the_session_of_the_page(host, daemons):
    needs("k32", "CONFIG_KEYBOARD_GPIO", "CONFIG_INPUT_EVDEV")
    name = unique("board")
    lines = [line.removeprefix(PROMPT) for line in PAGE.read_text().splitlines() if line.startswith(PROMPT)]
    assert len(lines) > 10
    log = daemons.machine_log(f"{name}-serial0")
    for line in lines:
        line = re.sub("/var/lib/libvirt(/images)?", str(host.directory), line)
        said = host.run(line.replace("board", name))
        words = line.split()
        if line == "virsh list":
            assert name in said and "running" in said
            until(lambda: "/ # " in log.read_text(errors="replace"), "Linux's shell", 60)
        elif words[:2] == ["virsh", "shutdown"]:
            until(lambda: "shut off" in daemons.virsh("domstate", name), "power off")
            assert "The power button was pressed." in log.read_text(errors="replace")
        elif words[:2] == ["virsh", "domstats"]:
            assert "block.count=1" in said and "net.count=1" in said and "vcpu.maximum=2" in said
        elif "info mpic" in line:
            assert "serial0" in said
    assert name not in daemons.virsh("list", "--all")


def test_what_is_written_is_what_libvirts_schema_says(host, daemons):
    name = unique("whole")
    line = (
        "-kernel guests/uImage-k32 -cpu e6500 -smp cores=2,threads=2 -M ppce500,hypervisor=on -dtb guests/uImage-k32 "
        "-drive file=a.img,readonly=on -drive if=sd,file=b.img -netdev user,id=n -device virtio-net-pci,netdev=n "
        "-netdev user,id=m,hostfwd=tcp::2222-:22 -device e1000,netdev=m -device virtio-rng-pci -mem-prealloc "
        "-virtfs local,path=/tmp,mount_tag=t -serial pty -serial null -network default -no-reboot"
    )
    host.run(f"powervisor libvirt xml {line} -name {name} >domain.xml && virsh define --validate domain.xml")
    assert "model fallback='forbid'>e6500<" in daemons.virsh("dumpxml", name)
    host.run(f"virsh undefine {name}")
