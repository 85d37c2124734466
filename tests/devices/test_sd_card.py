"""An SD memory card by itself: identification, registers, states, blocks, erasing, and what it refuses."""

import pytest

from powervisor.devices.sd import identity
from powervisor.devices.sd.card import ENDLESS, Mode, SdCard, Status

MIB = 1 << 20
GIB = 1 << 30
HOST_KNOWS_SDHC = 1 << 30
VOLTAGE = 1 << 20


class Storage:
    """Only what a card asks of its backend."""

    def __init__(self, size, read_only=False):
        self.size, self.read_only = size, read_only


def card(size=64 * MIB, read_only=False):
    return SdCard("card", Storage(size, read_only))


def number(answer):
    return int.from_bytes(answer, "big")


def identified(card):
    """As a host goes from power-on to data transfer; answers the card's address."""
    card.command(0, 0)
    assert number(card.command(8, 0x1AA)) == 0x1AA
    card.command(55, 0)
    assert number(card.command(41, HOST_KNOWS_SDHC | VOLTAGE)) >> 31
    assert len(card.command(2, 0)) == 16
    address = number(card.command(3, 0)) >> 16
    assert card.command(7, address << 16) is not None
    return address


def status(card):
    return number(card.command(13, card.address << 16))


def capacity(csd):
    """As the specification computes it from the register."""
    bits = number(csd)

    def field(high, low):
        return bits >> low & (1 << high - low + 1) - 1

    if field(127, 126):
        return (field(69, 48) + 1) << 19
    return (field(73, 62) + 1) << field(49, 47) + 2 << field(83, 80)


@pytest.mark.parametrize(
    "size", [2048, 1 * MIB, 8 * MIB, 64 * MIB, 96 * MIB, 1 * GIB, 2 * GIB, 2 * GIB + (512 << 10), 32 * GIB]
)
def test_the_size_a_card_states_is_its_size(size):
    assert identity.next_size(size) == size
    assert capacity(identity.csd(size, False, False)) == size


@pytest.mark.parametrize(
    ("size", "fitting"),
    [
        (512, 2048),
        (2049, 4096),
        (8 * MIB + 512, 8 * MIB + 4096),
        (1 * GIB + 1, GIB + 512 * 1024),
        (3 * GIB + 1, 3 * GIB + 512 * 1024),
    ],
)
def test_a_size_no_card_has_is_rounded_up(size, fitting):
    assert identity.next_size(size) == fitting
    assert capacity(identity.csd(fitting, False, False)) == fitting


def test_registers_end_in_their_checksum():
    assert identity.crc7(bytes.fromhex("4000000000")) == 0x4A  # CMD0's, as in the specification
    assert identity.crc7(bytes.fromhex("5100000000")) == 0x2A  # CMD17's
    for register in (identity.cid(), identity.csd(64 * MIB, True, True)):
        assert len(register) == 16
        assert register[15] == identity.crc7(register[:15]) << 1 | 1


def test_identification_leads_to_the_transfer_state():
    found = card()
    address = identified(found)
    assert address
    assert status(found) == Mode.TRANSFER << 9 | Status.READY_FOR_DATA


def test_a_big_card_stays_busy_for_a_host_that_does_not_know_such_cards():
    found = card(4 * GIB)
    found.command(0, 0)
    for _ in range(3):
        found.command(55, 0)
        assert not number(found.command(41, VOLTAGE)) >> 31
    found.command(55, 0)
    assert number(found.command(41, VOLTAGE | HOST_KNOWS_SDHC)) >> 30 == 3


def test_a_question_for_voltages_does_not_start_the_card():
    found = card()
    found.command(55, 0)
    assert number(found.command(41, 0)) == 0x00FF_8000
    assert found.mode == Mode.IDLE


def test_commands_for_another_address_are_not_answered():
    found = card()
    address = identified(found)
    assert found.command(13, address + 1 << 16) is None
    assert found.command(7, 0) is None  # deselects
    assert found.mode == Mode.STANDBY
    assert len(found.command(9, address << 16)) == 16


def test_illegal_commands_are_silent_and_told_with_the_next_answer():
    found = card()
    identified(found)
    assert found.command(2, 0) is None
    assert found.command(61, 0) is None
    assert status(found) & Status.ILLEGAL_COMMAND
    assert not status(found) & Status.ILLEGAL_COMMAND


def test_application_commands_need_their_prefix():
    found = card()
    address = identified(found)
    assert found.command(51, 0) is None
    assert number(found.command(55, address << 16)) & Status.APPLICATION
    assert number(found.command(51, 0)) & Status.APPLICATION
    assert (found.mode, len(found.reply)) == (Mode.SENDING, 8)
    found.moved(8)
    assert found.mode == Mode.TRANSFER


