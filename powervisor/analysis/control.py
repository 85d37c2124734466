"""Control sockets: running machines of this host, found by process or name, and asked for their statistics.

Each is a Unix socket, its owner's only, in a directory that is its owner's only. A client sends lines with a
word, `describe` or `statistics`; each is answered by a line of JSON. Statistics are measured from the first such
question until the client leaves or has been silent for `PATIENCE`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import stat
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import PowervisorError, UserError
from ..machine import Machine
from ..machine.statistics import describe
from .distribution import Json
from .record import document
from .shape import DESCRIPTION, STATISTICS, Check, Misshapen
from .timing import Measurement, measure

MOST_CLIENTS = 16
MOST_MACHINES = 1000
PATIENCE = 15.0
"""Seconds that a client may be silent, and that either side waits for the other one to read."""
LONGEST_INTERVAL = 10.0
"""Seconds between two questions of one who does not want to be taken for silent."""
_LINE = 4096
_ANSWERS: dict[str, Check] = {"describe": DESCRIPTION, "statistics": STATISTICS}
_NAME = re.compile(r"(\d+)(?:-\d+)?")


class Gone(PowervisorError):
    """The machine has ended, or does not answer."""


def directory(make: bool = False) -> Path:
    """Where the sockets are. Raises UserError when that place is not ours alone."""
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    path = Path(base) / "powervisor" if os.path.isdir(base) else Path(f"/tmp/powervisor-{os.getuid()}")
    try:
        if make:
            path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
    except FileNotFoundError:  # nothing has been started yet
        return path
    except OSError as error:
        raise UserError(f"{path}: cannot be used ({error.strerror}); set XDG_RUNTIME_DIR") from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise UserError(f"{path}: is not a directory of yours alone (mode 0700); remove it or set XDG_RUNTIME_DIR")
    return path


class ControlSocket:
    """Answers for a running machine until `close`. Raises UserError when there can be no socket."""

    def __init__(self, machine: Machine) -> None:
        self._machine, place = machine, directory(make=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._path = self._bind(place)
        self._clients: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._closed = False
        self._thread = threading.Thread(target=self._accept, name="control", daemon=True)
        self._thread.start()

    def _bind(self, place: Path) -> Path:
        for n in range(MOST_MACHINES):
            path = place / f"{os.getpid()}{f'-{n}' if n else ''}"
            if path.exists() and _answers(path):
                continue  # another machine of this process
            hidden = path.with_name(f".{path.name}")  # from `running`, which removes sockets that do not answer
            try:
                hidden.unlink(missing_ok=True)  # of a process that had our number, and died
                self._listener.bind(str(hidden))
                hidden.chmod(0o600)
                self._listener.listen(MOST_CLIENTS)
                hidden.rename(path)
            except OSError as error:
                self._listener.close()
                reason = error.strerror or "the path is too long for a socket"
                raise UserError(f"{path}: cannot be made ({reason}); set XDG_RUNTIME_DIR") from None
            return path
        self._listener.close()
        raise UserError(f"{place}: {MOST_MACHINES} machines of one process are enough; close some")

    def close(self) -> None:
        """Let clients know that the machine has ended."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._path.unlink()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        with self._lock:
            for client in self._clients:
                with contextlib.suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)
            threads = list(self._threads)
        for thread in threads:
            thread.join()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            with self._lock:
                self._threads = [thread for thread in self._threads if thread.is_alive()]
                if len(self._clients) >= MOST_CLIENTS or self._closed:
                    client.close()
                    continue
                self._clients.add(client)
                thread = threading.Thread(target=self._serve, args=(client,), name="control-client", daemon=True)
                self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        measurement: Measurement | None = None
        try:
            client.settimeout(PATIENCE)
            with client, client.makefile("rb") as lines:
                while word := lines.readline(_LINE).strip():
                    if word == b"statistics" and measurement is None:
                        measurement = measure(self._machine)
                    client.sendall(json.dumps(self._answer(word)).encode() + b"\n")
        except OSError:
            return  # it vanished, or is silent
        finally:
            with self._lock:
                self._clients.discard(client)
            if measurement is not None:
                measurement.close()

    def _answer(self, word: bytes) -> Json:
        if word == b"statistics":
            return {"pid": os.getpid(), **document(self._machine, self._machine.ended)}
        if word == b"describe":
            return {"pid": os.getpid(), **describe(self._machine)}
        return {"error": "ask describe or statistics"}


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


class Remote:
    """A running machine, asked through its socket. Raises Gone when it does not answer."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(PATIENCE)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise Gone("the machine has ended") from None
        self._lines = self._socket.makefile("rb")

    def ask(self, word: str) -> Json:
        """The answer to a word."""
        try:
            self._socket.sendall(word.encode() + b"\n")
            line = self._lines.readline()
        except TimeoutError:
            raise Gone(f"the machine has not answered for {PATIENCE:.0f} s") from None
        except OSError:
            line = b""
        if not line.endswith(b"\n"):
            raise Gone("the machine has ended")
        try:
            answer: Any = json.loads(line)
        except ValueError:
            answer = None
        try:
            _ANSWERS[word](answer, word)
        except Misshapen:
            raise Gone("the machine answers in an unknown way: it is run by another version of powervisor") from None
        found: Json = answer
        return found

    def close(self) -> None:
        """Ask no more."""
        self._lines.close()
        self._socket.close()

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class Running:
    """A machine that runs on this host."""

    path: Path
    description: Json

    @property
    def pid(self) -> int:
        """Its process."""
        return int(self.description["pid"])

    @property
    def name(self) -> str:
        """What it is called, "" if it has no name."""
        return str(self.description.get("name") or "")


def running() -> list[Running]:
    """The machines of this user on this host; sockets that nobody listens on are removed."""
    place = directory()
    found = []
    for path in sorted(place.iterdir() if place.is_dir() else (), key=lambda path: path.name):
        name = _NAME.fullmatch(path.name)
        if name is None:
            continue
        try:
            with Remote(path) as remote:
                found.append(Running(path, remote.ask("describe")))
        except Gone:
            if not _answers(path) and not _lives(int(name[1])):  # whose next machine may have this name in a moment
                with contextlib.suppress(OSError):
                    path.unlink()
    return found


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def find(wanted: str) -> Running:
    """The machine of a process or with a name. Raises UserError."""
    machines = running()
    chosen = [m for m in machines if wanted in (m.path.name, m.name)] or [m for m in machines if str(m.pid) == wanted]
    if len(chosen) == 1:
        return chosen[0]
    if chosen:
        listed = ", ".join(machine.path.name for machine in chosen)
        raise UserError(f"{wanted}: {len(chosen)} machines are called so; name one of them by number: {listed}")
    listed = ", ".join(f"{m.path.name} ({m.name})" if m.name else m.path.name for m in machines)
    raise UserError(f"{wanted}: no such machine runs; there {'is' if len(machines) == 1 else 'are'} {listed or 'none'}")
