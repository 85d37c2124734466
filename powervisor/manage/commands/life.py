"""Life of the machine."""

from __future__ import annotations

from typing import Annotated, Literal

from ...errors import PowervisorError
from .. import events
from ..command import command
from ..manager import RunStatus
from ..session import Session
from ..types import struct


@struct
class StatusInfo:
    """How the machine is."""

    running: Annotated[bool, "whether the vCPUs run"]
    singlestep: Annotated[bool, "always false"]
    status: RunStatus


@command("query-status")
def query_status(session: Session) -> StatusInfo:
    """Whether the machine runs, and if not, why."""
    status = session.manager.status
    return StatusInfo(running=status == "running", singlestep=False, status=status)


@command("stop")
def stop(session: Session) -> None:
    """Hold all vCPUs between two instructions; time stands still for the guest. One that stands still stays so."""
    session.manager.stop()


@command("cont")
def cont(session: Session) -> None:
    """Let the vCPUs run. A guest that has ended needs system_reset first."""
    session.manager.cont()


@command("system_reset")
def system_reset(session: Session) -> None:
    """The board's reset button; a machine that stands still stays so."""
    session.manager.reset()


@command("system_powerdown")
def system_powerdown(session: Session) -> None:
    """Press the power button, so that the guest switches itself off: Linux with CONFIG_KEYBOARD_GPIO and a program that
    cares. A guest that does not listen to it is told of here, not by silence."""
    manager = session.manager
    manager.check_alive()
    manager.machine.power_down()
    manager.send(events.Powerdown())


@command("quit")
def quit(session: Session) -> None:
    """End the machine, whatever the guest does."""
    session.after.append(session.manager.quit)


@command("set-action")
def set_action(
    session: Session,
    *,
    reboot: Annotated[Literal["reset", "shutdown"] | None, "when the board is reset"] = None,
    shutdown: Annotated[Literal["poweroff", "pause"] | None, "when the guest has ended"] = None,
    panic: Annotated[Literal["pause", "shutdown"] | None, "when a fault cannot be delivered to the guest"] = None,
) -> None:
    """What becomes of the machine when something happens to its guest: it ends, or stands still (pause) and can be
    reset. With `shutdown` pause, faults pause it too."""
    machine = session.manager.machine
    if reboot is not None:
        machine.no_reboot = reboot == "shutdown"
    machine.life.on_shutdown = shutdown or machine.life.on_shutdown
    machine.life.on_panic = panic or machine.life.on_panic


@command("system_wakeup")
def system_wakeup(session: Session) -> None:
    """Wake a guest that suspended itself: none can."""
    raise PowervisorError("system_wakeup: guests of this machine cannot suspend it")
