"""What clients must not send, and how they must not behave: an error object, and the machine keeps running."""

from __future__ import annotations

import json
import os
import random
import socket
import stat
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from powervisor.manage.command import COMMANDS
from powervisor.manage.requests import DEEPEST, MOST_BYTES, Requests
from powervisor.manage.session import MOST_BYTES as MOST_UNREAD
from tests.support.waiting import until


def runs(machine) -> bool:
    """Whether the guest goes on."""
    before, deadline = machine.vcpus[0].instructions, time.monotonic() + 20
    while machine.vcpus[0].instructions == before:
        assert time.monotonic() < deadline, "the guest stands still"
        time.sleep(0.01)
    return True


@pytest.mark.parametrize(
    "text",
    [
        b"hello\n", b"}\n", b"]]]\n", b"7\n", b'"execute"\n', b"null\n", b"[]\n", b"{}", b'{"execute"}', b"{,}",
        b'{"execute": query-status}', b"{'execute': 'query-status'}", b'{"execute": "query-status}\n',
        b'{"execute": "a\x01b"}', b'{"execute": "\xc3("}\n', b'{"execute": "\\x"}', b'{"execute": 1}',
        b'{"execute": null}',
        b'{"arguments": {}}', b'{"execute": "stop", "arguments": []}', b'{"execute": "stop", "arguments": null}',
        b'{"execute": "stop", "more": 1}', b'{"execute": "stop", "execute": "stop"}', b'{"execute": "stop", "id": NaN}',
        b'{"execute": "stop", "id": -Infinity}', b'{"execute": "stop", "id": 1e999}',
        b'{"execute": "stop", "id": ' + b"9" * 5000 + b"}",
        b'{"execute": "stop", "id": ' + b"[" * (DEEPEST + 5) + b"]" * (DEEPEST + 5) + b"}\n",
        b'{"exec-oob": "stop"}', b"\x00\x00\n", b"\xfe\n", b"<xml/>\n", b"GET / HTTP/1.0\n",
    ],
)  # fmt: skip
def test_what_is_no_request_gets_one_error(managed, text):
    made = managed()
    client = made.client()
    client.send(text)
    answer = client.reply()
    assert answer["error"]["class"] == "GenericError" and answer["error"]["desc"]
    client.send(b"\n")
    assert client.ask("query-status")["running"] and runs(made.machine)


def test_a_request_that_never_ends_is_given_up_by_one_byte(managed):
    client = managed().client()
    client.send(b'{"execute": "stop", "arguments": {"a": [1, \xff{"execute": "query-status"}')
    assert client.reply()["return"]["running"]


