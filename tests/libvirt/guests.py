"""Linux in a domain: what it prints, what is typed to it."""

from __future__ import annotations

import itertools
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.libvirt.daemons import Daemons
from tests.libvirt.domains import Domain, serial
from tests.support.waiting import until
from tests.system.booting import TROUBLE, files, with_own_files

KERNELS = {"e500mc": "k32", "e5500": "k64", "e6500": "k64av"}
"""Which guest shows which core."""
UP = "BOOT-OK"
_SECONDS = 60.0
_names = itertools.count(1)


def unique(name: str) -> str:
    """A name of this process's own: control groups are the host's."""
    return f"{name}-{os.getpid()}-{next(_names)}"


def linux(daemons: Daemons, cpu: str = "e500mc", **changes: Any) -> Domain:
    """Linux for a core, with a console that is logged; files are copies, for libvirt makes them its user's."""
    kept = {}
    for role, path in files(KERNELS[cpu]).items():
        kept[role] = daemons.directory / Path(path).name
        if kept[role].exists():
            continue
        if role == "initrd":
            path = with_own_files({role: path}, daemons.directory)[role]
        shutil.copyfile(path, kept[role])
    name = unique(cpu)
    append = f"console=ttyS0 {changes.pop('append', '')}".strip()
    devices = (serial(daemons.directory / f"{name}.console"), *changes.pop("devices", ()))
    emulator = daemons.emulators[changes.get("arch", "ppc64")]
    return Domain(name, emulator, **{**kept, "append": append, "model": cpu, "devices": devices, **changes})


class Guest:
    """A domain with Linux in it, defined; `close` leaves nothing of it."""

    def __init__(self, daemons: Daemons, definition: Domain) -> None:
        self.daemons, self.definition, self.name = daemons, definition, definition.name
        self.log = daemons.directory / f"{self.name}.console"
        self._mark = 0
        self._marks = itertools.count(1)
        self.connection = daemons.connect()
        self.domain = self.connection.defineXML(definition.xml())

    def reconnect(self) -> None:
        """A libvirtd has come in place of the one that it was defined by."""
        self.connection = self.daemons.connect()
        self.domain = self.connection.lookupByName(self.name)

    def close(self) -> None:
        """End it, and forget it."""
        if self.domain.isActive():
            self.domain.destroy()
        self.domain.undefineFlags(self.daemons.libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE)
        self.connection.close()

    def start(self, paused: bool = False) -> float:
        """Start it; returns when (monotonic) that was asked for."""
        began = time.monotonic()
        self.domain.createWithFlags(self.daemons.libvirt.VIR_DOMAIN_START_PAUSED if paused else 0)
        return began

    def boot(self) -> None:
        """Start it, and wait until Linux has a shell."""
        self.start()
        self.expect(UP)
        self.expect("#")

    def virsh(self, command: str, *words: str, fails: bool = False) -> str:
        """A virsh command about this domain."""
        return self.daemons.virsh(command, self.name, *words, fails=fails)

    @property
    def state(self) -> str:
        """What virsh calls the state, with the reason."""
        return self.virsh("domstate", "--reason").strip()

    def until_state(self, state: str) -> None:
        """Wait for a state."""
        until(lambda: self.state == state, f"{self.name}: {state}")

    def process(self) -> int:
        """The emulator's process id."""
        places = (self.daemons.runs / place / f"{self.name}.pid" for place in ("qemu", "qemu/run"))
        return int(next(path for path in places if path.exists()).read_text())

    # ---- its console -------------------------------------------------------------------------------------------------

    def output(self) -> str:
        """All that it has printed."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def expect(self, text: str, seconds: float = _SECONDS) -> str:
        """Wait for a text after the one that was expected last; returns what came before it."""

        def found() -> bool:
            return text in self.output()[self._mark :]

        until(found, f"{text!r} from {self.name}", seconds)
        before, _, _ = self.output()[self._mark :].partition(text)
        self._mark += len(before) + len(text)
        return before

    def send(self, text: str) -> None:
        """Type it, through libvirt's console."""
        stream = self.connection.newStream(0)
        self.domain.openConsole(None, stream, self.daemons.libvirt.VIR_DOMAIN_CONSOLE_FORCE)
        stream.send(text.encode())
        stream.finish()

    def run(self, command: str, seconds: float = _SECONDS) -> str:
        """What a shell command prints."""
        mark = next(self._marks)
        self.send(f"echo B''EGUN-{mark}; {command}; echo D''ONE-{mark}\n")
        self.expect(f"BEGUN-{mark}")
        output = self.expect(f"DONE-{mark}", seconds)
        assert not (found := TROUBLE.search(output)), f"{found}: {output}"
        return output.replace("\r", "")


def variant(definition: Domain, **changes: Any) -> Domain:
    """Another domain like one."""
    return replace(definition, name=unique("variant"), **changes)


def descends(process: int) -> list[int]:
    """A process and its children, theirs too."""
    try:
        with open(f"/proc/{process}/task/{process}/children") as children:
            found = [int(child) for child in children.read().split()]
    except FileNotFoundError:
        return []
    return [process, *itertools.chain.from_iterable(map(descends, found))]
