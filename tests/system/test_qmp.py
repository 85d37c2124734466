"""Linux managed over QMP: with a balloon, and moved to another machine while somebody talks to it."""

from __future__ import annotations

import time
from contextlib import ExitStack

import pytest

from powervisor import Machine
from powervisor.manage import QmpServer, open_endpoint
from tests.manage.conftest import Client
from tests.system.booting import needs, options
from tests.system.test_devices import shell


def served(stack, machine, path, incoming=False):
    """A client of a machine that is started."""
    if incoming:
        machine.hold()
    server = QmpServer(machine, [open_endpoint(f"unix:{path},server=on")], incoming=incoming)
    stack.callback(server.close)
    machine.start()
    client = Client(str(path))
    stack.callback(client.close)
    return client


def until_status(client, status):
    deadline = time.monotonic() + 120
    while client.ask("query-migrate").get("status") != status:
        assert time.monotonic() < deadline, client.ask("query-migrate")
        time.sleep(0.05)


@pytest.mark.slow
def test_linux_goes_on_in_another_machine_with_memory_and_balloon(tmp_path):
    needs("k32", "CONFIG_VIRTIO_BALLOON")
    ask = "echo MARK; read -r go; echo said $go; grep MemTotal /proc/meminfo"
    chosen = {
        **options("k32", shell(ask, ask)), "memory": 256 << 20, "cores": 2,
        "devices": ["virtio-balloon-pci,id=balloon0"], "serial": [None],
    }  # fmt: skip
    with ExitStack() as stack:
        machine = stack.enter_context(Machine(**chosen))
        client = served(stack, machine, tmp_path / "one")
        machine.console.expect("MARK\r\n", timeout=120)
        client.ask("balloon", value=128 << 20)
        while client.event("BALLOON_CHANGE")["actual"] != 128 << 20:
            pass
        path = "/machine/peripheral/balloon0"
        client.ask("qom-set", path=path, property="guest-stats-polling-interval", value=1)
        stats = client.ask("qom-get", path=path, property="guest-stats")
        assert stats["last-update"] and stats["stats"]["stat-total-memory"] < 256 << 20
        client.ask("migrate", uri=f"file:{tmp_path}/stream")
        until_status(client, "completed")
        other = stack.enter_context(Machine(**chosen))
        there = served(stack, other, tmp_path / "two", incoming=True)
        there.ask("cont")
        there.ask("migrate-incoming", uri=f"file:{tmp_path}/stream")
        until_status(there, "completed")
        assert there.ask("query-balloon") == {"actual": 128 << 20}
        other.console.send("hello\n")
        other.console.expect("said hello", timeout=60)
        other.console.expect("MARK\r\n", timeout=60)
        other.console.send("\n")
        assert there.event("SHUTDOWN") == {"guest": True, "reason": "guest-shutdown"}
        assert client.ask("query-status")["status"] == "postmigrate"
