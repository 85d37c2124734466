"""Going back: to checkpoints exactly, by gdb's reverse commands, with two CPUs."""

from __future__ import annotations

import re
import shutil
import subprocess
import time

import pytest

from powervisor.debug.control import Control
from powervisor.debug.gdb.packets import INTERRUPT
from powervisor.debug.gdb.server import GdbServer
from powervisor.hv.exits import Debug, Watched
from powervisor.hv.stops import Breakpoint, Watchpoint
from powervisor.machine import checkpoint
from powervisor.machine.digest import digest
from powervisor.machine.timing import Position
from tests.debug.conftest import Client
from tests.deterministic.programs import BUSY, ECHO
from tests.system.bare import RESULTS, bare_machine, results
from tests.system.test_gdb import PROGRAM, gdb

TICKS, LOCK = RESULTS + 16, RESULTS + 32


@pytest.mark.parametrize("step", [1, 2, 3, 1009])
def test_from_a_checkpoint_a_machine_goes_on_exactly_as_it_did(step):
    """Between lwarx and stwcx., too."""
    with bare_machine(BUSY, cores=2, deterministic=True) as machine:
        machine.run(instructions=20_000 + step)
        lockstep = machine.lockstep
        kept, before = [], []
        for _ in range(8):
            kept.append(checkpoint.take(machine, lockstep))
            before.append((digest(machine), lockstep.position))
            machine.run(instructions=step)
        machine.run(instructions=30_000)
        after, end = digest(machine), lockstep.position
        for number in (0, 7, 3, 5, 1):
            checkpoint.put_back(machine, lockstep, kept[number])
            assert (digest(machine), lockstep.position) == before[number]
            lockstep.go_to(end)
            assert digest(machine) == after


@pytest.fixture
def debugged():
    """A deterministic machine with two CPUs and a debugger, held at its beginning."""
    with bare_machine(BUSY, cores=2, deterministic=True) as machine:
        control = Control(machine, lambda: None)
        control.hold()
        control.keep_history()
        machine.start()
        yield machine, control
        control.close()


def word(machine, address):
    return int.from_bytes(machine.memory[address : address + 4], "big")


def test_steps_back_undo_steps_of_each_cpu(debugged):
    machine, control = debugged
    machine.run(instructions=45_000)
    trail = []
    for number in range(60):
        vcpu = machine.vcpus[number % 3 % 2]
        trail.append((vcpu, digest(machine), machine.lockstep.position))
        control.step(vcpu)
    for vcpu, _, position in reversed(trail):
        while machine.lockstep.position > position:
            assert control.step_back(vcpu).vcpu is vcpu
        executed = machine.lockstep.executed[vcpu.index]
        control.step(vcpu)
        assert machine.lockstep.executed[vcpu.index] - executed in (0, 1)
        assert control.step_back(vcpu) is not None
    machine.lockstep.go_to(trail[0][2])
    assert digest(machine) == trail[0][1]


def test_breakpoints_are_met_backwards_in_the_order_they_were_met(debugged):
    machine, control = debugged
    machine.run(instructions=20_000)
    handlers = {machine.symbols[name] for name in ("tick", "bell")}
    control.breakpoints |= {Breakpoint(address) for address in handlers}
    machine.stops.apply()
    met = []
    for _ in range(12):
        while machine.lockstep.advance(debugger=True) is None:
            pass
        met.append((machine.lockstep.position, digest(machine)))
        control.step(machine.lockstep.next)
    for position, hash_ in reversed(met):
        stop = control.go_back()
        assert isinstance(stop.why, Debug) and stop.vcpu.regs["pc"] in handlers
        assert (machine.lockstep.position, digest(machine)) == (position, hash_)


def test_who_wrote_a_word_last_is_found_backwards(debugged):
    machine, control = debugged
    machine.run(instructions=30_000)
    control.watchpoints.add(Watchpoint(TICKS, 4, reads=False))
    now = word(machine, TICKS)
    for value in range(now, now - 5, -1):
        stop = control.go_back()
        assert isinstance(stop.why, Watched) and stop.vcpu.index == 0
        assert word(machine, TICKS) == value  # after the store
        control.step_back(stop.vcpu)
        assert word(machine, TICKS) == value - 1


def test_at_the_beginning_there_is_no_more_history(debugged):
    machine, control = debugged
    start = digest(machine)
    machine.run(instructions=30_000)
    assert control.go_back() is None
    assert digest(machine) == start and control.step_back(machine.vcpus[0]) is None


def test_what_a_debugger_changes_begins_a_history_of_its_own(debugged):
    machine, control = debugged
    machine.run(instructions=30_000)
    control.write_physical(RESULTS, b"\1\2\3\4")
    machine.run(instructions=10_000)
    assert control.go_back() is None
    assert word(machine, RESULTS) == 0x01020304


@pytest.mark.parametrize(
    "change",
    [
        lambda machine: machine.cpus[0].regs.__setitem__("r20", 7),
        lambda machine: machine.cpus[1].spr.__setattr__("sprg0", 7),
        lambda machine: setattr(machine.cpus[0], "pc", machine.cpus[0].pc),
        lambda machine: machine.memory.write32(RESULTS, 7),
        lambda machine: machine.memory.__setitem__(slice(RESULTS, RESULTS + 4), bytes(4)),
        lambda machine: machine.cpus[0].memory.write32(RESULTS, 7),
        lambda machine: machine.memory.read8(0xF_E000_4500),  # takes a byte from the UART's FIFO
    ],
)
def test_what_python_changes_begins_a_history_of_its_own(debugged, change):
    machine, control = debugged
    machine.run(instructions=30_000)
    change(machine)
    changed, position = digest(machine), machine.lockstep.position
    machine.run(instructions=10_000)
    assert control.go_back() is None
    assert (digest(machine), machine.lockstep.position) == (changed, position)


