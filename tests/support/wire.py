"""A netdev that is no host's: what a device sends is kept, and frames come in when a test says so."""

from __future__ import annotations

from powervisor.net.netdev import Netdev


class Wire(Netdev):
    kind = "wire"
    descriptor = _transmit = _receive = None  # it is never started, and has no host

    def __init__(self, name, headers=False, mtu=1500):
        super().__init__(name, f"netdevs wire,id={name}", lambda text: None)
        self.headers, self.mtu = headers, mtu
        self.sent: list[bytes] = []
        self.batches: list[int] = []
        self.full = False
        self.resumed = 0
        self.offloads: list[tuple[bool, ...]] = []

    @property
    def busy(self):
        return self.full

    def send(self, frames):
        self.sent += [b"".join(frame) for frame in frames]
        self.batches.append(len(frames))

    def take(self):
        sent, self.sent = self.sent, []
        return sent

    def resume(self):
        self.resumed += 1

    def offload(self, *what):
        self.offloads.append(what)

    def deliver(self, *frames):
        """Frames arrive; answers how many were taken."""
        return self.nic.receive([memoryview(frame) for frame in frames])

    def pull(self, up):
        self.link_up = up
        self.nic.link_changed()

    def _close(self):
        pass
