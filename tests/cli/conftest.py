"""A stand-in for Machine: the command line is tested without an engine."""

import threading
from types import SimpleNamespace

import pytest

import powervisor
from powervisor.boards.devicetree import Node, flatten


class FakeMachine:
    """Plays `script(machine)` on a thread: print with `say`, end with `end(kind)`."""

    script = staticmethod(lambda machine: machine.end("poweroff"))
    last: "FakeMachine"

    def __init__(self, serial=(), progress=None, warn=None, **arguments) -> None:
        self.arguments, self.serial = arguments, list(serial)
        self.outcome, self.over = None, threading.Event()
        self.started = self.stopped = self.closed = False
        self.typed = b""
        self.answered = 0
        FakeMachine.last = self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def start(self) -> None:
        self.started = True
        lock = threading.RLock()

        def dispatch(function):
            with lock:
                function()

        for chardev in filter(None, self.serial):
            chardev.on_receive = self.receive
            chardev.can_receive = lambda: 16
            chardev.start(dispatch)
        threading.Thread(target=type(self).script, args=(self,), daemon=True).start()

    def receive(self, data: bytes) -> None:
        self.typed += data

    def heard(self) -> str:
        """What was typed since the last call. Nothing that comes meanwhile is lost."""
        typed = self.typed
        before, self.answered = self.answered, len(typed)
        return typed[before:].decode()

    def say(self, text: str, line: int = 0) -> None:
        self.serial[line].write(text.encode())

    def end(self, kind: str, detail: str = "", dump: str = "") -> None:
        self.outcome = SimpleNamespace(kind=kind, detail=detail, dump=dump)
        self.over.set()

    def wait(self, timeout=None):
        self.over.wait(timeout)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    def stop(self) -> None:
        self.stopped = True
        if self.outcome is None:
            self.end("stopped")

    def close(self) -> None:
        self.closed = True

    def state_text(self) -> str:
        return "cpu0 pc=0xc0000000"

    def statistics(self) -> dict:
        return {"seconds": 1.5, "vcpus": [{"exits": {"mmio": 3}, "counters": {"instructions": 7}}]}

    @property
    def device_tree_blob(self) -> bytes:
        root = Node()
        root.set("model", "fake")
        return flatten(root)


@pytest.fixture
def machine(monkeypatch):
    """Installs FakeMachine; set `machine.script` to play something else than a power-off."""

    class Machine(FakeMachine):
        pass

    monkeypatch.setattr(powervisor, "Machine", Machine, raising=False)
    return Machine


@pytest.fixture
def measured(monkeypatch):
    """Exit timing without vCPUs: notes when it begins and is over."""
    noted = []

    class Measurement:
        def __init__(self, machine):
            noted.append("begun")

        def close(self):
            noted.append("over")

    monkeypatch.setattr("powervisor.analysis.record.measure", Measurement)
    return noted


@pytest.fixture
def command(capfd):
    """Runs a command line; gives status, output, error output."""
    from powervisor.cli.main import main

    def run(*words: str) -> SimpleNamespace:
        status = main(words)
        out, err = capfd.readouterr()
        return SimpleNamespace(status=status, out=out, err=err)

    return run
