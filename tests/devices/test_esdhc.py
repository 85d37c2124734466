"""The eSDHC as its drivers use it: commands, data by ADMA, simple DMA and by hand, errors, resets, nonsense."""

import errno
import os
import random
import resource
import struct
import threading

import pytest

from powervisor.block.drives import open_drives
from powervisor.devices.models import plug
from powervisor.errors import UserError
from tests.support.esdhc_driver import (
    ADMAE,
    ADMAES,
    ADSADDR,
    AUTO12,
    AUTOC12ERR,
    BASE,
    BLKATTR,
    BREN,
    BRR,
    BUFFER,
    BUSY,
    BWEN,
    BWR,
    CC,
    CINS,
    CMDRSP,
    COUNTED,
    CTOE,
    DAT0,
    DATPORT,
    DCE,
    DINT,
    DMA,
    DMAE,
    DSADDR,
    DTOE,
    FEVT,
    HOSTVER,
    IRQSIGEN,
    IRQSTAT,
    IRQSTATEN,
    LONG,
    MULTIPLE,
    NONE,
    PROCTL,
    PRSSTAT,
    READ,
    SYSCTL,
    TABLE,
    TC,
    WPSPL,
    Driver,
)

SIZE = 8 << 20


def pattern(n):
    return random.Random(n).randbytes(512)


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "card.img"
    path.write_bytes(b"".join(pattern(n) for n in range(64)) + bytes(SIZE - 64 * 512))
    return path


@pytest.fixture
def inserted(bench, services, image):
    """Insert a card, with further words for its drive, and drive it."""

    def inserted(words=""):
        services.drives = open_drives([f"file={image},if=sd,format=raw{words}"])
        plug(services.drives.devices, bench.buses(), services)
        return Driver(bench)

    return inserted


def test_the_slot_tells_what_is_in_it(bench, inserted):
    assert not bench.read(BASE + PRSSTAT) & CINS
    driver = inserted()
    assert driver.read(PRSSTAT) & (CINS | WPSPL | DAT0) == CINS | WPSPL | DAT0
    assert driver.read(HOSTVER) == 0x1301


def test_a_read_only_drive_is_write_protected(inserted):
    driver = inserted(",readonly=on")
    assert not driver.read(PRSSTAT) & WPSPL
    driver.table((BUFFER, 512))
    assert driver.blocks(24, 0, 1, DMA) & DTOE
    assert driver.read(CMDRSP) >> 26 & 1


def test_an_empty_slot_answers_nothing(bench):
    driver = Driver(bench, identify=False)
    assert driver.send(0, 0, NONE) == CC
    assert driver.send(8, 0x1AA) == CTOE


def test_registers_come_without_their_checksum(inserted):
    driver = inserted()
    driver.command(7, 0, NONE)
    driver.command(9, driver.address, LONG)
    csd = b"".join(driver.read(CMDRSP + 4 * n).to_bytes(4, "big") for n in (3, 2, 1, 0))
    assert csd[0] == 0 and csd[1:] == driver.device.card.command(9, driver.address)[:15]


@pytest.mark.parametrize("count", [1, 5, 64])
def test_adma_reads_into_scattered_memory(inserted, count):
    driver = inserted()
    half = count * 256
    driver.table((BUFFER + 0x1_0004, half), (BUFFER, count * 512 - half))
    irq = driver.blocks(18, 0, count, DMA | READ | MULTIPLE | COUNTED | AUTO12)
    assert irq == CC | TC | DINT
    data = driver.memory(BUFFER + 0x1_0004, half) + driver.memory(BUFFER, count * 512 - half)
    assert data == b"".join(pattern(n) for n in range(count))
    assert driver.read(BLKATTR) == 512
    assert driver.read(CMDRSP + 12) >> 9 & 15 == 5  # the answer to the automatic CMD12


