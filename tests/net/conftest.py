"""Backends with a network device in front that takes what it is told to."""

from __future__ import annotations

import threading

import pytest

from powervisor.net.netdevs import open_netdevs


class Card:
    """Takes frames while there is room, as a network device does."""

    def __init__(self):
        self.frames: list[bytes] = []
        self.room = 1 << 30
        self.links: list[bool] = []
        self.sendables = 0
        self.netdev = None
        self._changed = threading.Condition()

    def receive(self, frames):
        with self._changed:
            taken = min(len(frames), self.room)
            self.room -= taken
            self.frames += [bytes(frame) for frame in frames[:taken]]
            self._changed.notify_all()
            return taken

    def sendable(self):
        with self._changed:
            self.sendables += 1
            self._changed.notify_all()

    def link_changed(self):
        with self._changed:
            self.links.append(self.netdev.link_up)
            self._changed.notify_all()

    def until(self, condition, seconds=10):
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self), seconds), (len(self.frames), self.links)

    def take(self, count):
        """Wait for that many frames; answers and forgets them."""
        self.until(lambda card: len(card.frames) >= count)
        taken, self.frames = self.frames, []
        return taken


@pytest.fixture
def warnings():
    """What the backends told the user."""
    return []


@pytest.fixture
def network(warnings):
    """Open a netdev with a card in front: `network("socket,id=n,listen=127.0.0.1:5000")`."""
    opened = []

    def network(text, *objects, pcap=None):
        found = open_netdevs([text], objects, pcap, warnings.append)
        opened.append(found)
        (name,) = found.by_name
        card = Card()
        card.netdev = found.claim(name, "card", "card", card)
        found.start()
        return card

    yield network
    for found in opened:
        found.close()
