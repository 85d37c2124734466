"""Clients that others wrote: the qemu.qmp library and its shell."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

qmp = pytest.importorskip("qemu.qmp", reason="the qemu.qmp package is not installed")


def test_the_library_of_qemu_talks_to_it(managed):
    made = managed()

    async def talk() -> None:
        client = qmp.QMPClient("powervisor")
        await client.connect(made.path)
        assert (await client.execute("query-status"))["status"] == "running"
        await client.execute("stop")
        assert (await asyncio.wait_for(client.events.get(), 20))["event"] == "STOP"
        with pytest.raises(qmp.ExecuteError) as failed:
            await client.execute("balloon", {"value": 1})
        assert failed.value.error_class == "DeviceNotActive"
        many = await asyncio.gather(*(client.execute("query-uuid") for _ in range(50)))
        assert len(many) == 50
        assert len(await client.execute("query-qmp-schema")) > 100
        await client.execute("cont")
        assert (await asyncio.wait_for(client.events.get(), 20))["event"] == "RESUME"
        await client.disconnect()

    asyncio.run(talk())
    assert made.client().ask("query-status")["running"]


def test_the_library_hands_over_descriptors(managed, tmp_path):
    made = managed()

    async def talk() -> None:
        client = qmp.QMPClient("powervisor")
        await client.connect(made.path)
        with open(tmp_path / "core", "wb") as file:
            client.send_fd_scm(file.fileno())
            await client.execute("getfd", {"fdname": "dump"})
        await client.execute("dump-guest-memory", {"paging": False, "protocol": "fd:dump"})
        await client.disconnect()

    asyncio.run(talk())
    assert (tmp_path / "core").stat().st_size > 1 << 20


def test_the_shell_of_qemu_talks_to_it(managed):
    made = managed()
    environment = {**os.environ, "HOME": str(Path(made.path).parent)}
    typed = "query-status\nstop\nqom-list path=/machine/peripheral\nhuman-monitor-command command-line=help\n"
    done = subprocess.run(
        [sys.executable, "-m", "qemu.qmp.qmp_shell", made.path],
        input=typed, capture_output=True, text=True, timeout=60, env=environment,
    )  # fmt: skip
    assert "Connected to QEMU 7.2.0" in done.stdout and '"status": "running"' in done.stdout, done
    assert "info registers" in done.stdout, done
    assert made.machine.held