def test_adma_links_nops_and_a_length_of_nothing(inserted):
    driver = inserted()
    driver.table((BUFFER, 512))
    driver.descriptor(TABLE, 0x01, 0, 0)
    driver.descriptor(TABLE + 8, 0x31, 0, TABLE + 0x800)
    driver.descriptor(TABLE + 0x800, 0x23, 0, BUFFER)  # 64 KiB
    assert driver.blocks(18, 0, 128, DMA | READ | MULTIPLE | COUNTED | AUTO12) == CC | TC | DINT
    assert driver.memory(BUFFER, 512) == pattern(0)
    assert driver.memory(BUFFER + 63 * 512, 512) == pattern(63)


@pytest.mark.parametrize("count", [1, 7])
def test_adma_writes_what_simple_dma_reads(inserted, image, count):
    driver = inserted()
    data = random.Random(1).randbytes(count * 512)
    driver.bench.space.write_bytes(BUFFER, data)
    driver.table((BUFFER, 100), (BUFFER + 100, count * 512 - 100))
    assert driver.blocks(25, 4096, count, DMA | MULTIPLE | COUNTED | AUTO12) == CC | TC | DINT
    assert image.read_bytes()[4096 : 4096 + len(data)] == data
    driver.write(PROCTL, 0x20)
    driver.write(DSADDR, BUFFER + 0x8000)
    assert driver.blocks(18, 4096, count, DMA | READ | MULTIPLE | COUNTED | AUTO12) == CC | TC | DINT
    assert driver.memory(BUFFER + 0x8000, len(data)) == data
    assert driver.read(DSADDR) == BUFFER + 0x8000 + len(data)


def test_a_count_told_to_the_card_needs_no_stop(inserted):
    driver = inserted()
    driver.table((BUFFER, 1024))
    driver.command(23, 2)
    assert driver.blocks(18, 0, 2, DMA | READ | MULTIPLE | COUNTED) == CC | TC | DINT
    assert driver.command(13, driver.address) >> 9 & 15 == 4


def test_registers_of_the_card_are_read_as_data(inserted):
    driver = inserted()
    driver.command(55, driver.address)
    driver.table((BUFFER, 8))
    assert driver.blocks(51, 0, 1, DMA | READ, size=8) == CC | TC | DINT
    assert driver.memory(BUFFER, 8) == driver.device.card.reply


@pytest.mark.parametrize(("mode", "order"), [(0x20, "<4s"), (0x00, ">4s"), (0x10, "half")])
def test_the_data_port_reads_blocks_in_either_byte_order(inserted, mode, order):
    driver = inserted()
    driver.write(PROCTL, mode)
    assert driver.blocks(18, 0, 40, READ | MULTIPLE | COUNTED | AUTO12) == CC | BRR
    data = b""
    for n in range(40):
        assert driver.read(PRSSTAT) & BREN and not driver.read(IRQSTAT) & TC
        assert driver.read(IRQSTAT) & BRR
        driver.write(IRQSTAT, BRR)
        for _ in range(128):
            word = driver.read(DATPORT).to_bytes(4, "big")
            data += {"<4s": word[::-1], ">4s": word, "half": word[1::-1] + word[:1:-1]}[order]
        assert bool(driver.read(PRSSTAT) & BREN) == (n < 39)
    assert driver.read(IRQSTAT) & (TC | DINT) == TC
    assert data == b"".join(pattern(n) for n in range(40))


def test_the_data_port_writes_blocks(inserted, image):
    driver = inserted()
    data = random.Random(2).randbytes(40 * 512)
    assert driver.blocks(25, 0, 40, MULTIPLE | COUNTED | AUTO12) == CC | BWR
    for n in range(0, len(data), 4):
        assert driver.read(PRSSTAT) & BWEN
        driver.write(DATPORT, int.from_bytes(data[n : n + 4], "little"))
    assert driver.read(IRQSTAT) & TC and not driver.read(PRSSTAT) & BWEN
    assert image.read_bytes()[: len(data)] == data
    driver.write(DATPORT, 0xFFFF_FFFF)  # nobody takes it
    assert driver.read(DATPORT) == 0


