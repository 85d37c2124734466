"""The PCI host bridge of the ppce500 board as a guest uses it, on a board built by tests/devices/conftest.py."""

PCI = 0x8000
MEMORY, IO = 0xC_0000_0000, 0xF_E100_0000
"""Physical addresses of the windows onto the bus."""


class Guest:
    """Accesses as Linux makes them: configuration data and devices through byte-reversed loads."""

    def __init__(self, bench):
        self.bench = bench

    def select(self, slot, register, function=0, bus=0):
        self.bench.write(PCI, 0x8000_0000 | bus << 16 | slot << 11 | function << 8 | register & 0xFC)

    def config(self, slot, register, size=4, **where):
        self.select(slot, register, **where)
        raw = self.bench.read(PCI + 4 + register % 4, size)
        return int.from_bytes(raw.to_bytes(size, "little"), "big")

    def set_config(self, slot, register, value, size=4):
        self.select(slot, register)
        raw = int.from_bytes(value.to_bytes(size, "little"), "big")
        self.bench.write(PCI + 4 + register % 4, raw, size)

    def outbound(self, window, pci, pa, size_bits, io=False):
        base = PCI + 0xC00 + window * 0x20
        self.bench.write(base, pci >> 12)
        self.bench.write(base + 4, pci >> 44)
        self.bench.write(base + 8, pa >> 12)
        self.bench.write(base + 0x10, (0x8008_8000 if io else 0x8004_4000) | size_bits - 1)

    def inbound(self, register, pa, pci, size_bits):
        self.bench.write(PCI + register, pa >> 12)
        self.bench.write(PCI + register + 8, pci >> 12)
        self.bench.write(PCI + register + 0xC, pci >> 44)
        self.bench.write(PCI + register + 0x10, 0xA0F5_5000 | size_bits - 1)
