"""The kinds of -serial: what they carry, and what a mistake says."""

import os
import socket
import threading
import time

import pytest

from powervisor.console import open_chardev
from powervisor.errors import UserError


class Uart:
    """Stands for the device: collects input, takes `fifo` bytes at a time."""

    def __init__(self, chardev, fifo: int = 1000) -> None:
        self.got = b""
        self.came = threading.Condition()
        self.fifo = fifo
        self.lock = threading.RLock()
        chardev.on_receive = self.receive
        chardev.can_receive = lambda: self.fifo
        chardev.start(self.dispatch)

    def dispatch(self, function) -> None:
        with self.lock:
            function()

    def receive(self, data: bytes) -> None:
        assert len(data) <= self.fifo
        with self.came:
            self.got += data
            self.came.notify_all()

    def wait(self, data: bytes) -> None:
        with self.came:
            assert self.came.wait_for(lambda: self.got == data, 3), self.got


def read_until(read, data: bytes) -> None:
    got = b""
    while got != data and len(got) < len(data):
        got += read(4096)
    assert got == data


def test_file_holds_the_output_at_once_and_is_emptied_first(tmp_path):
    path = tmp_path / "log"
    path.write_text("old")
    chardev = open_chardev(f"file:{path}")
    chardev.write(b"new")
    assert path.read_bytes() == b"new"
    chardev.close()
    chardev.close()


def test_a_full_disk_is_counted_not_fatal():
    chardev = open_chardev("file:/dev/full")
    chardev.write(b"x" * 10)
    assert chardev.dropped == 10
    chardev.close()


def test_null_takes_everything():
    chardev = open_chardev("null")
    Uart(chardev)
    chardev.write(b"x")
    chardev.close()


def test_pty_carries_both_ways_with_output_from_before_it_was_opened():
    chardev = open_chardev("pty")
    uart = Uart(chardev, fifo=2)
    chardev.write(b"early\n")
    fd = os.open(chardev.announcement, os.O_RDWR | os.O_NOCTTY)
    read_until(lambda n: os.read(fd, n), b"early\n")
    os.write(fd, b"ls -l\r")
    uart.wait(b"ls -l\r")
    os.close(fd)
    chardev.close()
    chardev.close()


def test_unix_socket_serves_one_client_after_the_other(tmp_path):
    path = str(tmp_path / "s")
    chardev = open_chardev(f"unix:{path},server=on,wait=off")
    assert os.stat(path).st_mode & 0o777 == 0o600
    uart = Uart(chardev)
    chardev.write(b"boot")
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(3)
        client.connect(path)
        read_until(client.recv, b"boot")
        client.sendall(b"one")
        uart.wait(b"one")
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(3)
        client.connect(path)
        client.sendall(b"two")
        uart.wait(b"onetwo")
        chardev.write(b"more")
        read_until(client.recv, b"more")
        chardev.close()
    assert not os.path.exists(path)


def test_close_delivers_the_last_output(tmp_path):
    path = str(tmp_path / "s")
    chardev = open_chardev(f"unix:{path},server,nowait")
    Uart(chardev)
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(3)
        client.connect(path)
        text = os.urandom(1 << 19)
        got = bytearray()
        reader = threading.Thread(target=lambda: [got.extend(part) for part in iter(lambda: client.recv(65536), b"")])
        reader.start()
        client.send(b"?")
        time.sleep(0.05)
        chardev.write(text)
        chardev.close()
        reader.join(5)
    assert got == text


@pytest.mark.parametrize("started_first", [False, True])
def test_tcp_on_a_free_port_announces_it_and_waits_for_its_client_when_told_so(started_first):
    chardev = open_chardev("tcp:127.0.0.1:0,server=on")
    port = int(chardev.announcement.rpartition(":")[2])
    begin = time.monotonic()
    clients = []
    threading.Timer(0.1, lambda: clients.append(socket.create_connection(("127.0.0.1", port), 3))).start()
    if started_first:  # a machine may begin to listen before it is asked to wait
        uart = Uart(chardev)
    chardev.ready()
    assert time.monotonic() - begin > 0.05
    if not started_first:
        uart = Uart(chardev)
    chardev.write(b"hello")
    while not clients:
        time.sleep(0.01)
    read_until(clients[0].recv, b"hello")
    clients[0].sendall(b"x")
    uart.wait(b"x")
    clients[0].close()
    chardev.close()


def test_a_pasted_text_arrives_whole_through_a_small_fifo(tmp_path):
    path = str(tmp_path / "s")
    chardev = open_chardev(f"unix:{path},server,nowait")
    uart = Uart(chardev, fifo=16)
    text = bytes(range(256)) * 8
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.sendall(text)
        uart.wait(text)
    chardev.close()


def test_input_waits_while_the_guest_takes_nothing(tmp_path):
    path = str(tmp_path / "s")
    chardev = open_chardev(f"unix:{path},server,nowait")
    uart = Uart(chardev, fifo=0)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.sendall(b"patience")
        time.sleep(0.05)
        assert uart.got == b""
        uart.fifo = 100
        uart.wait(b"patience")
    chardev.close()


def test_a_stale_socket_is_replaced_and_one_in_use_is_refused(tmp_path):
    path = str(tmp_path / "s")
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(path)
    stale.close()
    chardev = open_chardev(f"unix:{path},server=on")
    with pytest.raises(UserError, match=r"-serial unix:.*another program listens there; choose another path"):
        open_chardev(f"unix:{path},server=on")
    chardev.close()


def test_a_port_in_use_is_refused_with_a_remedy():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        in_use = rf"-serial tcp:127.0.0.1:{port}: cannot listen there \(Address already in use\); choose another port"
        with pytest.raises(UserError, match=in_use):
            open_chardev(f"tcp:127.0.0.1:{port},server=on")


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("stdoi", "did you mean stdio"),
        ("", "no such kind"),
        ("file:", "write file:FILE"),
        ("file:/nonexistent/log", "cannot write there .*directory of yours"),
        ("null:x", "takes nothing more"),
        ("unix:/tmp/x", "add ,server=on"),
        ("unix:/tmp/x,server=maybe", "'server=maybe' is not understood"),
        ("unix:/tmp/x,serv", "'serv' is not understood"),
        ("unix:" + "/tmp/" + "x" * 200 + ",server=on", "choose a short path"),
        ("unix:/nonexistent/x,server=on", "cannot listen there"),
        ("tcp:localhost,server=on", "no port number"),
        ("tcp:localhost:99999,server=on", "ports go from 1 to 65535"),
        ("tcp:host.invalid:4444,server=on", "cannot listen there .*name an address of this machine"),
        ("tcp:192.0.2.1:4444,server=on", "name an address of this machine"),
    ],
)
def test_a_bad_spec_names_the_option_and_the_remedy(spec, says):
    with pytest.raises(UserError, match=says) as error:
        open_chardev(spec, option="-serial")
    assert str(error.value).startswith("-serial ")
    assert "\n" not in str(error.value)


def test_a_file_in_the_place_of_a_socket_is_left_alone(tmp_path):
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(UserError, match="not a socket"):
        open_chardev(f"unix:{path},server=on")
    assert path.read_text() == "data"
