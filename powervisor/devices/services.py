"""What the machine lends to the devices that are plugged into it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial

from powervisor.block.drives import Drives
from powervisor.devices.lines import Lines
from powervisor.devices.worker import Hire, Worker
from powervisor.fsdev.options import Exports
from powervisor.memory.space import Dma
from powervisor.net.claims import Netdevs


def _unexpected(error: BaseException) -> None:
    import traceback

    traceback.print_exception(error)


def warn_by_log(text: str) -> None:
    """Tell the user a line through the logger "powervisor"."""
    import logging

    logging.getLogger("powervisor").warning(text)


@dataclass(eq=False, repr=False)
class Services:
    """Everything a plugged device may need beside its bus. Register accesses are made under `lock`."""

    memory: Dma
    """Physical memory, for devices that address it around their bus."""
    lock: AbstractContextManager[object] = field(default_factory=threading.RLock)
    """The machine's lock; a worker takes it before it touches registers or interrupts."""
    failed: Callable[[BaseException], None] = _unexpected
    """Takes what a worker raised and nobody expected; the machine ends with it."""
    warn: Callable[[str], None] = warn_by_log
    """Tells the user a line."""
    drives: Drives = field(default_factory=Drives)
    exports: Exports = field(default_factory=Exports)
    lines: Lines = field(default_factory=Lines)
    netdevs: Netdevs = field(default_factory=Netdevs)
    hire: Hire | None = None
    random: Callable[[int], bytes] = os.urandom
    """So many random bytes."""
    concurrent: bool = True
    """Whether storage may work on several requests at a time, and end them in any order."""

    def worker(self) -> Hire:
        """How devices get a thread of their own."""
        return self.hire or partial(Worker, failed=self.failed)
