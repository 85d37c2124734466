"""Machines taken at a moment, put back, forked, saved to files and made again from them."""

from __future__ import annotations

import gc
import os
import random
import re
import shutil
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from powervisor import Machine, Snapshot
from powervisor.devices.gpio import POWER_BUTTON_LINE
from powervisor.errors import PowervisorError, UserError
from powervisor.guests.builtin import image
from powervisor.hv.saved import LAYOUTS, NOT_SAVED
from powervisor.machine.timing import Timing
from powervisor.native.struct import PtrType
from powervisor.testing import snapshots
from tests.support.waiting import until
from tests.system import booting
from tests.system.bare import MIB, POWERS_OFF, RESULTS, bare_machine, results

COUNT = """
    load32 r7, RESULTS
    li    r3, 0
1:  addi  r3, r3, 1
    stw   r3, 0(r7)
    rlwinm r4, r3, 3, 0, 28
    xor   r5, r5, r4
    b     1b
"""
DEVICE = """
    devices
    load32 r6, DEVICES + 0x4500
    load32 r7, RESULTS
    li    r3, 0
    li    r8, 0
1:  addi  r3, r3, 1
    stb   r3, 7(r6)             # the UART's scratch register, which native code answers for
    lbz   r4, 7(r6)
    rlwinm r5, r3, 0, 24, 31
    cmpw  r4, r5
    bne   2f
    lwz   r9, 0x40(r12)         # MPIC
    stb   r3, 4(r6)             # MCR: an exit to Python
    lbz   r4, 4(r6)
    rlwinm r5, r3, 0, 27, 31
    rlwinm r4, r4, 0, 27, 31
    cmpw  r4, r5
    bne   2f
    stw   r3, 0(r7)
    b     1b
2:  stw   r3, 4(r7)
    b     2b
"""


@pytest.fixture
def counting() -> Iterator[Machine]:
    with bare_machine(COUNT) as machine:
        yield machine


def registers(machine: Machine) -> tuple[int, ...]:
    cpu = machine.vcpus[0]
    return (cpu.instructions, cpu.regs["pc"], *(cpu.regs[f"r{n}"] for n in range(32)), *results(machine, 4))


def test_what_is_saved_has_no_addresses_of_this_process():
    for struct_, skipped in NOT_SAVED.items():
        assert skipped <= struct_.fields.keys()
        pointers = {name for name, field in struct_.fields.items() if isinstance(field.type, PtrType)}
        assert pointers <= skipped
        assert LAYOUTS[struct_].keys() | skipped == struct_.fields.keys()


def test_the_same_instructions_follow(counting):
    counting.run(instructions=100_003)
    snapshot, before = counting.snapshot(), registers(counting)
    counting.run(instructions=77_777)
    after = registers(counting)
    for _ in range(3):
        counting.restore(snapshot)
        assert registers(counting) == before
        counting.run(instructions=77_777)
        assert registers(counting) == after


def test_any_moment_can_be_had_in_any_order(counting):
    rng = random.Random(1)
    moments = []
    for _ in range(12):
        counting.run(instructions=rng.randrange(1, 200_000))
        moments.append((counting.snapshot(), registers(counting)))
    rng.shuffle(moments)
    for snapshot, state in moments:
        counting.restore(snapshot)
        assert registers(counting) == state
        counting.run(instructions=rng.randrange(1, 200_000))


def test_a_held_machine_stays_held_and_a_running_one_runs(counting):
    counting.start()
    counting.hold()
    snapshot = counting.snapshot()
    state = registers(counting)
    counting.restore(snapshot)
    time.sleep(0.05)
    assert registers(counting) == state
    counting.release()
    counting.restore(snapshot)
    time.sleep(0.05)
    counting.hold()
    assert registers(counting)[0] > state[0]


def test_time_goes_on_where_it_stood(counting):
    counting.run(seconds=0.02)
    hz = counting.board.clock_hz
    snapshot = counting.snapshot()
    clock, ticks = counting.clock.now_ns(), counting.vcpus[0].regs["tbl"]
    counting.run(seconds=0.3)
    counting.restore(snapshot)
    assert counting.clock.now_ns() == clock and counting.vcpus[0].regs["tbl"] == ticks
    time.sleep(0.3)
    counting.run(seconds=0.02)
    assert 0 < counting.clock.now_ns() - clock < 250_000_000
    assert 0 < counting.vcpus[0].regs["tbl"] - ticks < hz // 4
    with counting.fork() as other:
        assert 0 <= other.clock.now_ns() - counting.clock.now_ns() < 100_000_000


