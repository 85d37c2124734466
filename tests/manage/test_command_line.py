"""QMP on the command line: where clients come, and how the process ends."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.manage.conftest import Client

TREE = Path(__file__).parents[2]


def started(*words: str, path: str) -> tuple[subprocess.Popen[bytes], Client]:
    """`powervisor run` with the built-in guest, and a client."""
    run = subprocess.Popen(
        [sys.executable, "-m", "powervisor", "run", "-m", "64", "-serial", "null", *words], cwd=TREE,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not os.path.exists(path):
        assert time.monotonic() < deadline and run.poll() is None, run.communicate()
        time.sleep(0.02)
    return run, Client(path)


def test_the_command_line_and_an_end_by_signal(tmp_path):
    path = f"{tmp_path}/qmp"
    words = ["-S", "-chardev", "pty,id=extra", "-name", "lab", "-uuid", "0123456789abcdef0123456789ABCDEF"]
    run, client = started("-qmp", f"unix:{path},server=on,wait=off", *words, path=path)
    try:
        assert client.ask("query-name") == {"name": "lab"}
        assert client.ask("query-uuid") == {"UUID": "01234567-89ab-cdef-0123-456789abcdef"}
        deadline = time.monotonic() + 60
        while not client.ask("query-cpus-fast")[0]["thread-id"]:
            assert time.monotonic() < deadline
        assert client.ask("query-status")["status"] == "prelaunch"
        labels = {one["label"]: one["filename"] for one in client.ask("query-chardev")}
        assert labels["serial0"] == "null" and labels["extra"].startswith("pty:/dev/pts/")
        thread = client.ask("query-cpus-fast")[0]["thread-id"]
        assert os.path.exists(f"/proc/{run.pid}/task/{thread}")
        client.ask("cont")
        client.event("RESUME")
        run.terminate()
        assert client.event("SHUTDOWN") == {"guest": False, "reason": "host-signal"}
        assert client.hung_up() and run.wait(20) == 128 + 15
        assert not os.path.exists(path)
    finally:
        client.close()
        run.kill()
        run.communicate()


def test_a_machine_moves_from_one_process_to_another(tmp_path):
    one, two, stream = f"{tmp_path}/one", f"{tmp_path}/two", f"{tmp_path}/stream"
    chardev = f"socket,id=mon0,path={one},server=on,wait=off"
    source, client = started("-chardev", chardev, "-mon", "chardev=mon0,mode=control", path=one)
    target, there = started("-qmp", f"unix:{two},server=on", "-incoming", "defer", path=two)
    try:
        client.ask("migrate", uri=f"file:{stream}")
        deadline = time.monotonic() + 60
        while client.ask("query-migrate")["status"] != "completed":
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert there.ask("query-status")["status"] == "inmigrate"
        there.ask("migrate-incoming", uri=f"file:{stream}")
        while there.ask("query-migrate").get("status") != "completed":
            assert time.monotonic() < deadline
            time.sleep(0.02)
        there.ask("cont")
        assert there.ask("query-status")["status"] == "running"
        for end, process in ((client, source), (there, target)):
            assert end.ask("quit") == {}
            assert process.wait(20) == 0
    finally:
        client.close()
        there.close()
        for process in (source, target):
            process.kill()
            process.communicate()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("-qmp", "unix:/none/x,server=on"), "-qmp unix:/none/x: cannot listen there"),
        (("-qmp", "unix:x"), "add ,server=on"), (("-qmp", "udp:x"), "QMP cannot be there"),
        (("-qmp", "chardev:none"), "no such chardev"), (("-mon", "chardev=none"), "no such chardev"),
        (("-mon", "mode=control"), "chardev= is missing"), (("-incoming", "tcp:x"), "write -incoming defer"),
        (("-incoming", "defer"), "add -qmp"), (("-no-shutdown",), "add -qmp"),
        (("-qmp", "stdio", "-serial", "stdio"), "-qmp stdio"),
        (("-chardev", "null,id=a", "-mon", "chardev=a"), "use a socket, stdio or pty"),
        (("-uuid", "12"), "-uuid 12: write 32 hexadecimal digits"),
    ],
)  # fmt: skip
def test_wrong_options_are_told_in_a_line(words, says):
    done = subprocess.run(
        [sys.executable, "-m", "powervisor", "run", "-m", "64", "-timeout", "20", *words],
        cwd=TREE, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode in (1, 2) and says in done.stderr and done.stderr.count("\n") == 1, done


def test_standard_input_and_output_are_qmp(tmp_path):
    run = subprocess.Popen(
        [sys.executable, "-m", "powervisor", "run", "-m", "64", "-S", "-qmp", "stdio"], cwd=TREE,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    requests = [{"execute": name} for name in ("qmp_capabilities", "query-status", "quit")]
    out, errors = run.communicate("\n".join(map(json.dumps, requests)).encode(), timeout=60)
    lines = [json.loads(line) for line in out.split(b"\r\n") if line]
    assert lines[0]["QMP"]["capabilities"] == [] and lines[2]["return"]["status"] == "prelaunch", errors
    assert lines[-1]["event"] == "SHUTDOWN" and run.returncode == 0, lines


@pytest.mark.parametrize("where", ["tcp::0,server=on,wait=off", "pty"])
def test_a_port_and_a_pty_are_announced(where):
    run = subprocess.Popen(
        [sys.executable, "-m", "powervisor", "run", "-m", "64", "-S", "-serial", "null", "-qmp", where], cwd=TREE,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert run.stderr is not None
    try:
        said = run.stderr.readline().decode().split()
        assert said[0] == "qmp:"
        with ExitStack() as stack:
            if where == "pty":
                fd = os.open(said[1], os.O_RDWR | os.O_NOCTTY)
                stack.callback(os.close, fd)
            else:
                host, port = said[1].removeprefix("tcp:").split(":")
                assert host == "127.0.0.1"
                fd = stack.enter_context(socket.create_connection((host, int(port)))).fileno()
            os.write(fd, b'{"execute": "qmp_capabilities"}\n{"execute": "quit"}\n')
            data = b""
            while b"SHUTDOWN" not in data:
                data += os.read(fd, 4096)
        assert run.wait(20) == 0
    finally:
        run.kill()
        run.communicate()
