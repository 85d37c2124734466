"""Output of a guest meets readers that are slow, absent or gone."""

import threading
import time

from powervisor.console.chardev import Outlet


class Reader:
    """Takes `at_once` bytes a call while its gate is open."""

    def __init__(self, at_once: int = 7) -> None:
        self.got = bytearray()
        self.gate = threading.Event()
        self.at_once = at_once

    def send(self, data: bytes) -> int:
        if not self.gate.wait(0.005):
            return 0
        self.got += data[: self.at_once]
        return len(data[: self.at_once])


def test_a_reader_that_takes_little_at_a_time_gets_everything_in_order():
    reader = Reader(at_once=3)
    reader.gate.set()
    outlet = Outlet(reader.send)
    text = bytes(range(256)) * 4
    for byte in text:
        outlet.write(bytes((byte,)))
    outlet.close()
    assert reader.got == text
    assert outlet.dropped == 0


def test_a_reader_that_stands_still_delays_the_guest_once_and_what_it_misses_is_counted():
    reader = Reader(at_once=1000)
    outlet = Outlet(reader.send, capacity=100, patience=0.05)
    begin = time.monotonic()
    for _ in range(50):
        outlet.write(b"0123456789")
    took = time.monotonic() - begin
    assert 0.05 <= took < 0.5
    assert outlet.dropped == 400
    reader.gate.set()
    outlet.close()
    assert reader.got == b"0123456789" * 10


def test_after_a_stall_a_moving_reader_is_waited_for_again():
    reader = Reader(at_once=1000)
    outlet = Outlet(reader.send, capacity=100, patience=0.2)
    outlet.write(b"a" * 200)
    assert outlet.dropped == 100
    reader.gate.set()
    while not reader.got:
        time.sleep(0.001)
    for _ in range(100):
        outlet.write(b"b" * 50)
    outlet.close()
    assert reader.got == b"a" * 100 + b"b" * 5000


def test_output_without_a_reader_is_kept_for_the_first_and_for_the_next_one():
    outlet = Outlet(None, capacity=100)
    outlet.write(b"early ")
    first, second = Reader(100), Reader(100)
    first.gate.set()
    second.gate.set()
    outlet.attach(first.send)
    for _ in range(200):
        if first.got:
            break
        time.sleep(0.005)
    outlet.detach()
    outlet.write(b"late")
    outlet.attach(second.send)
    outlet.close()
    assert (first.got, second.got) == (b"early ", b"late")


def test_without_a_reader_the_guest_never_waits():
    outlet = Outlet(None, capacity=10, patience=60)
    begin = time.monotonic()
    outlet.write(b"x" * 1000)
    outlet.close()
    assert time.monotonic() - begin < 1
    assert outlet.dropped == 1000


def test_a_broken_reader_is_reported_once_and_the_guest_goes_on():
    seen: list[OSError] = []
    told = threading.Event()

    def send(data: bytes) -> int:
        raise BrokenPipeError

    def broken(error: OSError) -> None:
        seen.append(error)
        told.set()

    outlet = Outlet(send, on_broken=broken)
    outlet.write(b"x")
    assert told.wait(2)
    outlet.write(b"y")
    outlet.close()
    assert len(seen) == 1


def test_detach_waits_for_a_send_under_way_so_that_its_descriptor_can_be_closed():
    inside, leave = threading.Event(), threading.Event()

    def send(data: bytes) -> int:
        inside.set()
        leave.wait(2)
        return len(data)

    outlet = Outlet(send)
    outlet.write(b"x")
    assert inside.wait(2)
    threading.Timer(0.05, leave.set).start()
    begin = time.monotonic()
    outlet.detach()
    assert time.monotonic() - begin > 0.03
    outlet.close()
