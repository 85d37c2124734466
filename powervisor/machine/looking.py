"""Looking at a machine: its vCPUs, memory, devices and time."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from ..boards.board import Built
from ..boot.loader import BootPlan
from ..devices.clock import HostClock, ManualClock
from ..devices.mpic import Mpic
from ..errors import PowervisorError, argument
from ..hv.vcpu import Vcpu
from ..hv.vm import Vm
from ..memory.space import PhysicalSpace
from .cpu import Cpu
from .devices import Devices
from .memory import PhysicalMemory

if TYPE_CHECKING:
    from ..devices.virtio.balloon import VirtioBalloon
    from .lockstep import Lockstep


class Looking(ABC):
    """What `Machine` shows of itself."""

    lock: threading.RLock
    space: PhysicalSpace
    clock: HostClock | ManualClock
    built: Built
    mpic: Mpic
    plan: BootPlan
    lockstep: Lockstep | None
    _cpus: tuple[Cpu, ...]

    @property
    @abstractmethod
    def vm(self) -> Vm:
        """The hypervisor half."""

    @property
    def vcpus(self) -> list[Vcpu]:
        """The vCPUs in order."""
        return self.vm.vcpus

    @property
    def cpus(self) -> tuple[Cpu, ...]:
        """The vCPUs to look at: `cpus[0].regs["r3"]`, `.spr`, `.tlb`, `.memory`."""
        return self._cpus if self.vm else ()

    @property
    def memory(self) -> PhysicalMemory:
        """Physical memory: RAM as `memory[a:b]`, numbers of RAM and device registers by `read32(pa)` and its like."""
        return PhysicalMemory(self.space, self.lock, self.changed)

    def changed(self) -> None:
        """Somebody changed registers or memory: a deterministic machine would not do again what it did.

        That ends its recording and its past; `cpus` and `memory` tell it themselves.
        """
        if self.lockstep is not None:
            self.lockstep.changed()

    @property
    def devices(self) -> Devices:
        """Devices by name: `devices["serial0"].lcr.dlab`; `list(machine.devices)` names them."""
        return Devices(self)

    @property
    def time(self) -> float:
        """Seconds of the guest's time since the machine was made; it stands still while the machine is held."""
        return self.clock.now_ns() / 1e9

    @property
    def balloon(self) -> VirtioBalloon:
        """The memory balloon: set its `target`, in bytes, to have the guest make do with that much RAM.

        Raises PowervisorError for a machine without one.
        """
        from ..devices.virtio.balloon import VirtioBalloon

        for device in self.built.everything():
            if isinstance(device, VirtioBalloon):
                return device
        raise PowervisorError(f"balloon: the machine has none; add {argument('devices')} virtio-balloon-pci")

    @property
    def device_tree_blob(self) -> bytes:
        """The flattened device tree the guest gets."""
        return self.plan.device_tree

    def state_text(self) -> str:
        """What Ctrl-A s shows: each vCPU's registers and counters."""
        self.vm.pause()
        try:
            parts = []
            for vcpu in self.vcpus:
                exits = {f"exit-{reason}": count for reason, count in vcpu.exit_counts().items()}
                counts = " ".join(f"{k}={v}" for k, v in {**exits, **vcpu.counters()}.items() if v)
                parts.append(f"{vcpu.regs.dump()}\n{counts}{'  (held)' if vcpu.halted else ''}")
            return "\n\n".join(parts)
        finally:
            self.vm.resume()