def test_accesses_to_devices_are_done_once():
    rng = random.Random(2)
    with bare_machine(DEVICE) as machine:
        machine.start()
        kept: list[Snapshot] = []
        for _ in range(80):
            time.sleep(rng.random() * 0.002)
            kept = [*kept[-3:], machine.snapshot()]
            time.sleep(rng.random() * 0.002)
            machine.restore(rng.choice(kept))
        machine.hold()
        count, failed = results(machine, 2)
        assert count > 100 and not failed


def test_forks_go_their_own_ways(counting):
    counting.run(instructions=10_000)
    state = registers(counting)
    children = [counting.fork() for _ in range(3)]
    try:
        for steps, child in enumerate(children, 1):
            child.run(instructions=steps * 1000)
            child.memory[RESULTS + 8 : RESULTS + 12] = struct.pack(">I", steps)
        assert registers(counting) == state
        counting.run(instructions=5000)
        grandchild = children[2].fork()
        children.append(grandchild)
        assert registers(grandchild) == registers(children[2])
        counting.close()
        for steps, child in enumerate(children[:3], 1):
            before = child.vcpus[0].instructions
            assert before == state[0] + steps * 1000
            assert child.run(instructions=100_000) is None
            assert results(child, 3)[2] == steps
    finally:
        for child in children:
            child.close()


def test_forks_give_everything_back(counting):
    def held() -> tuple[int, int]:
        gc.collect()
        maps = Path("/proc/self/maps").read_text().count("\n")
        return len(os.listdir("/proc/self/fd")), maps

    def fork(times: int) -> None:
        for _ in range(times):
            with snapshot.fork() as child:
                child.run(instructions=1000)

    counting.run(instructions=1000)
    snapshot = counting.snapshot()
    fork(4)  # the first ones import and start what stays
    files, maps = held()
    fork(12)
    assert held()[0] == files and held()[1] < maps + 60  # a machine has more than five


@pytest.mark.slow
def test_forks_wait_for_the_image_that_is_being_built(tmp_path, monkeypatch):
    monkeypatch.setenv("POWERVISOR_CACHE", str(tmp_path))
    with bare_machine(COUNT) as machine:
        machine.run(instructions=1000)
        coming = machine.vm.engine.coming
        assert coming is not None
        with machine.fork() as child, machine.fork() as grown:
            assert child.vm.engine.coming is coming and grown.vm.engine.coming is coming
            for one in (child, grown):
                one.start()
            machine.close()
            end = time.monotonic() + 200
            while child.vm.engine.coming is not None:
                assert time.monotonic() < end
                time.sleep(0.1)
            child.hold()
            before = results(child, 1)
            child.release()
            time.sleep(0.3)
            child.hold()
            assert results(child, 1) > before
            with child.fork() as late:
                assert late.vm.engine.coming is None
                assert late.vm.engine.image is child.vm.engine.image


def test_a_machine_that_ended_is_refused():
    with bare_machine(COUNT) as machine:
        machine.start()
        snapshot = machine.snapshot()
        machine.quit()
        with pytest.raises(PowervisorError, match="has ended"):
            machine.snapshot()
        with pytest.raises(PowervisorError, match="has ended"):
            machine.restore(snapshot)
        with snapshot.fork() as other:
            assert other.run(instructions=1000) is None


def test_another_machine_is_refused_with_what_differs(counting):
    snapshot = counting.snapshot()
    for options, says in (
        ({"cpu": "e500mc"}, "cpu e5500, the machine has e500mc"),
        ({"memory": 128 * MIB}, "memory 64 MiB, the machine has 128 MiB"),
        ({"cores": 2}, "cores 1, the machine has 2"),
        ({"devices": ["virtio-rng-pci,id=r"]}, "the machine has r besides; make"),
    ):
        with bare_machine(COUNT, **{"cpu": "e5500", **options}) as other:
            before = registers(other)
            with pytest.raises(UserError, match=says):
                other.restore(snapshot)
            assert registers(other) == before
    with bare_machine(COUNT) as other:
        other.restore(snapshot)
        assert registers(other) == registers(counting)


