"""Machines under QMP, and a client by hand that says exactly what it is told to say."""

from __future__ import annotations

import array
import json
import socket
from contextlib import ExitStack
from typing import Any

import pytest

from powervisor.manage import QmpServer
from powervisor.manage.endpoints import open_endpoint
from powervisor.manage.manager import Identity
from tests.system.bare import bare_machine

LOOP = """
loop:
    addi  r4, r4, 1
    b     loop
"""


class Client:
    """Sends requests and reads answers; events that come between are kept."""

    def __init__(self, path: str, negotiate: bool = True) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20)
        self.socket.connect(path)
        self.data = b""
        self.events: list[dict[str, Any]] = []
        self.greeting = self.message()
        if negotiate:
            assert self.ask("qmp_capabilities") == {}

    def send(self, data: bytes, fds: tuple[int, ...] = ()) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        if rest := data[self.socket.sendmsg([data], rights) :]:
            self.socket.sendall(rest)

    def message(self) -> dict[str, Any]:
        """The next message, whatever it is."""
        while b"\r\n" not in self.data:
            data = self.socket.recv(65536)
            assert data, "the server hung up"
            self.data += data
        line, _, self.data = self.data.partition(b"\r\n")
        assert b"\n" not in line
        return json.loads(line)

    def reply(self) -> dict[str, Any]:
        """The next answer."""
        while "event" in (message := self.message()):
            self.events.append(message)
        return message

    def call(self, command: str, *fds: int, **arguments: Any) -> dict[str, Any]:
        """The whole answer to a command; `_` in names of arguments are dashes."""
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        request = {"execute": command} | ({"arguments": named} if named else {})
        self.send(json.dumps(request).encode() + b"\r\n", fds)
        return self.reply()

    def ask(self, command: str, *fds: int, **arguments: Any) -> Any:
        """What a command returns."""
        answer = self.call(command, *fds, **arguments)
        assert "return" in answer, answer
        return answer["return"]

    def refused(self, command: str, *fds: int, **arguments: Any) -> tuple[str, str]:
        """Class and text of a command's error."""
        answer = self.call(command, *fds, **arguments)
        assert "error" in answer, answer
        return answer["error"]["class"], answer["error"]["desc"]

    def event(self, name: str) -> dict[str, Any]:
        """The next event of a name, and what it tells; those before it are dropped."""
        while True:
            message = self.events.pop(0) if self.events else self.message()
            if message.get("event") == name:
                assert message["timestamp"].keys() == {"seconds", "microseconds"}
                return message.get("data", {})

    def hung_up(self) -> bool:
        """Whether the server closes the connection."""
        try:
            while self.socket.recv(65536):
                pass
        except ConnectionResetError:
            return True
        return True

    def close(self) -> None:
        self.socket.close()


class Managed:
    """A machine, its server, and ways to it."""

    def __init__(self, machine: Any, server: QmpServer, path: str, stack: ExitStack) -> None:
        self.machine, self.server, self.path, self._stack = machine, server, path, stack

    def client(self, negotiate: bool = True) -> Client:
        made = Client(self.path, negotiate)
        self._stack.callback(made.close)
        return made


@pytest.fixture
def managed(tmp_path):
    """`managed(source, cpu, started=True, ...)`: a bare-metal machine with a QMP server."""
    with ExitStack() as stack:

        def make(source=LOOP, cpu="e5500", started=True, incoming=False, identity=None, **options):
            machine = stack.enter_context(bare_machine(source, cpu, **options))
            path = str(tmp_path / f"qmp{len(list(tmp_path.iterdir()))}")
            if incoming or not started:
                machine.hold()
            server = QmpServer(machine, [open_endpoint(f"unix:{path},server=on")], identity or Identity(), incoming)
            stack.callback(server.close)
            machine.start()
            return Managed(machine, server, path, stack)

        yield make