def test_erasing_leaves_zeros(inserted, image):
    driver = inserted()
    driver.command(32, 512)
    driver.command(33, 1024)
    assert driver.send(38, 0, BUSY) == CC | TC
    content = image.read_bytes()
    assert content[:512] == pattern(0) and content[512:1536] == bytes(1024) and content[1536:2048] == pattern(3)


def test_a_command_with_busy_ends_with_a_second_interrupt(inserted):
    driver = inserted()
    line = driver.bench.irqchip.line(72)
    assert driver.send(7, driver.address, BUSY) == CTOE  # selected already
    driver.command(7, 0, NONE)
    driver.write(IRQSIGEN, TC)
    assert not line.level
    assert driver.send(7, driver.address, BUSY) == CC | TC
    assert line.level
    driver.write(IRQSTAT, TC)
    assert not line.level


def test_interrupts_that_are_not_enabled_are_not_latched(inserted):
    driver = inserted()
    driver.write(IRQSTATEN, TC)
    assert driver.send(13, driver.address) == 0


def test_events_can_be_forced(inserted):
    driver = inserted()
    driver.write(IRQSTAT, 0xFFFF_FFFF)
    driver.write(FEVT, DCE | 2)
    assert (driver.read(IRQSTAT), driver.read(AUTOC12ERR), driver.read(FEVT)) == (DCE, 2, 0)


@pytest.mark.parametrize(
    ("table", "state"),
    [
        ([(0xFFFF_0000, 512)], 3),  # no RAM there
        ([(BUFFER, 256)], 4 | 3),  # too little
        ([], 1),  # no descriptor
    ],
)
def test_adma_tables_that_cannot_be_followed_end_in_an_error(inserted, table, state):
    driver = inserted()
    driver.bench.space.write_bytes(TABLE, bytes(64))
    driver.table(*table)
    irq = driver.blocks(17, 0, 1, DMA | READ)
    assert irq == CC | ADMAE
    assert driver.read(ADMAES) == state
    driver.table((BUFFER, 512))
    assert driver.blocks(17, 0, 1, DMA | READ) == CC | TC | DINT


def test_a_table_that_leads_round_and_round_ends_in_an_error(inserted):
    driver = inserted()
    driver.table((BUFFER, 512))
    driver.descriptor(TABLE, 0x31, 0, TABLE)
    assert driver.blocks(17, 0, 1, DMA | READ) == CC | ADMAE
    driver.write(ADSADDR, 0xFFFF_FFF0)
    assert driver.blocks(17, 0, 1, DMA | READ) == CC | ADMAE
    driver.write(PROCTL, 0x120)  # ADMA1 there is not
    assert driver.blocks(17, 0, 1, DMA | READ) == CC | ADMAE


def test_simple_dma_to_nowhere_is_an_error(inserted):
    driver = inserted()
    driver.write(PROCTL, 0x20)
    driver.write(DSADDR, 0xFFFF_FE00)
    assert driver.blocks(17, 0, 1, DMA | READ) == CC | DMAE
    driver.write(DSADDR, (64 << 20) - 256)  # half of it behind the end of RAM
    assert driver.blocks(17, 0, 1, DMA | READ) == CC | DMAE


def test_as_many_blocks_as_can_be_told_end_at_the_end_of_the_card(inserted):
    driver = inserted()
    driver.write(PROCTL, 0x20)
    driver.write(DSADDR, BUFFER)
    assert driver.blocks(18, 0, 0xFFFF, DMA | READ | MULTIPLE | COUNTED) & (TC | DTOE) == DTOE
    assert driver.memory(BUFFER, 512) == pattern(0)
    assert driver.command(12, 0, BUSY) >> 31