def test_a_device_that_refuses_leaves_the_machine_as_it_was(counting):
    counting.run(instructions=1000)
    snapshot = counting.snapshot()
    counting.run(instructions=1000)
    before = registers(counting)
    uart = next(saved for name, _, saved in snapshot.state["devices"] if name == "serial0")
    uart["registers"]["scratch"] = [0x55]
    snapshot.state["devices"][-1][2]["warp_drive"] = 1
    with pytest.raises(UserError, match="^snapshot: .*warp_drive; make the machine alike"):
        counting.restore(snapshot)
    assert registers(counting) == before
    assert counting.built.devices["serial0"].registers["scratch"][0].value == 0
    assert counting.run(instructions=1000) is None


def test_options_against_the_snapshot_are_refused(counting):
    snapshot = counting.snapshot()
    for option, value in (("cpu", "e500mc"), ("memory", 128 * MIB), ("cores", 2), ("kernel", "x"), ("append", "y")):
        with pytest.raises(UserError, match=f"^{option}"):
            snapshot.fork(**{option: value})
    for option, says in (("unknown", "leave it out"), ("no_rebot", "did you mean no_reboot")):
        with pytest.raises(UserError, match=f"^{option}: a machine has no such option; {says}"):
            counting.fork(**{option: 3})
    with snapshot.fork(cpu="e5500", no_reboot=True) as other:
        assert other.no_reboot


def test_forks_and_files_of_deterministic_machines_are_deterministic(tmp_path):
    with bare_machine(COUNT, deterministic=Timing(ns=3, seed=7)) as machine:
        machine.run(instructions=12_345)
        machine.snapshot().save(tmp_path / "s")
        ends = []
        for make in (machine.fork, machine.fork, lambda: Machine.load(tmp_path / "s")):
            with make() as other:
                assert other.lockstep.timing == machine.lockstep.timing == Timing(ns=3, seed=7, sleep=False)
                other.run(instructions=54_321)
                ends.append(other.statistics()["deterministic"]["hash"])
        assert len(set(ends)) == 1
        with machine.fork(deterministic=False, name="free") as other:
            assert other.lockstep is None and other.name == "free"
            with other.fork() as another:
                assert another.lockstep is None and another.name is None


def test_nobody_presses_the_power_button_of_another_time(counting):
    gpio = counting.built.devices["gpio"]
    gpio.drive(POWER_BUTTON_LINE, True)
    snapshot = counting.snapshot()
    with snapshot.fork() as other:
        assert gpio.inputs and not other.built.devices["gpio"].inputs


def test_a_snapshot_does_not_wait_for_a_guest_that_ends_at_the_same_moment():
    with bare_machine(POWERS_OFF, deterministic=True) as machine:
        machine.life.on_shutdown = "pause"
        seconds: list[float] = []

        def take() -> None:
            begin = time.monotonic()
            machine.snapshot()
            seconds.append(time.monotonic() - begin)

        taking = threading.Thread(target=take)

        def meanwhile(_: object) -> None:
            taking.start()
            until(lambda: machine.held)

        with machine.hooks.mmio("gpio", "data", meanwhile):
            machine.start()
            until(lambda: machine.life.finished)
            taking.join(20)
        assert seconds and seconds[0] < 5
        until(lambda: machine.stops.by_program)  # held because its guest has ended
        assert machine.held


def test_devices_that_cannot_be_saved_say_so(counting, monkeypatch):
    device = counting.built.devices["guts"]
    monkeypatch.setattr(device, "unsaved", lambda: "it is in use")
    with pytest.raises(PowervisorError, match="guts: it is in use"):
        counting.snapshot()
    assert counting.run(instructions=1000) is None


def test_a_file_makes_the_machine_again(counting, tmp_path):
    counting.run(instructions=123_457)
    state = registers(counting)
    counting.snapshot().save(tmp_path / "s")
    counting.run(instructions=1000)
    after = registers(counting)
    with Machine.load(tmp_path / "s") as other:
        assert registers(other) == state
        other.run(instructions=1000)
        assert registers(other) == after
        other.reset()  # loads again what came with the file
        while other.resetting:
            time.sleep(0.01)
        other.run(instructions=100)
        assert 0 < results(other, 1)[0] < 100
    counting.restore(tmp_path / "s")
    assert registers(counting) == state