def test_high_speed_is_asked_for_and_chosen():
    found = card()
    identified(found)
    found.command(6, 0x00FF_FFF1)
    assert found.reply[13] & 2 and found.reply[16] & 15 == 1 and not found.fast
    found.moved(64)
    found.command(6, 0x80FF_FFF1)
    found.moved(64)
    assert found.fast
    found.command(6, 0x80FF_FF2F)  # a driver strength there is not, and the same speed
    assert found.reply[15] & 15 == 0 and found.reply[16] >> 4 == 15
    assert found.fast


def test_a_counted_read_ends_by_itself_and_an_open_one_by_a_stop():
    found = card()
    identified(found)
    found.command(23, 3)
    found.command(18, 512)
    assert (found.offset, found.left, found.block) == (512, 3 * 512, 512)
    assert found.reach(10_000) == 3 * 512
    found.moved(3 * 512)
    assert found.mode == Mode.TRANSFER
    found.command(18, 0)
    assert found.left == ENDLESS
    found.moved(5 * 512)
    assert found.mode == Mode.SENDING
    assert number(found.command(12, 0)) >> 9 & 15 == Mode.SENDING
    assert found.mode == Mode.TRANSFER
    assert found.command(12, 0) is None


def test_a_big_card_is_addressed_in_blocks():
    found = card(4 * GIB)
    identified(found)
    found.command(17, 3)
    assert found.offset == 3 * 512


def test_written_blocks_are_counted():
    found = card()
    address = identified(found)
    found.command(25, 0)
    found.moved(4 * 512)
    found.command(12, 0)
    found.command(55, address << 16)
    found.command(22, 0)
    assert found.reply == bytes([0, 0, 0, 4])


@pytest.mark.parametrize(
    ("index", "argument", "error"),
    [
        (17, 64 * MIB, Status.OUT_OF_RANGE),
        (25, 0xFFFF_FE00, Status.OUT_OF_RANGE),
        (17, 100, Status.ADDRESS_ERROR),
        (16, 1024, Status.BLOCK_LENGTH_ERROR),
        (16, 0, Status.BLOCK_LENGTH_ERROR),
        (33, 0, Status.ERASE_SEQUENCE_ERROR),
        (38, 0, Status.ERASE_SEQUENCE_ERROR),
    ],
)
def test_what_cannot_be_done_is_in_the_status(index, argument, error):
    found = card()
    identified(found)
    assert number(found.command(index, argument)) & error
    assert found.mode == Mode.TRANSFER
    assert not status(found) & error


def test_reads_end_at_the_end_of_the_storage():
    found = card()
    identified(found)
    found.command(18, 64 * MIB - 1024)
    assert found.reach(4096) == 1024
    found.moved(1024)
    assert found.reach(4096) == 0
    assert number(found.command(12, 0)) & Status.OUT_OF_RANGE


def test_a_read_only_drive_is_a_write_protected_card():
    found = card(read_only=True)
    identified(found)
    assert number(found.command(24, 0)) & Status.WRITE_PROTECTED
    assert found.mode == Mode.TRANSFER
    found.command(32, 0)
    found.command(33, 0)
    assert number(found.command(38, 0)) & Status.WRITE_PROTECTED


def test_erasing_takes_its_time():
    found = card()
    identified(found)
    found.command(32, 1024)
    found.command(33, 4096)
    found.command(38, 0)
    assert (found.offset, found.erasing) == (1024, 4096 + 512 - 1024)
    assert status(found) == Mode.PROGRAMMING << 9
    assert found.command(17, 0) is None
    found.erased(found.erasing)
    assert status(found) & ~Status.ILLEGAL_COMMAND == Mode.TRANSFER << 9 | Status.READY_FOR_DATA


def test_another_command_forgets_what_was_to_be_erased():
    found = card()
    identified(found)
    found.command(32, 0)
    found.command(33, 512)
    found.command(16, 512)
    assert number(found.command(38, 0)) & Status.ERASE_SEQUENCE_ERROR


def test_an_inactive_card_hears_nothing():
    found = card()
    address = identified(found)
    found.command(15, address << 16)
    assert found.command(0, 0) is None
    assert found.mode == Mode.INACTIVE


def test_random_commands_leave_a_card_that_can_be_identified():
    import random

    rng = random.Random(3)
    found = card()
    for _ in range(20_000):
        address = found.address << 16 if rng.random() < 0.5 else 0
        index = rng.choice((rng.randrange(64), 17, 18, 24, 25, 55, 41, 3, 7, 12, 32, 33, 38))
        if index == 15:
            continue
        found.command(index, address | rng.choice((0, 512, rng.getrandbits(16), rng.getrandbits(32))))
        if rng.random() < 0.3:
            found.moved(found.reach(rng.choice((512, 8, 4096))))
        if found.erasing and rng.random() < 0.5:
            found.erased(min(found.erasing, 512))
        assert found.erasing >= 0 and found.left >= ENDLESS
        assert 0 <= found.offset <= found.backend.size
    identified(found)
