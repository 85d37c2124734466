"""The 9P device as a driver uses it; tests/fsdev has the protocol."""

import struct

import pytest

from powervisor.fsdev.options import open_exports
from tests.support.ninep_client import Client, text
from tests.support.virtio_driver import NEEDS_RESET, PACKED


class ThroughRing(Client):
    """The client, with messages that go through a queue."""

    def __init__(self, ring):
        self.ring = ring
        super().__init__(None)

    def raw(self, message):
        cut = min(len(message), 11)
        data, written = self.ring.do(message[:cut], message[cut:], 11, 20_000)
        size, kind, tag = struct.unpack_from("<IBH", data)
        assert size == written and tag == 7
        return kind, data[7:size]


@pytest.fixture
def shared(plugged, services, tmp_path):
    services.exports = open_exports([f"local,id=f,path={tmp_path}"])
    yield lambda properties="", **how: plugged(f"virtio-9p-pci,fsdev=f,mount_tag=share,{properties}", **how)
    services.exports.close()


@pytest.mark.parametrize(("features", "legacy"), [(0, False), (PACKED, False), (0, True)])
def test_files_go_through_the_queue(shared, tmp_path, features, legacy):
    driver = shared("packed=on", legacy=legacy)
    tag = bytes(driver.configuration(at, 1) for at in range(7))
    assert tag == (b"\0\5share" if legacy else b"\5\0share")
    client = ThroughRing(driver.start(features))
    fid = client.create("file")
    assert client.write(fid, b"0123456789" * 100) == 1000
    assert client.read(fid, 5, 100) == b"5678901234" * 10
    assert client.list() == {".": 4, "..": 4, "file": 8}
    assert (tmp_path / "file").stat().st_size == 1000


def test_a_reset_forgets_what_was_open(shared, services):
    driver = shared()
    client = ThroughRing(driver.start())
    client.create("file")
    assert len(services.exports.by_name["f"].fids) == 2
    driver.status(0)
    assert not services.exports.by_name["f"].fids


@pytest.mark.parametrize("contents", [(b"short", 100), (bytes(7), 5), (100,)])
def test_what_is_no_message_stops_the_device(shared, warnings, contents):
    driver = shared()
    ring = driver.start()
    ring.add(*contents)
    driver.notify(0)
    assert driver.status() & NEEDS_RESET
    assert "a request without a header, or without room for the reply" in warnings[0]


def test_a_size_that_is_not_true_is_an_error(shared):
    client = ThroughRing(shared().start())
    for size in (0, 6, 100, 1 << 31):
        kind, _ = client.raw(struct.pack("<IBH", size, 110, 7) + text("x"))
        assert kind == 7
