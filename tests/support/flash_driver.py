"""A driver of NOR flash with Intel's command set, at the beginning of the platform bus."""

BASE = 0xF_0000_0000
ARRAY, IDENTIFIER, QUERY, STATUS, CLEAR, CONFIRM = 0xFF, 0x90, 0x98, 0x70, 0x50, 0xD0
READY, ERASE_FAILED, PROGRAM_FAILED, LOCKED = 0x80, 0x20, 0x10, 0x02


class Driver:
    """A driver that writes words as wide as the bus, in each of which every chip gets the same command."""

    def __init__(self, bench, card):
        self.space, self.card, self.width = bench.space, card, card.width
        self.chips = card.width // 2

    def read(self, offset, size=None):
        return self.space.read(BASE + offset, size or self.width)

    def write(self, offset, value):
        self.space.write(BASE + offset, self.width, value)

    def every(self, value):
        """The word in which every chip has `value`."""
        return value if self.chips == 1 else value << 16 | value

    def command(self, offset, *commands):
        for command in commands:
            self.write(offset, self.every(command))

    def status(self, offset=0):
        value = self.read(offset)
        assert value == self.every(value & 0xFFFF)
        return value & 0xFFFF

    def query(self, n):
        return self.read(n * self.width) & 0xFF

    def program(self, offset, data):
        self.command(offset, 0xE8)
        assert self.status(offset) == READY
        words = [data[n : n + self.width] for n in range(0, len(data), self.width)]
        self.command(offset, len(words) - 1)
        for n, word in enumerate(words):
            self.write(offset + n * self.width, int.from_bytes(word, "big"))
        self.command(offset, CONFIRM)
        return self.status(offset)

    def erase(self, offset):
        self.command(offset, 0x20, CONFIRM)
        return self.status(offset)

    def array(self, offset, length):
        self.command(0, ARRAY)
        return self.space.read_bytes(BASE + offset, length)
