"""Processes as gdb sees them: the guest, and of a hypervisor in it the partitions that gdb attached to.

Process 1 is everything, until gdb attaches to process N + 1, the partition with LPID N. Each process has a thread for
each vCPU; a vCPU that executes another process's code shows no registers there.
"""

from __future__ import annotations

from typing import NamedTuple

from ...hv.vcpu import Vcpu
from ...vcpu.modes import KEY_GS, KEY_LPID_AT
from ...vcpu.sprs import LPIDS
from ..control import Control

GUEST = 1
ANY = (b"", b"0", b"-1")


class ThreadId(NamedTuple):
    """What gdb writes as pP.T; None is "any" or "all"."""

    process: int | None
    thread: int | None

    @classmethod
    def parse(cls, text: bytes) -> ThreadId:
        """From p1.2, p1 or 2. Raises ValueError."""
        process, _, thread = text[1:].partition(b".") if text.startswith(b"p") else (b"", b"", text)
        return cls(None if process in ANY else int(process, 16), None if thread in ANY else int(thread, 16))


class Processes:
    """Those that gdb has attached."""

    def __init__(self, control: Control) -> None:
        self._vcpus = control.vcpus
        self.attached = {GUEST}

    def attach(self, process: int) -> bool:
        """Take a process; False when there can be none of this number."""
        most = LPIDS + 1 if "ehv" in self._vcpus[0].core.categories else GUEST
        if not GUEST <= process <= most:
            return False
        self.attached.add(process)
        return True

    def detach(self, process: int | None) -> bool:
        """Leave a process, or all; whether none is left."""
        self.attached = set() if process is None else self.attached - {process}
        return not self.attached

    def of(self, vcpu: Vcpu) -> int:
        """The process that a vCPU executes: its partition if gdb attached to it."""
        process = self.partition(vcpu)
        return process if process in self.attached else GUEST

    def partition(self, vcpu: Vcpu) -> int:
        """The process that a vCPU would execute if gdb had attached to all."""
        key = int(vcpu.state.context_key)
        return 1 + (key >> KEY_LPID_AT) if key & KEY_GS else GUEST

    def present(self) -> set[int]:
        """Processes that vCPUs would execute now if gdb had attached to all."""
        return {self.partition(vcpu) for vcpu in self._vcpus}

    def lpid(self, process: int) -> int | None:
        """In which partition a process's breakpoints stop; 0 is the hypervisor, None anywhere."""
        return process - 1 if process != GUEST or self.attached - {GUEST} else None

    def threads(self) -> list[tuple[int, Vcpu]]:
        """All threads."""
        return [(process, vcpu) for process in sorted(self.attached) for vcpu in self._vcpus]

    def find(self, wanted: ThreadId, near: Vcpu) -> tuple[int, Vcpu] | None:
        """The thread of an id, for "any" that of `near` or one that shows registers; None for one that is not there."""
        found = [
            (process, vcpu)
            for process, vcpu in self.threads()
            if wanted.process in (None, process) and wanted.thread in (None, vcpu.index + 1)
        ]
        return min(found, key=lambda one: (self.of(one[1]) != one[0], one[1] is not near), default=None)

    def inside(self, process: int, near: Vcpu) -> Vcpu | None:
        """A vCPU that executes a process, rather `near`; None when none does."""
        found = [vcpu for vcpu in self._vcpus if self.of(vcpu) == process]
        return near if near in found else found[0] if found else None
