"""A machine that stands still as a whole: no vCPU runs, nothing is on its way, and time does not pass."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from ..errors import PowervisorError

if TYPE_CHECKING:
    from .machine import Machine

PATIENCE = 10.0
"""Seconds for what a device or a reset has begun."""


@contextmanager
def standstill(machine: Machine) -> Iterator[None]:
    """Every vCPU is between two instructions or before one that was answered, devices have done with guest memory, and
    nobody else lets them go on. What was held before stays so.

    Raises PowervisorError when a vCPU waits for something that does not come: as when this is asked for out of a
    device's register.
    """
    machine.hooks.refuse("a snapshot")
    with ExitStack() as held:
        held.enter_context(machine.holding())
        _settle(machine)
        held.enter_context(machine.vm.quiet())
        held.enter_context(machine.lock)
        for device in machine.built.everything():
            held.enter_context(device.still())
        yield


def _settle(machine: Machine) -> None:
    """Wait until exits are answered and resets done."""
    end = time.monotonic() + PATIENCE
    while waits := _waits(machine):
        if time.monotonic() > end:
            raise PowervisorError(f"the machine does not come to rest: {waits}")
        time.sleep(0.0002)


def _waits(machine: Machine) -> str:
    """What is under way; empty when nothing is."""
    if machine.mpic.events:
        with machine.lock:
            machine.mpic.service()
    for vcpu in machine.vcpus:
        if vcpu.asking:
            return f"cpu{vcpu.index} waits for an answer"
    if machine.lockstep is not None and not machine.lockstep.at_rest:
        return "a turn is under way"
    return "a reset is under way" if machine.resetting else ""
