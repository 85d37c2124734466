"""-chardev: what is typed, and the chardevs it makes."""

import os
import re
import socket

import pytest

from powervisor.console import Recorder, open_named
from powervisor.console.chardev import CAPACITY
from powervisor.console.files import File, Null, Pty
from powervisor.console.sockets import TcpServer, UnixServer
from powervisor.console.stdio import Stdio
from powervisor.errors import UserError
from powervisor.fdsets import FdSets, opened_from


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("null,id=a", Null),
        ("pty,id=a", Pty),
        ("stdio,id=a,signal=off", Stdio),
        ("file,id=a,path={tmp}/out", File),
        ("socket,id=a,path={tmp}/s,server=on,wait=off", UnixServer),
        ("socket,id=a,path={tmp}/s,server,nowait", UnixServer),
        ("socket,id=a,host=127.0.0.1,port=0,server=on", TcpServer),
    ],
)
def test_qemus_words(tmp_path, text, kind):
    name, chardev = open_named(text.format(tmp=tmp_path))
    assert name == "a" and type(chardev) is kind
    chardev.close()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sokcet,id=a", "-chardev sokcet,id=a: no such kind; there is socket"),
        ("pty", "id= is missing"),
        ("file,id=a", "path= is missing"),
        ("pty,id=a,paht=x", "unknown property 'paht'"),
        ("stdio,id=a,signal=on", "signal=on is not one of off"),
        ("socket,id=a,path=s", "socket,id=a: connecting out is not supported; add server=on"),
        ("socket,id=a,server=on", "give one of path=, port= and fd="),
        ("socket,id=a,path=s,port=1,server=on", "give one of path=, port= and fd="),
        ("socket,id=a,port=70000,server=on", "port=70000 is not within 0..65535"),
        ("file,id=a,path=/nonexistent/x", "cannot write there"),
    ],
)
def test_mistakes_are_one_line(text, message):
    with pytest.raises(UserError, match=re.escape(message)) as error:
        open_named(text)
    assert "\n" not in str(error.value)


def test_a_socket_tells_who_is_there_and_of_room(tmp_path):
    _, server = open_named(f"socket,id=a,path={tmp_path}/s,server=on,wait=off")
    seen, rooms = [], []
    server.on_connected, server.on_room = seen.append, lambda: rooms.append(server.room())
    server.start(lambda call: call())
    assert not server.connected
    server.write(bytes(CAPACITY))
    assert server.room() == 0
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(f"{tmp_path}/s")
        left = CAPACITY
        while left:
            left -= len(client.recv(1 << 16))
        assert server.connected and seen == [True]
    while len(seen) < 2:
        server._thread.join(0.01)
    assert not server.connected and seen == [True, False]
    assert len(rooms) == 1 and rooms[0] >= CAPACITY // 2
    server.close()


def test_a_recorder_knows_what_is_behind_it(tmp_path):
    alone = Recorder()
    assert alone.connected and alone.room() == CAPACITY
    _, server = open_named(f"socket,id=a,path={tmp_path}/s,server=on,wait=off")
    before = Recorder(server)
    before.on_room = before.on_connected = print
    assert (server.on_room, server.on_connected) == (print, print)
    server.write(b"x" * 100)
    assert not before.connected and before.room() == CAPACITY - 100
    before.close()


def test_a_log_gets_what_the_guest_sends_and_keeps_what_was_there(tmp_path):
    log = tmp_path / "log"
    log.write_bytes(b"before ")
    for option, kept in (("logappend=on", b"before one"), ("logappend=off", b"one")):
        _, chardev = open_named(f"null,id=a,logfile={log},{option}")
        chardev.write(b"one")
        chardev.close()
        assert log.read_bytes() == kept


def test_a_log_that_cannot_be_written_is_told_and_nothing_stays_open(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(UserError, match="pty,id=a,logfile=/nonexistent/x: cannot write there"):
        open_named("pty,id=a,logfile=/nonexistent/x")
    assert len(os.listdir("/proc/self/fd")) == before


def test_files_may_be_descriptors_of_a_set(tmp_path):
    out, sets = tmp_path / "out", FdSets()
    out.write_bytes(b"before ")
    sets.add(os.open(out, os.O_WRONLY | os.O_APPEND), 3, "out")
    with opened_from(sets):
        _, chardev = open_named("file,id=a,path=/dev/fdset/3,append=on")
        with pytest.raises(UserError, match="/dev/fdset/4: the set has no descriptor"):
            open_named("file,id=a,path=/dev/fdset/4")
    sets.close()
    chardev.write(b"one")
    chardev.close()
    assert out.read_bytes() == b"before one"


def test_a_socket_that_listens_already(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{tmp_path}/s")
        with pytest.raises(UserError, match="is a socket that does not listen"):
            open_named(f"socket,id=a,fd={listener.fileno()},server=on")
        listener.listen(1)
        _, chardev = open_named(f"socket,id=a,fd={os.dup(listener.fileno())},server=on,wait=off")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(f"{tmp_path}/s")
        chardev.start(lambda call: call())
        chardev.write(b"hello")
        assert client.recv(16) == b"hello"
    chardev.close()
    with open(tmp_path / "file", "wb") as file, pytest.raises(UserError, match=f"fd={file.fileno()} is no socket"):
        open_named(f"socket,id=a,fd={file.fileno()},server=on")