def test_without_a_count_simple_dma_goes_on_to_the_end_of_the_card(inserted):
    driver = inserted()
    driver.write(PROCTL, 0x20)
    driver.write(DSADDR, BUFFER)
    assert driver.blocks(18, 0, 3, DMA | READ | MULTIPLE) & (TC | DTOE) == DTOE
    assert driver.memory(BUFFER + 63 * 512, 512) == pattern(63)


def test_no_blocks_are_done_at_once(inserted):
    driver = inserted()
    driver.table((BUFFER, 512))
    assert driver.blocks(18, 0, 0, DMA | READ | MULTIPLE | COUNTED) == CC | TC | DINT


@pytest.mark.parametrize("size", [0, 1, 511, 4096])
def test_blocks_of_a_size_that_is_not_the_cards_are_errors(inserted, size):
    driver = inserted()
    driver.table((BUFFER, 4096))
    assert driver.blocks(17, 0, 1, DMA | READ, size=size) == CC | DCE
    assert driver.blocks(17, 0, 1, DMA | READ) & TC


def test_data_that_the_card_does_not_send_times_out(inserted):
    driver = inserted()
    driver.table((BUFFER, 512))
    assert driver.blocks(13, driver.address, 1, DMA | READ) == CC | DTOE
    assert driver.blocks(24, 0, 1, DMA | READ) == CC | DTOE  # wrong direction
    driver.command(12, 0)
    assert driver.blocks(17, SIZE, 1, DMA | READ) == CC | DTOE  # there is no such block


