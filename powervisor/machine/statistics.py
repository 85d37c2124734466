"""What is counted of a machine, and what those who measure it add."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .machine import Machine


class Statistics:
    """Collects what `Machine.statistics` tells."""

    def __init__(self) -> None:
        self.start_time: float | None = None
        """When the machine was started, of time.monotonic."""
        self.more: list[Callable[[dict[str, Any]], None]] = []
        """Called to add to what is told."""

    def collect(self, machine: Machine) -> dict[str, Any]:
        """See `Machine.statistics`."""
        vm = machine.vm
        regions = vm.engine.regions
        told = {
            "machine": describe(machine),
            "seconds": 0.0 if self.start_time is None else round(time.monotonic() - self.start_time, 6),
            "vcpus": [
                {"exits": vcpu.exit_counts(), "interrupts": vcpu.interrupts(), "counters": vcpu.counters()}
                for vcpu in vm.vcpus
            ],
            "regions": {} if regions is None else regions.statistics.counted(),
            "code-bytes": vm.engine.code_bytes(),
            "translation-bytes": vm.translation_bytes(),
        }
        for more in list(self.more):
            more(told)
        return told


def describe(machine: Machine) -> dict[str, Any]:
    """What a machine is: its name, board and core, how many of them with how many threads, bytes of RAM."""
    cpus = machine.topology
    return {
        "name": machine.name, "board": machine.board.name, "cpu": cpus.core, "cores": cpus.cores,
        "threads": cpus.threads, "memory": machine.ram.size,
    }  # fmt: skip
