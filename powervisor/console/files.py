"""Serial lines to nowhere, to a file and to a pseudo-terminal."""

import os
import tty

from powervisor.console.chardev import BaseChardev, Dispatch, Outlet, sender
from powervisor.errors import UserError


class Null(BaseChardev):
    """Swallows output and never types."""

    def start(self, dispatch: Dispatch) -> None:
        """Nothing will come."""

    def write(self, data: bytes) -> None:
        """Forget `data`."""


class File(BaseChardev):
    """Output into a file, written at once; the file is emptied first, as QEMU does."""

    def __init__(self, path: str, option: str) -> None:
        super().__init__()
        self._dropped = 0
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        except OSError as error:
            raise UserError(
                f"{option} file:{path}: cannot write there ({error.strerror}); name a file in a directory of yours"
            ) from None

    @property
    def dropped(self) -> int:
        return self._dropped

    def start(self, dispatch: Dispatch) -> None:
        """A file has no input."""

    def write(self, data: bytes) -> None:
        while data and self._fd >= 0:
            try:
                data = data[os.write(self._fd, data) :]
            except OSError:  # the disk is full: count it, the machine goes on
                self._dropped += len(data)
                return

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class Pty(BaseChardev):
    """A pseudo-terminal for `screen PATH` or gdb. Output from before somebody opens it is kept (see `CAPACITY`)."""

    typed = True

    def __init__(self) -> None:
        super().__init__()
        # The slave side stays open here too: without any opener the master would only report an error.
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.announcement = os.ttyname(self._slave)
        self._outlet = Outlet(sender(self._master), on_room=self._has_room)

    @property
    def dropped(self) -> int:
        return self._outlet.dropped

    def room(self) -> int:
        return self._outlet.room()

    def write(self, data: bytes) -> None:
        self._outlet.write(data)

    def close(self) -> None:
        if self._master < 0:
            return
        self._outlet.close()
        super().close()
        os.close(self._slave)
        os.close(self._master)
        self._master = -1

    def _receive(self) -> None:
        self._pump(self._master)