@pytest.mark.parametrize("filler", [b" ", b"a", b"[1],"])
def test_messages_that_are_too_long_are_refused_and_the_next_is_heard(managed, filler):
    client = managed().client()
    begin = b'{"execute": "query-status", "id": "' if filler == b"a" else b'{"execute": "query-status", "id": ['
    client.send(begin + filler * ((MOST_BYTES + 5000) // len(filler)) + b"\n")
    assert "bytes" in client.reply()["error"]["desc"]
    assert client.ask("query-status")["running"]


@pytest.mark.parametrize(
    ("command", "arguments", "says"),
    [
        ("stop", {"now": True}, "no member 'now'"), ("balloon", {}, "value is missing"),
        ("balloon", {"value": "1"}, "the string '1'; give an integer"), ("balloon", {"value": True}, "a boolean"),
        ("balloon", {"value": 1.5}, "a fraction"), ("balloon", {"value": 1 << 80}, "give an integer"),
        ("balloon", {"value": None}, "null"), ("set-action", {"panic": "explode"}, "'pause' or 'shutdown'"),
        ("set-action", {"panic": []}, "a list"), ("qom-list", {"path": 7}, "give a string"),
        ("qom-list", {"path": "a\0b"}, "give a string"), ("getfd", {"fdname": "\ud800"}, "give a string"),
        ("migrate-set-capabilities", {"capabilities": {}}, "give a list"),
        ("migrate-set-capabilities", {"capabilities": [{"capability": "xbzrle", "state": True}]}, "[0].capability"),
        ("migrate-set-capabilities", {"capabilities": [{"capability": "events"}]}, "state is missing"),
        ("query-cpus-fast", {"a": 1}, "it takes none"), ("human-monitor-command", {"command-line": []}, "a list"),
        ("human-monitor-command", {"command-line": "help", "cpu-index": 9}, "vCPUs 0 to 0"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_named(managed, command, arguments, says):
    made = managed()
    client = made.client()
    client.send(json.dumps({"execute": command, "arguments": arguments, "id": 5}).encode())
    answer = client.reply()
    assert answer["id"] == 5 and answer["error"]["class"] == "GenericError"
    assert says in answer["error"]["desc"] and answer["error"]["desc"].startswith(command)
    assert client.ask("query-status")["running"]


def test_what_the_machine_has_not_is_refused_by_class(managed):
    client = managed().client()
    assert client.refused("query-balloon")[0] == "DeviceNotActive"
    assert client.refused("qom-list", path="/machine/none")[0] == "DeviceNotFound"
    assert client.refused("device-list-properties", typename="vga")[0] == "DeviceNotFound"
    assert client.refused("set_link", name="n0", up=False)[0] == "DeviceNotFound"
    assert client.refused("screendump", filename="x") == (
        "CommandNotFound", "screendump: there is no such command; the machine has no display",
    )  # fmt: skip
    assert client.ask("qom-list-properties", typename="none") == []


def open_files() -> set[str]:
    """What this process has open."""
    found = set()
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found.add(os.readlink(link))
    return found


def test_descriptors_of_the_wrong_kind_are_refused(managed, tmp_path):
    made = managed()
    client = made.client()
    assert "SCM_RIGHTS" in client.refused("getfd", fdname="none")[1]
    assert "SCM_RIGHTS" in client.refused("add-fd")[1]
    (tmp_path / "file").write_bytes(b"x" * 100)
    read_only = os.open(tmp_path / "file", os.O_RDONLY)
    directory = os.open(tmp_path, os.O_RDONLY)
    ends, terminal = os.pipe(), os.openpty()
    left, right = socket.socketpair()
    given = {os.readlink(f"/proc/self/fd/{fd}") for fd in (read_only, directory, *ends, left.fileno())}
    for fd, command, argument, says in (
        (read_only, "migrate", "uri", "not open for writing"),
        (directory, "migrate", "uri", "not open for writing"),
        (ends[0], "migrate", "uri", "not open for writing"),
        (terminal[0], "migrate", "uri", "is a terminal"),
        (terminal[1], "migrate", "uri", "is a terminal"),
        (read_only, "dump-guest-memory", "protocol", "not open for writing"),
    ):
        client.ask("getfd", fd, fdname="f")
        more = {"paging": False} if command != "migrate" else {}
        assert says in client.refused(command, **{argument: "fd:f"}, **more)[1]
        assert "no file descriptor is called" in client.refused(command, **{argument: "fd:f"}, **more)[1]
    client.ask("getfd", left.fileno(), fdname="f")
    right.close()
    assert "cannot be written" in client.refused("dump-guest-memory", paging=False, protocol="fd:f")[1]
    client.ask("getfd", read_only, fdname="f")
    client.ask("getfd", read_only, fdname="f")
    client.ask("closefd", fdname="f")
    assert client.refused("closefd", fdname="f")[0] == "GenericError"
    assert "is no name" in client.refused("getfd", read_only, fdname="7")[1]
    many = (read_only,) * 12
    for _ in range(4):
        client.ask("query-name", *many)
    client.close()
    left.close()
    for fd in (read_only, directory, *ends, *terminal):
        os.close(fd)
    until(lambda: not given & open_files(), "the end of a client's descriptors")
    assert runs(made.machine)


def test_sets_of_descriptors(managed, tmp_path):
    client = managed().client()
    with open(tmp_path / "a", "wb") as a, open(tmp_path / "b", "rb+" if (tmp_path / "b").exists() else "wb") as b:
        first = client.ask("add-fd", a.fileno(), opaque="log")
        second = client.ask("add-fd", b.fileno(), fdset_id=first["fdset-id"])
    assert client.ask("query-fdsets") == [
        {"fdset-id": 0, "fds": [{"fd": first["fd"], "opaque": "log"}, {"fd": second["fd"]}]}
    ]
    client.ask("dump-guest-memory", paging=False, protocol="file:/dev/fdset/0", begin=0, length=4096)
    assert (tmp_path / "a").read_bytes()[:4] == b"\x7fELF"
    assert "no descriptor that is open" in client.refused("migrate", uri="file:/dev/fdset/7")[1]
    client.ask("remove-fd", fdset_id=0, fd=first["fd"])
    client.ask("remove-fd", fdset_id=0)
    assert client.refused("remove-fd", fdset_id=0)[0] == "GenericError" and client.ask("query-fdsets") == []


def test_a_client_that_never_reads_is_held_back_then_let_go(managed):
    made = managed()
    lazy, client = made.client(), made.client()
    request = b'{"execute": "query-qmp-schema"}'
    lazy.socket.settimeout(0.5)
    with pytest.raises(TimeoutError):  # its requests are not taken any more
        while True:
            lazy.send(request * 1000)
    assert client.ask("query-status")["running"]
    size = made.server.manager._sessions[0]._size
    assert size < MOST_UNREAD
    silent = made.client()
    for _ in range(30):
        client.ask("stop")
        client.ask("cont")
    made.server.manager._sessions[2]._send({"filler": "x" * MOST_UNREAD})
    silent.socket.settimeout(20)
    assert silent.hung_up() and client.ask("query-status")["running"]


def test_clients_that_never_read_hold_up_the_end_for_a_second_only(managed):
    made = managed()
    clients = [made.client() for _ in range(6)]
    for session in made.server.manager._sessions:
        session._send({"filler": "x" * (MOST_UNREAD // 2)})
    began = time.monotonic()
    made.server.close()
    assert time.monotonic() - began < 0.5 * len(clients)


def test_clients_come_and_go(managed):
    made = managed()
    for n in range(40):
        client = made.client(negotiate=n % 2 == 0)
        client.send(b'{"execute": "stop"' if n % 3 else b'{"execute": "query-qmp-schema"}' * 50)
        client.close()
    deadline = time.monotonic() + 20
    while left := [thread.name for thread in threading.enumerate() if thread.name in ("qmp", "qmp-out")]:
        assert time.monotonic() < deadline, f"threads of clients that left are there: {left}"
        time.sleep(0.02)
    assert made.client().ask("query-status")["running"]


def test_the_socket_is_its_owners_only(managed):
    before = os.umask(0)
    try:
        made = managed()
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(made.path).st_mode) == 0o600


def random_value(rng: random.Random, depth: int = 0):
    kinds = [
        lambda: rng.choice([0, -1, 1, 1 << 31, (1 << 64) - 1, 1 << 70, 4096, 1.5, -0.0]),
        lambda: rng.choice(["", "fd:x", "file:/nowhere/x", "/machine/peripheral", "e5500", "\ud800", "x" * 300, "on"]),
        lambda: rng.choice([True, False, None]),
    ]
    if depth < 3:
        kinds += [
            lambda: [random_value(rng, depth + 1) for _ in range(rng.randrange(3))],
            lambda: {rng.choice(["capability", "state", "a"]): random_value(rng, depth + 1) for _ in range(2)},
        ]
    return rng.choice(kinds)()


@pytest.mark.parametrize("seed", range(3))
def test_random_requests_and_bytes(managed, seed):
    rng = random.Random(seed)
    made = managed(devices=["virtio-balloon-pci,id=balloon0"])
    names = [name for name in COMMANDS if name not in ("quit", "qmp_capabilities")]
    client = made.client()
    client.send(b"\n")
    for number in range(250):
        command = COMMANDS[rng.choice(names)]
        arguments = {
            member.name if rng.random() < 0.95 else "other": random_value(rng)
            for member in command.arguments
            if rng.random() < 0.8
        }
        text = json.dumps({"execute": command.name, "arguments": arguments, "id": number}).encode()
        if rng.random() < 0.3:  # damaged: any number of errors may come of it, and then all is well again
            data = bytearray(text)
            for _ in range(rng.randrange(1, 4)):
                data[rng.randrange(len(data))] = rng.choice([*b'{}[]":,\\\n x0', rng.randrange(256)])
            client.send(bytes(data) + b'\n"\n\xff')
        else:
            client.send(text)
        client.send(b'{"execute": "query-name", "id": "sync"}')
        while client.reply().get("id") != "sync":
            pass
    client.ask("set-action", shutdown="poweroff", panic="shutdown", reboot="reset")
    deadline = time.monotonic() + 20
    while client.ask("query-migrate").get("status") in ("setup", "active"):
        assert time.monotonic() < deadline
    client.ask("cont")
    assert runs(made.machine)


def test_requests_are_found_however_they_are_cut():
    texts = [b'{"a": "}\\"{", "b": [1, {"c": 2}]}', b"{}", b'{"execute": "x", "id": "\\\\"}']
    stream = b"\r\n".join(texts) + b"\n" + b"".join(texts)
    whole = Requests().take(stream)
    assert whole == [json.loads(text) for text in texts] * 2
    for size in (1, 2, 3, 7):
        requests, found = Requests(), []
        for at in range(0, len(stream), size):
            found += requests.take(stream[at : at + size])
        assert found == whole
