"""A chardev for devices with ports."""


class Line:
    """A chardev whose other end the test holds."""

    def __init__(self, room=1 << 20, connected=True):
        self.on_receive = self.on_room = self.on_connected = None
        self.can_receive = lambda: 0
        self.free, self.connected, self.sent = room, connected, b""

    def start(self, dispatch):
        pass

    def room(self):
        return self.free

    def write(self, data):
        self.sent += data
        self.free -= len(data)

    def type(self, data):
        """As the thread of a chardev offers input; answers what is left."""
        taken = data[: self.can_receive()]
        self.on_receive(taken)
        return data[len(taken) :]
