"""Framing of gdb's packets."""

import random

import pytest

from powervisor.debug.gdb.packets import INTERRUPT, LONGEST, Framer, escaped, framed, unescaped


def test_packets_come_out_however_they_are_cut():
    rng = random.Random(1)
    packets = [bytes(rng.choices(b"abcdef0123456789:;,", k=rng.randrange(40))) for _ in range(200)]
    stream = b"+".join(framed(packet) for packet in packets)
    framer, found = Framer(), []
    while stream:
        cut = rng.randrange(1, 12)
        found += framer.take(stream[:cut])
        stream = stream[cut:]
    assert found == packets
    assert bytes(framer.replies) == b"+" * len(packets)


def test_a_packet_with_a_wrong_sum_is_asked_for_again():
    framer = Framer()
    assert list(framer.take(b"$g#00$g#67")) == [b"g"]
    assert bytes(framer.replies) == b"-+"


def test_without_acknowledgements_nothing_is_answered():
    framer = Framer()
    framer.acknowledge = False
    assert list(framer.take(framed(b"?") + b"-")) == [b"?"]
    assert not framer.replies


def test_an_interrupt_and_a_request_to_repeat_come_between_packets():
    assert list(Framer().take(framed(b"c") + INTERRUPT + b"-")) == [b"c", INTERRUPT, b"-"]


def test_what_never_ends_is_thrown_away():
    framer = Framer()
    for _ in range(100):
        assert list(framer.take(b"$" + b"x" * (LONGEST // 4))) == []
    assert list(framer.take(framed(b"g"))) in ([], [b"g"])  # after at most one such heap
    assert list(framer.take(framed(b"g")))[-1] == b"g"


@pytest.mark.parametrize("data", [b"", b"#$}*", bytes(range(256))])
def test_binary_data_survives(data):
    assert unescaped(escaped(data)) == data
    assert not set(escaped(data).replace(b"}", b"")) & set(b"#$*")
