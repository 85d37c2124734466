"""What RAM held at moments: kept, gone back to, shared by several RAMs; against a plain model."""

import os
import random

import pytest

from powervisor.memory import pagemap
from powervisor.memory.pagemap import _read, joined, own_pages
from powervisor.memory.ram import Ram

PAGE, SIZE = 4096, 1 << 20


class Twin:
    """A RAM and the bytes it should hold."""

    def __init__(self, ram, model=None):
        self.ram, self.model = ram, model or bytearray(SIZE)

    def disturb(self, rng):
        for _ in range(rng.randrange(12)):
            start = rng.randrange(SIZE)
            end = min(SIZE, start + rng.choice((1, 100, PAGE, 5 * PAGE, 1 << 18)))
            match rng.randrange(4):
                case 0:
                    self.ram.clear(start, end)
                    self.model[start:end] = bytes(end - start)
                case 1:
                    start, end = -(-start // PAGE) * PAGE, end // PAGE * PAGE
                    if start < end:
                        self.ram.discard(start, end)
                        self.model[start:end] = bytes(end - start)
                case _:
                    data = rng.randbytes(end - start)
                    self.ram[start:end] = data
                    self.model[start:end] = data

    def check(self):
        assert self.ram[0:SIZE] == self.model


@pytest.fixture(params=["mapped", "copied"])
def ways(request, monkeypatch):
    """With moments as private mappings, and where the host does not tell which pages changed."""
    if request.param == "copied":
        monkeypatch.setattr(pagemap, "available", lambda: False)
    elif not pagemap.available():
        pytest.skip("this host has no /proc/self/pagemap")


@pytest.mark.parametrize("seed", range(5))
def test_every_moment_can_be_had_again(ways, seed):
    rng = random.Random(seed)
    twins, moments = [Twin(Ram(SIZE))], []
    try:
        for _ in range(60):
            twin = rng.choice(twins)
            match rng.randrange(6):
                case 0 | 1:
                    moments.append((twin.ram.keep(), bytes(twin.model)))
                case 2 | 3 if moments:
                    moment, content = rng.choice(moments)
                    before = bytes(twin.model)
                    changed = twin.ram.restore(moment)
                    twin.model[:] = content
                    told = bytearray(SIZE // PAGE)
                    for offset, length in changed:
                        told[offset // PAGE : -(-(offset + length) // PAGE)] = b"\1" * (length // PAGE)
                    for page in range(SIZE // PAGE):
                        if before[page * PAGE :][:PAGE] != content[page * PAGE :][:PAGE]:
                            assert told[page], f"page {page} changed and was not told"
                case 4 if moments and len(twins) < 4:
                    moment, content = rng.choice(moments)
                    twins.append(Twin(Ram(SIZE), bytearray(content)))
                    twins[-1].ram.restore(moment)
                case 5 if moments:
                    del moments[rng.randrange(len(moments))]
            twin.disturb(rng)
            for one in twins:
                one.check()
        for moment, content in moments:
            pieces = bytearray(SIZE)
            for offset, data in moment.pieces(1 << 16):
                pieces[offset : offset + len(data)] = data
            assert pieces == content and moment.read(5, SIZE - 9) == content[5:-4]
    finally:
        for twin in twins:
            twin.ram.close()


def test_a_moment_outlives_its_ram():
    ram = Ram(SIZE)
    ram[PAGE : PAGE + 4] = b"kept"
    moment = ram.keep()
    ram.close()
    other = Ram(SIZE)
    other.restore(moment)
    assert other[PAGE : PAGE + 4] == b"kept"
    other.close()


def test_nothing_written_is_the_same_moment():
    ram = Ram(SIZE)
    first = ram.keep()
    assert ram.keep() is first
    ram[0:1] = b"x"
    assert ram.keep() is not first
    ram.close()


def test_another_size_is_refused():
    ram, other = Ram(SIZE), Ram(2 * SIZE)
    with pytest.raises(ValueError, match=str(SIZE)):
        other.restore(ram.keep())
    ram.close()
    other.close()


def test_no_descriptor_stays_open():
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        ram = Ram(SIZE)
        moments = [ram.keep()]
        ram[0:1] = b"x"
        moments.append(ram.keep())
        ram.restore(moments[0])
        ram.close()
        moments.clear()
    assert len(os.listdir("/proc/self/fd")) == before


def test_both_ways_of_asking_for_own_pages_agree():
    if not pagemap.available():
        pytest.skip("this host has no /proc/self/pagemap")
    ram, rng = Ram(SIZE), random.Random(1)
    moment = ram.keep()
    assert own_pages(ram.address, SIZE) == []
    for _ in range(50):
        ram[(at := rng.randrange(SIZE - 8)) : at + 8] = b"12345678"
        _ = ram[(at := rng.randrange(SIZE)) : at]
    entries = os.open("/proc/self/pagemap", os.O_RDONLY)
    assert own_pages(ram.address, SIZE) == _read(entries, ram.address, SIZE)
    os.close(entries)
    ram.restore(moment)
    ram.close()


def test_runs_that_touch_are_one():
    assert joined([(0, 4), (4, 4), (6, 1), (9, 1)]) == [(0, 8), (9, 1)]