def test_a_file_of_other_fields_is_refused(counting, tmp_path, monkeypatch):
    from powervisor.machine import stored

    with monkeypatch.context() as patched:
        patched.setattr(stored, "_LAYOUT", "other")
        counting.snapshot().save(tmp_path / "s")
    with pytest.raises(UserError, match="other fields.*restore it with the one"):
        Snapshot.load(tmp_path / "s")


def run(*words: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "powervisor", *words]
    return subprocess.run(command, cwd=booting.TREE, capture_output=True, text=True, input=typed, timeout=200)


def test_the_command_line_goes_on_from_a_file(counting, tmp_path):
    counting.run(instructions=1000)
    file = str(tmp_path / "s")
    counting.snapshot().save(file)
    told = run("snapshot", "info", file)
    assert told.returncode == 0 and "ppce500, 1 x e5500, 64 MiB" in told.stdout
    assert run("run", "-loadvm", file, "-timeout", "2").returncode == 124
    for words, says in (
        (["-m", "128"], "-m 128 MiB: the snapshot is of a machine with 64 MiB; leave the option out"),
        (["-cpu", "e500mc"], "-cpu e500mc: the snapshot is of a machine with e5500; leave the option out"),
        (["-kernel", "x"], "-kernel: what the machine loads comes with the snapshot; leave the option out"),
        (["-guest", "builtin"], "-guest builtin: what the machine loads comes with -loadvm; leave one of the two out"),
    ):
        done = run("run", "-loadvm", file, *words)
        assert (done.returncode, done.stderr) == (1, f"powervisor run: {says}\n")


def test_the_command_line_saves_what_it_waited_for(tmp_path):
    file, kernel = tmp_path / "s", tmp_path / "kernel.elf"
    shutil.copy(image(64), kernel)
    done = run("run", "-kernel", str(kernel), "-expect", "\n", "-savevm", str(file), "-timeout", "100")
    assert done.returncode == 0, done.stderr
    done = run("snapshot", "info", str(file), "-json")
    assert '"guest-seconds"' in done.stdout
    assert f"booted    {kernel}\n" in run("snapshot", "info", str(file)).stdout
    again = ("run", "-loadvm", str(file), "-monitor", "stdio", "-serial", "null")
    done = run(*again, typed="print set_up\nquit\n")
    assert re.search(r"\(powervisor\) 0x1[0-9a-f]{5}\n", done.stdout), done
    os.utime(kernel)
    done = run(*again, typed="print set_up\nquit\n")
    assert "set_up: no such symbol" in done.stdout
    assert f"{kernel}: not the file that was booted any more; name its symbols: -symbols FILE\n" in done.stderr


def linux_is_there() -> None:
    booting.files("k32")


@pytest.mark.parametrize("cpus", [1, 2])
def test_linux_lives_through_snapshots(cpus):
    linux_is_there()
    snapshots.run_cycles(snapshots.linux(cpus), 40, seed=cpus)


@pytest.mark.slow
@pytest.mark.parametrize("cpus", [1, 2])
def test_linux_lives_through_many_snapshots(cpus):
    linux_is_there()
    snapshots.run_cycles(snapshots.linux(cpus), 500, seed=10 + cpus)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["k64", "k64av"])
def test_64_bit_linux_lives_through_snapshots(name):
    booting.files(name)
    snapshots.run_cycles(snapshots.linux(2, name=name), 200, seed=3)


@pytest.mark.slow
def test_linux_as_a_hypervisors_guest_lives_through_snapshots():
    linux_is_there()
    options = snapshots.linux(2) | {"board": "ppce500,hypervisor=on", "append": "console=hvc0"}
    snapshots.run_cycles(options, 100, seed=5)


@pytest.mark.slow
def test_linux_at_work_on_a_disk_lives_through_snapshots(tmp_path):
    linux_is_there()
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(MIB))
    options = snapshots.linux(2) | {
        "drives": [f"file={disk},snapshot=on,format=raw"],
        "devices": ["virtio-rng-pci", "virtio-balloon-pci", "virtio-serial-pci"],
    }
    snapshots.run_cycles(options, 200, seed=4, work=snapshots.DISK_WORK + snapshots.WORK)
    assert disk.read_bytes() == bytes(MIB)
