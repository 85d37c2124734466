"""Commands that do something to the machine."""

from __future__ import annotations

from ... import __version__
from ...errors import PowervisorError, UserError
from ...hv.exits import Debug, Watched
from ...insns import disassemble
from ...machine.memory import Unmapped
from ...vcpu.state import Line, Request
from ..control import Stop
from .command import Machine, command
from .monitor import Monitor

_MOST_STEPS = 100_000


def where(monitor: Monitor, stop: Stop) -> str:
    """Where a vCPU is, why it stopped there, and the instruction it will execute next."""
    control, vcpu = monitor.control, stop.vcpu
    pc = vcpu.regs["pc"]
    try:
        word = int.from_bytes(control.read(vcpu, pc, 4), "big")
        text = f"{word:08x}  {disassemble(word, pc)}"
    except Unmapped:
        text = "no translation now"
    match stop.why:
        case Watched(address, write):
            why = f", before it {'writes' if write else 'reads'} 0x{address:x}"
        case Debug():
            why = ", breakpoint"
        case _:
            why = ", waits for an interrupt" if int(vcpu.state.waiting) else ""
    return f"cpu{vcpu.index} at 0x{pc:x}{monitor.symbols.text(pc)}: {text}{why}"


@command("version", "of powervisor")
def version(monitor: Monitor, _: list[str]) -> str:
    """The version."""
    return f"powervisor {__version__}"


@command("info version", "of powervisor")
def info_version(monitor: Monitor, words: list[str]) -> str:
    """As QEMU's scripts ask."""
    return version(monitor, words)


@command("info status", "whether the machine runs, and who holds it", Machine.RUNS)
def info_status(monitor: Monitor, _: list[str]) -> str:
    """Whether the machine runs."""
    machine = monitor.machine
    if machine.ended:
        return "ended"
    if not machine.held:
        return "running"
    holders = [stopper.name for stopper in machine.stops.holding]
    return f"stopped by {' and '.join(holders)}" if holders else "stopped"


@command("stop", "stop all cpus, and time with them", Machine.STOPS)
def stop(monitor: Monitor, _: list[str]) -> str:
    """Hold the machine."""
    monitor.control.hold()
    return where(monitor, Stop(monitor.vcpu, None))


@command("cont", "let the machine go on", Machine.STOPS)
def cont(monitor: Monitor, _: list[str]) -> str:
    """Let the machine go on."""
    others = monitor.control.others_holding
    monitor.control.go_past()
    if others:
        return f"{' and '.join(others)} still holds the machine; it goes on when continued there too"
    return ""


@command("step [N]", "execute one instruction of the cpu, or N; the machine stays stopped", Machine.STOPS)
def step(monitor: Monitor, words: list[str]) -> str:
    """Execute instructions of the chosen vCPU alone."""
    control = monitor.control
    count = monitor.number(" ".join(words)) if words else 1
    if not 0 < count <= _MOST_STEPS:
        raise UserError(f"write step N, with N from 1 to {_MOST_STEPS}")
    if others := control.others_holding:
        raise UserError(f"{' and '.join(others)} holds the machine; step there")
    control.hold()
    done = Stop(monitor.vcpu, None)
    for _ in range(count):
        if monitor.machine.ended:
            return "the machine has ended"
        done = control.step(monitor.vcpu)
        if done.why is not None:
            break
    return where(monitor, done)


@command("system_reset", "press the board's reset button", Machine.RUNS)
def system_reset(monitor: Monitor, _: list[str]) -> str:
    """As the board's reset button."""
    monitor.machine.reset()
    return ""


@command("system_powerdown", "press the power button: the guest ends, if it listens to it", Machine.RUNS)
def system_powerdown(monitor: Monitor, _: list[str]) -> str:
    """A clean end, by the guest itself."""
    monitor.machine.power_down()
    return ""


@command("savevm FILE", "save a snapshot of the machine, which goes on", Machine.RUNS)
def savevm(monitor: Monitor, words: list[str]) -> str:
    """A snapshot into a file."""
    if len(words) != 1:
        raise UserError("write savevm FILE")
    monitor.machine.snapshot().save(words[0])
    return ""


@command("loadvm FILE", "be as the machine was in a snapshot; stopped, it stays so", Machine.RUNS)
def loadvm(monitor: Monitor, words: list[str]) -> str:
    """Go back to a snapshot's moment; gdb does not expect that of a machine it holds."""
    if len(words) != 1:
        raise UserError("write loadvm FILE")
    if "gdb" in monitor.control.others_holding:
        raise UserError("gdb holds the machine, and would not know; let it go on there first")
    monitor.machine.restore(words[0])
    return ""


@command("nmi", "raise a nonmaskable interrupt at the cpu: a machine check with MCSR[NMI]")
def nmi(monitor: Monitor, _: list[str]) -> str:
    """A machine check of the chosen vCPU, as from the board's button for it."""
    monitor.machine.changed()
    with monitor.machine.lock:
        monitor.vcpu.state.lines = int(monitor.vcpu.state.lines) | Line.NMI
    monitor.vcpu.kick(Request.LINES)
    return ""


@command("quit", "end the machine", Machine.RUNS)
def quit_(monitor: Monitor, _: list[str]) -> str:
    """End the machine."""
    monitor.machine.quit()
    return ""


@command("python", "talk Python with the machine stopped: machine, cpus, cpu, regs, mem ...", Machine.STOPS)
def python(monitor: Monitor, _: list[str]) -> str:
    """A Python shell; what held the machine before holds it afterwards."""
    if monitor.terminal is None:
        raise PowervisorError("there is no terminal here")
    monitor.terminal.python(monitor)
    return ""