def test_looking_and_a_hook_that_looks_leave_the_past_alone(debugged):
    machine, control = debugged
    start = digest(machine)
    with machine.hooks.at(machine.symbols["tick"], lambda cpu: cpu.regs["r3"]):
        machine.run(instructions=10_000)
    assert machine.memory.read32(RESULTS) is not None and machine.cpus[0].memory.read32(RESULTS) is not None
    assert [*machine.cpus[0].tlb] and machine.cpus[0].spr.pvr and machine.cpus[0].disassemble()
    machine.run(instructions=10_000)
    assert control.go_back() is None
    assert digest(machine) == start


def test_input_comes_again_after_going_back_and_output_is_said_once():
    with bare_machine(ECHO, serial=[None], deterministic=True) as machine:
        control = Control(machine, lambda: None)
        control.hold()
        control.keep_history()
        machine.start()
        control.go()
        machine.console.send("once")
        machine.console.expect("once", timeout=20)
        control.hold()
        end, hash_ = machine.lockstep.position, digest(machine)
        assert control.go_back() is None
        machine.lockstep.go_to(end)
        assert digest(machine) == hash_
        control.go()
        machine.console.send(" more")
        machine.console.expect(" more", timeout=20)
        control.close()
        assert machine.console.text == "once more"


def test_going_back_is_interrupted_where_nothing_was_met_on_the_way():
    with bare_machine(BUSY, cores=2, deterministic=True) as machine:
        machine.hold()
        server = GdbServer(machine, "tcp::0")
        client = Client(server.address)
        machine.start()
        client.send(b"vCont;c")
        time.sleep(0.8)  # a checkpoint and more
        client.socket.sendall(INTERRUPT)
        assert client.reply().startswith(b"T02")
        end, hash_ = machine.lockstep.position, digest(machine)
        client.send(b"bc")
        time.sleep(0.1)
        client.socket.sendall(INTERRUPT)
        assert client.reply().startswith(b"T02")  # at the beginning it would be T05replaylog
        position = machine.lockstep.position
        assert Position(0, 0, 0, False) < position <= end
        machine.lockstep.go_to(end)
        assert digest(machine) == hash_
        client.send(b"bc")
        time.sleep(0.05)
        client.close()  # nobody waits for it any more
        server.close()
        assert machine.lockstep.position > Position(0, 0, 0, False)


@pytest.mark.skipif(not shutil.which("gdb-multiarch"), reason="there is no gdb-multiarch")
def test_gdb_goes_back(tmp_path):
    compiler = shutil.which("powerpc-linux-gnu-gcc")
    if compiler is None:
        pytest.skip("there is no powerpc-linux-gnu-gcc")
    source, program = tmp_path / "program.c", tmp_path / "program"
    source.write_text(PROGRAM)
    flags = ["-g", "-O0", "-nostdlib", "-static", "-ffreestanding", "-Wl,-Ttext=0x100000,--build-id=none"]
    subprocess.run([compiler, *flags, "-o", str(program), str(source)], check=True)
    with bare_machine("stay: b stay", "e500mc", deterministic=True) as machine:
        server = GdbServer(machine, "tcp::0")
        machine.hold()
        machine.start()
        text = gdb(
            server.address, "load", "set $r1 = 0x200000", "break square", "continue", "continue", "continue",
            "watch last", "reverse-continue", "print last", "x/i $pc", "delete",
            "break square", "continue", "print counter", "reverse-continue", "print counter", "delete",
            "print $pc", "stepi", "stepi", "stepi", "reverse-stepi 3", "print $pc", "reverse-continue", "reverse-stepi",
            file=program,
        )  # fmt: skip
        server.close()
    assert "Old value = 4\nNew value = 1" in text  # watched backwards
    assert re.search(r"\$1 = 1\n=> 0x\w+ <_start\+\d+>:\tstw", text)
    assert "$2 = 3" in text and "$3 = 2" in text
    where = re.findall(r"\$[45] = .*(0x\w+ <square\+\d+>|0x10\w+)", text)
    assert len(where) == 2 and where[0] == where[1]
    assert text.count("No more reverse-execution history.") == 2


def test_from_a_snapshot_a_machine_goes_the_same_way_each_time():
    with bare_machine(BUSY, cores=2, deterministic=True) as machine:
        machine.run(instructions=40_123)
        snapshot = machine.snapshot()
        found = set()
        for _ in range(3):
            machine.restore(snapshot)
            before = machine.lockstep.executed[0]
            machine.run(instructions=30_000)
            assert machine.lockstep.executed[0] - before == 30_000
            found.add(digest(machine))
        assert len(found) == 1


def test_other_machines_have_no_past():
    with bare_machine("stay: b stay") as machine:
        control = Control(machine, lambda: None)
        control.hold()
        control.keep_history()
        assert control.history is None and results(machine, 1) == (0,)
        control.close()


def test_the_past_begins_anew_where_the_machine_is_taken_elsewhere(debugged):
    machine, control = debugged
    moment = machine.snapshot()
    machine.run(instructions=50_000)
    machine.restore(moment)
    before = digest(machine)
    control.breakpoints.add(Breakpoint(machine.symbols["tick"]))
    assert control.history.continue_() is None
    assert not control.history.step(machine.vcpus[0])
    assert digest(machine) == before
    control.step(machine.vcpus[0])
    assert control.history.step(machine.vcpus[0])
    assert digest(machine) == before
