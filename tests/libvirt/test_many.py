"""Many machines, many starts, and a libvirtd that is killed meanwhile."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.libvirt.daemons import Daemons, free_huge_pages
from tests.libvirt.domains import NETWORK, RANDOM, disk
from tests.libvirt.guests import UP, Guest, descends, linux
from tests.support.waiting import until

pytestmark = pytest.mark.slow
CYCLES = 50


@pytest.fixture
def own(request):
    """A libvirtd of the test's own, to be killed; with huge pages where the test's parameter says so."""
    huge_pages = getattr(request, "param", False)
    if huge_pages:
        request.getfixturevalue("huge_pages")
    daemons = Daemons(huge_pages=huge_pages)
    try:
        daemons.start()
        yield daemons
    finally:
        daemons.close()


def test_no_machine_is_lost_when_libvirtd_is_killed(own):
    machines = [Guest(own, linux(own, devices=[NETWORK])) for _ in range(3)]
    for machine in machines:
        machine.start()
    for machine in machines:
        machine.expect("#")
    processes = [machine.process() for machine in machines]
    machines[1].virsh("suspend")
    own.kill()
    own.start()
    for machine in machines:
        machine.reconnect()
    assert [machine.state.split()[0] for machine in machines] == ["running", "paused", "running"]
    assert [machine.process() for machine in machines] == processes
    machines[1].virsh("resume")
    for machine in machines:
        assert "alive" in machine.run("echo al''ive")
    own.kill(by=signal.SIGTERM)
    os.kill(processes[2], signal.SIGKILL)
    own.start()
    for machine in machines:
        machine.reconnect()
    assert machines[2].state.startswith("shut off")
    machines[0].virsh("destroy")
    for machine in machines:
        machine.close()


def test_a_machine_starts_with_libvirtd(own):
    machine = Guest(own, linux(own))
    machine.virsh("autostart")
    own.kill(by=signal.SIGTERM)
    for marker in own.runs.rglob("autostarted"):
        marker.unlink()  # as if the host had been booted
    own.start()
    machine.reconnect()
    machine.expect(UP)
    machine.virsh("autostart", "--disable")
    machine.close()


@pytest.mark.parametrize("own", [False, True], ids=["pages", "huge pages"], indirect=True)
def test_fifty_starts_leave_nothing_behind(own):
    image = own.directory / "disk.img"
    with image.open("wb") as file:
        file.truncate(1 << 20)
    memory = ["<memoryBacking><hugepages/></memoryBacking>"] if own.huge_pages else []
    machine = Guest(own, linux(own, devices=[disk(image), NETWORK, RANDOM], extra=memory))
    ended: list[int] = []

    def cycle():
        machine.start()
        machine.expect("Linux version")
        processes = descends(machine.process())
        machine.virsh("destroy")
        until(lambda: not any(map(alive, processes)), "the end of all processes")
        ended.append(processes[0])

    def left():
        files = sorted(str(path) for path in own.directory.rglob("*"))
        return files, len(os.listdir(f"/proc/{own.process('libvirtd')}/fd")), free_huge_pages() if memory else 0

    for _ in range(2):
        cycle()
    before = left()
    for _ in range(CYCLES):
        cycle()
    until(lambda: left() == before, f"no more than {before}; there is {left()}")
    assert not list(Path("/sys/fs/cgroup").glob(f"*/machine/*{machine.name}*"))
    sockets = Path("/tmp").glob("powervisor-*/*")
    assert not {str(process) for process in ended} & {path.name for path in sockets}, "control sockets"
    machine.close()


def alive(process):
    """Whether a process is there and no zombie."""
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
