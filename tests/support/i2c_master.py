"""A polling driver of the I2C controller, step by step as U-Boot and Linux go."""

CR, SR, DR = 0x3008, 0x300C, 0x3010
MEN, MIEN, MSTA, MTX, TXAK, RSTA = 0x80, 0x40, 0x20, 0x10, 0x08, 0x04
MCF, MBB, MIF, RXAK = 0x80, 0x20, 0x02, 0x01


class Master:
    """A polling driver."""

    def __init__(self, bench, target):
        self.target = target
        self.read8 = lambda offset: bench.read(offset, 1)
        self.write8 = lambda offset, value: bench.write(offset, value, 1)

    def wait(self):
        status = self.read8(SR)
        assert status & (MCF | MIF) == MCF | MIF
        self.write8(SR, 0)
        assert not self.read8(SR) & MIF
        return not status & RXAK

    def address(self, address, read, restart=False):
        self.write8(CR, MEN | MSTA | MTX | (RSTA if restart else 0))
        self.write8(DR, address << 1 | read)
        return self.wait()

    def send(self, data):
        for byte in data:
            self.write8(DR, byte)
            assert self.wait()

    def receive(self, n):
        self.write8(CR, MEN | MSTA | (TXAK if n == 1 else 0))
        self.read8(DR)
        out = []
        for i in range(n):
            self.wait()
            if i == n - 2:
                self.write8(CR, MEN | MSTA | TXAK)
            if i == n - 1:
                self.write8(CR, MEN | MSTA | MTX)
            out.append(self.read8(DR))
        return bytes(out)

    def stop(self):
        self.write8(CR, MEN)
        assert not self.read8(SR) & MBB

    def write_registers(self, register, data):
        assert self.address(self.target, False)
        self.send(bytes([register]) + data)
        self.stop()

    def read_registers(self, register, n):
        assert self.address(self.target, False)
        self.send(bytes([register]))
        assert self.address(self.target, True, restart=True)
        out = self.receive(n)
        self.stop()
        return out


class Rom(Master):
    """A driver of an EEPROM with one or two address bytes."""

    def __init__(self, bench, wide=False, target=0x50):
        super().__init__(bench, target)
        self.wide = wide

    def place(self, at):
        return at.to_bytes(2, "big") if self.wide else bytes([at])

    def write(self, at, data):
        assert self.address(self.target, False)
        self.send(self.place(at) + data)
        self.stop()

    def read(self, at, n):
        assert self.address(self.target, False)
        self.send(self.place(at))
        assert self.address(self.target, True, restart=True)
        out = self.receive(n)
        self.stop()
        return out
