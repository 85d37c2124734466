"""Migration to files and descriptors and back, and memory dumps that gdb opens."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import threading
import time

import pytest

from powervisor.errors import UserError
from powervisor.snapshots.stream import Stream, write
from tests.support.waiting import until
from tests.system.bare import COUNTS, MAPPED, RESULTS


def settled(client, query="query-migrate", ends=("completed", "failed", "cancelled")):
    """The answer when it is at an end."""
    deadline = time.monotonic() + 60
    while (info := client.ask(query)).get("status") not in ends:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return info


def counted(machine) -> int:
    return int.from_bytes(machine.memory[RESULTS : RESULTS + 4], "big")


def goes_on(made) -> bool:
    before, deadline = counted(made.machine), time.monotonic() + 20
    while counted(made.machine) == before:
        assert time.monotonic() < deadline, "the guest stands still"
        time.sleep(0.01)
    return True


def migrated(made, path, name=b"head"):
    """A machine's stream in a file after some bytes of somebody else's, as libvirt's save files have it."""
    client = made.client()
    client.ask("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])
    with open(path, "wb") as file:
        file.write(name)
        file.flush()
        client.ask("getfd", file.fileno(), fdname="migrate")
    client.send(b'{"execute": "migrate", "arguments": {"uri": "fd:migrate", "detach": true}}')
    first = client.message()
    while first.get("event") != "MIGRATION":
        first = client.message()
    assert first["data"] == {"status": "setup"}  # libvirt gives up when the answer comes before
    assert client.reply() == {"return": {}}
    return client


def test_a_machine_goes_on_elsewhere(managed, tmp_path):
    made = managed(COUNTS)
    assert goes_on(made)
    client = migrated(made, tmp_path / "saved")
    info = settled(client)
    assert info["status"] == "completed" and info["ram"]["total"] == MAPPED and info["ram"]["remaining"] == 0
    for status in ("active", "completed"):
        assert client.event("MIGRATION") == {"status": status}
    assert client.ask("query-status") == {"running": False, "singlestep": False, "status": "postmigrate"}
    value = counted(made.machine)

    other = managed(COUNTS, incoming=True)
    there = other.client()
    assert there.ask("query-status")["status"] == "inmigrate"
    there.ask("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])
    with open(tmp_path / "saved", "rb") as file:
        os.lseek(file.fileno(), 4, os.SEEK_SET)
        there.ask("getfd", file.fileno(), fdname="in")
        there.ask("migrate-incoming", uri="fd:in")
        assert settled(there)["status"] == "completed"
    assert there.ask("query-status")["status"] == "paused"
    assert counted(other.machine) == value
    there.ask("cont")
    assert goes_on(other) and there.ask("query-status")["status"] == "running"
    client.ask("cont")
    assert goes_on(made)
    assert "does not wait" in there.refused("migrate-incoming", uri="fd:1")[1]


def test_a_machine_that_was_let_go_runs_when_it_has_come(managed, tmp_path):
    made = managed(COUNTS)
    client = made.client()
    client.ask("migrate", uri=f"file:{tmp_path}/stream")
    assert settled(client)["status"] == "completed"
    assert os.stat(tmp_path / "stream").st_mode & 0o777 == 0o600
    other = managed(COUNTS, incoming=True)
    there = other.client()
    there.ask("cont")
    there.ask("migrate-incoming", uri=f"file:{tmp_path}/stream")
    settled(there)
    assert goes_on(other)


def test_a_stream_through_a_pipe_nobody_reads_is_cancelled(managed):
    made = managed(COUNTS)
    client = made.client()
    read, written = os.pipe()
    fcntl.fcntl(written, fcntl.F_SETPIPE_SZ, 4096)
    client.ask("getfd", written, fdname="out")
    assert "cannot go on" in client.refused("migrate", uri="fd:out", resume=True)[1]
    client.ask("migrate", uri="fd:out", resume=False)
    os.close(written)
    assert "under way" in client.refused("migrate", uri="fd:out")[1]
    settled(client, ends=("active",))
    assert "under way" in client.refused("cont")[1]
    client.ask("migrate_cancel")
    assert settled(client)["status"] == "cancelled"
    assert goes_on(made) and client.ask("query-status")["status"] == "running"
    os.close(read)


def test_a_reader_that_vanishes_fails_the_migration_and_the_guest_goes_on(managed):
    made = managed(COUNTS)
    client = made.client()
    left, right = socket.socketpair()
    client.ask("getfd", left.fileno(), fdname="out")
    left.close()
    client.ask("migrate", uri="fd:out")
    right.recv(100)
    right.close()
    info = settled(client)
    assert info["status"] == "failed" and "cannot be written" in info["error-desc"]
    assert goes_on(made)


def test_a_client_that_vanishes_in_the_middle_leaves_the_migration_to_its_end(managed):
    made = managed(COUNTS)
    client = made.client()
    read, written = os.pipe()
    client.ask("getfd", written, fdname="out")
    os.close(written)
    client.ask("migrate", uri="fd:out")
    client.close()
    whole = bytearray()
    reader = threading.Thread(target=lambda: [whole.extend(data) for data in iter(lambda: os.read(read, 65536), b"")])
    reader.start()
    other = made.client()
    assert settled(other)["status"] == "completed"
    reader.join(20)
    os.close(read)
    assert whole.startswith(b"PVSTREAM") and other.ask("query-status")["status"] == "postmigrate"


@pytest.mark.parametrize("damage", ["empty", "other", "short", "bit", "version"])
def test_damaged_streams_are_refused_and_the_machine_waits_for_a_better_one(managed, tmp_path, damage):
    made = managed(COUNTS)
    client = migrated(made, tmp_path / "good", b"")
    settled(client)
    data = bytearray((tmp_path / "good").read_bytes())
    if damage == "bit":
        data[len(data) // 2] ^= 0x10
    elif damage == "version":
        data[8] += 1
    data = {"empty": b"", "other": b"QEVM" + bytes(100), "short": data[: len(data) - 40]}.get(damage, data)
    (tmp_path / "bad").write_bytes(data)
    other = managed(COUNTS, incoming=True)
    there = other.client()
    there.ask("migrate-incoming", uri=f"file:{tmp_path}/bad")
    info = settled(there)
    assert info["status"] == "failed" and f"file:{tmp_path}/bad" in info["error-desc"], info
    assert there.ask("query-status")["status"] == "inmigrate"
    there.ask("migrate-incoming", uri=f"file:{tmp_path}/good")
    assert settled(there)["status"] == "completed"


def test_a_stream_of_another_machine_is_refused(managed, tmp_path):
    client = managed(COUNTS).client()
    client.ask("migrate", uri=f"file:{tmp_path}/stream")
    settled(client)
    there = managed(COUNTS, "e500mc", incoming=True).client()
    there.ask("migrate-incoming", uri=f"file:{tmp_path}/stream")
    assert "cpu e5500, this one has e500mc" in settled(there)["error-desc"]


def test_a_stream_is_read_as_it_was_written():
    sent = bytearray()
    sections = {"memory": [(0, b"a" * 5000), (1 << 20, bytes(1 << 20))], "none": [], "disk:a,b": [(7, b"x")]}
    write(sent.extend, {"one": 1, "bytes": b"\xff"}, sections)
    at = 0

    def receive(count: int) -> bytes:
        nonlocal at
        at += count
        return bytes(sent[at - count : at])

    stream = Stream(receive, "here")
    assert stream.header == {"one": 1, "bytes": b"\xff"}
    for name, pieces in sections.items():
        found: list[tuple[int, bytes]] = []
        stream.read(name, lambda offset, data, found=found: found.append((offset, data)))
        assert found == pieces
    stream.end()
    assert at == len(sent)
    for cut in (0, 3, 30, len(sent) // 2, len(sent) - 1):
        with pytest.raises(UserError, match=r"^here: "):
            pieces_of(bytes(sent[:cut]), sections)


def pieces_of(data: bytes, sections) -> None:
    view = memoryview(data)

    def receive(count: int) -> bytes:
        nonlocal view
        part, view = bytes(view[:count]), view[count:]
        return part

    stream = Stream(receive, "here")
    for name in sections:
        stream.read(name, lambda offset, data: None)
    stream.end()


REGISTERS = """
    load32 r3, RESULTS
    load32 r4, 0x12345678
    li    r5, -2
    mtlr  r4
    mtctr r5
    stw   r4, 0(r3)
loop:
    b     loop
"""


@pytest.mark.skipif(shutil.which("gdb-multiarch") is None, reason="no gdb-multiarch")
@pytest.mark.parametrize(("cpu", "cores"), [("e500mc", 2), ("e5500", 1), ("e6500", 1)])
def test_gdb_opens_a_dump(managed, tmp_path, cpu, cores):
    made = managed(REGISTERS, cpu, cores=cores)
    client = made.client()
    machine = made.machine
    deadline = time.monotonic() + 20
    while machine.memory[RESULTS : RESULTS + 4] != b"\x12\x34\x56\x78":
        assert time.monotonic() < deadline
    client.ask("stop")
    machine.vcpus[0].regs["f3"] = 0x400921FB54442D18
    if cpu == "e6500":
        machine.vcpus[0].regs["v2"] = 0x00112233445566778899AABBCCDDEEFF
    with open(tmp_path / "core", "wb") as file:
        client.ask("getfd", file.fileno(), fdname="dump")
    client.ask("dump-guest-memory", paging=False, protocol="fd:dump", detach=True)
    assert client.event("DUMP_COMPLETED")["result"] == {"status": "completed", "completed": MAPPED, "total": MAPPED}
    assert client.ask("query-dump")["status"] == "completed"
    commands = ["info threads", "thread 1", "p/x $r4", "p/x $lr", "p/x $pc", f"x/wx {RESULTS:#x}", "x/i $pc", "p $f3"]
    if cpu == "e6500":
        commands.append("p/x $vr2.uint128")
    done = subprocess.run(
        ["gdb-multiarch", "-batch", "-nx", *[word for text in commands for word in ("-ex", text)], "-c",
         str(tmp_path / "core")],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.count("LWP") >= cores, done
    pc = machine.vcpus[0].regs["pc"]
    for text in (
        "0x12345678",
        f"= {pc:#x}",
        f"{RESULTS:#x}:\t0x12345678",
        f"b\t0x{pc:x}".replace("\t", " "),
        "3.14159",
    ):
        assert text in done.stdout.replace("\tb       ", "\tb 0x").replace("0x0x", "0x").replace("\tb 0x", "b 0x"), done
    if cpu == "e6500":
        assert "0x112233445566778899aabbccddeeff" in done.stdout, done


def test_a_dump_shows_memory_where_programs_see_it(managed, tmp_path):
    source = """
        map 5, 0x80000000, 0, 0, 10, 2
        load32 r3, RESULTS
        li    r4, 1
        stw   r4, 0(r3)
    loop:
        b     loop
    """
    made = managed(source)
    until(lambda: counted(made.machine))
    client = made.client()
    client.ask("dump-guest-memory", paging=True, protocol=f"file:{tmp_path}/core")
    from elftools.elf.elffile import ELFFile

    with open(tmp_path / "core", "rb") as file:
        loads = [one.header for one in ELFFile(file).iter_segments() if one.header.p_type == "PT_LOAD"]
    places = {one.p_vaddr: (one.p_paddr, one.p_filesz) for one in loads}
    assert places[0] == (0, MAPPED) and places[0x8000_0000] == (0, 1 << 20)


def test_dumps_of_a_part_and_dumps_that_cannot_be(managed, tmp_path):
    made = managed()
    client = made.client()
    client.ask("dump-guest-memory", paging=False, protocol=f"file:{tmp_path}/part", begin=0x1000, length=0x2000)
    assert os.stat(tmp_path / "part").st_size == 0x1000 + 0x2000
    assert (tmp_path / "part").read_bytes()[0x1000:] == made.machine.memory[0x1000:0x3000]
    for wrong in (
        {"begin": 0},
        {"begin": 1, "length": 1},
        {"begin": 0, "length": MAPPED + 1},
        {"begin": -4096, "length": 1},
    ):
        assert client.refused("dump-guest-memory", paging=False, protocol="file:x", **wrong)[0] == "GenericError"
    assert "not understood" in client.refused("dump-guest-memory", paging=False, protocol="tcp:x")[1]
    assert "cannot be opened" in client.refused("dump-guest-memory", paging=False, protocol="file:/none/x")[1]
    client.refused("dump-guest-memory", paging=False, protocol="file:/dev/full")
    assert client.ask("query-dump")["status"] == "failed" and client.ask("query-status")["running"]