@pytest.mark.parametrize(("index", "flags", "seen"), [(17, READ, DTOE), (24, 0, DCE)])
def test_errors_of_the_host_reach_the_guest_and_once_the_user(inserted, services, warnings, index, flags, seen):
    driver = inserted()
    backend = services.drives.by_name["sd0"].backend

    def fails(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    good = backend.readv, backend.writev
    backend.readv = backend.writev = fails
    for _ in range(3):
        driver.table((BUFFER, 512))
        assert driver.blocks(index, 0, 1, DMA | flags) == CC | seen
        assert driver.command(13, driver.address) & (1 << 21 | 1 << 19)
    assert len(warnings) == 1
    deed = "read" if flags else "write"
    assert f"{deed} failed (No space left on device), and the guest got an I/O error" in warnings[0]
    assert warnings[0].startswith("sd-card@0: drives file=")
    backend.readv, backend.writev = good
    driver.table((BUFFER, 512))
    assert driver.blocks(index, 0, 1, DMA | flags) == CC | TC | DINT


def test_an_image_that_may_not_grow_is_an_error_and_one_that_is_gone_is_not(inserted, services, warnings, image):
    """Refusals of the kernel itself: writes behind the process's limit for files."""
    driver = inserted()
    image.unlink()
    driver.table((BUFFER, 512))
    assert driver.blocks(17, 0, 1, DMA | READ) == CC | TC | DINT
    assert driver.memory(BUFFER, 512) == pattern(0)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SIZE // 2, hard))
    try:
        driver.table((BUFFER, 512))
        assert driver.blocks(24, SIZE // 2 + 512, 1, DMA) == CC | DCE
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(warnings) == 1 and "write failed (File too large), and the guest got an I/O error" in warnings[0]


def test_writes_are_stable_when_they_are_done(inserted, services):
    driver = inserted()
    flushed = []
    services.drives.by_name["sd0"].backend.flush = lambda: flushed.append(1)
    driver.table((BUFFER, 1024))
    driver.blocks(25, 0, 2, DMA | MULTIPLE | COUNTED | AUTO12)
    assert flushed == [1]


def test_a_snapshot_leaves_the_image_alone(inserted, image):
    before = image.read_bytes()
    driver = inserted(",snapshot=on")
    driver.bench.space.write_bytes(BUFFER, b"x" * 512)
    driver.table((BUFFER, 512))
    assert driver.blocks(24, 0, 1, DMA) & TC
    driver.table((BUFFER + 512, 512))
    assert driver.blocks(17, 0, 1, DMA | READ) & TC
    assert driver.memory(BUFFER + 512, 512) == b"x" * 512
    assert image.read_bytes() == before


class Held:
    """A bell whose work is done when the test says so."""

    def __init__(self, name, work):
        self.work = work

    def ring(self):
        pass

    def close(self):
        pass


@pytest.mark.parametrize("how", ["reset-all", "reset-data", "stop"])
def test_a_transfer_can_be_given_up(inserted, services, how):
    services.hire = Held
    driver = inserted()
    driver.table((BUFFER, 4096))
    assert driver.blocks(18, 0, 8, DMA | READ | MULTIPLE | COUNTED | AUTO12) == CC
    assert driver.read(PRSSTAT) & 0x206 == 0x206
    assert driver.blocks(17, 0, 1, DMA | READ) == CTOE  # one at a time
    if how == "stop":
        assert driver.send(12, 0, BUSY) == CC | TC
    else:
        driver.write(SYSCTL, 1 << 24 if how == "reset-all" else 1 << 26)
    assert not driver.read(PRSSTAT) & 0x206
    driver.device._bell.work()
    assert not driver.read(IRQSTAT) & (TC | DINT | DTOE) or how == "stop"
    assert driver.memory(BUFFER, 512) == bytes(512)


def test_a_reset_waits_for_the_hosts_io_and_forgets_it(bench, inserted, services):
    services.hire = None
    driver = inserted()
    backend = services.drives.by_name["sd0"].backend
    begun, go = threading.Event(), threading.Event()
    readv = backend.readv

    def slow(views, offset):
        begun.set()
        assert go.wait(10)
        readv(views, offset)

    backend.readv = slow
    driver.table((BUFFER, 512))
    assert driver.blocks(17, 0, 1, DMA | READ) == CC
    assert begun.wait(10)
    threading.Timer(0.1, go.set).start()
    with services.lock:
        driver.device.reset()
        assert go.is_set()
        driver.bench.space.write_bytes(BUFFER, bytes(512))
    driver.device.close()
    assert driver.memory(BUFFER, 512) == bytes(512)
    assert driver.read(IRQSTAT) == 0


def test_a_transfer_under_way_is_saved_and_goes_on(bench, inserted, services):
    services.hire = Held
    driver = inserted()
    driver.blocks(18, 0, 2, READ | MULTIPLE | COUNTED | AUTO12)
    driver.device._bell.work()
    first = [driver.read(DATPORT) for _ in range(100)]
    saved = driver.device.save(), driver.device.card.save()
    rest = [driver.read(DATPORT) for _ in range(156)]
    driver.device.reset()
    driver.device.card.reset()
    driver.device.restore(saved[0])
    driver.device.card.restore(saved[1])
    assert [driver.read(DATPORT) for _ in range(156)] == rest
    assert struct.pack("<256I", *first, *rest) == pattern(0) + pattern(1)
    assert driver.read(IRQSTAT) & TC


@pytest.mark.parametrize(
    ("devices", "message"),
    [
        (["sd-card,drive=d", "sd-card,drive=e"], "devices sd-card: the slot has sd-card@0 already"),
        (["sd-card,drive=f"], "drive=f: no such drive"),
        (["sd-card"], "drive= is missing"),
        (["sd-card,drive=odd"], "no SD card has 8389120 bytes; make it 8392704"),
        (["sd-card,drive=d,bus=pci.0"], "no bus 'pci.0'; there is sd-bus"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(bench, services, image, tmp_path, devices, message):
    (tmp_path / "e").write_bytes(bytes(SIZE))
    (tmp_path / "odd").write_bytes(bytes(SIZE + 512))
    files = {"d": image, "e": tmp_path / "e", "odd": tmp_path / "odd"}
    services.drives = open_drives([f"file={file},if=none,id={name}" for name, file in files.items()])
    with pytest.raises(UserError, match=message) as error:
        plug(devices, bench.buses(), services)
    assert "\n" not in str(error.value)
