"""Serial lines to nowhere, to a file and to a pseudo-terminal."""

import os
import tty

from powervisor.console.chardev import BaseChardev, Dispatch, Outlet, sender
from powervisor.errors import UserError
from powervisor.fdsets import open_path


def open_output(path: str, append: bool, where: str) -> int:
    """A file, or a descriptor of a set, to write to. Raises UserError, which begins with `where`."""
    try:
        return open_path(path, os.O_WRONLY | os.O_CREAT | (os.O_APPEND if append else os.O_TRUNC))
    except OSError as error:
        remedy = "name a file in a directory of yours"
        raise UserError(f"{where}: cannot write there ({error.strerror}); {remedy}") from None


class Null(BaseChardev):
    """Swallows output and never types."""

    def start(self, dispatch: Dispatch) -> None:
        """Nothing will come."""

    def _write(self, data: bytes) -> None:
        """Forget `data`."""


class File(BaseChardev):
    """Output into a file, written at once; the file is emptied first, as QEMU does, unless `append`."""

    def __init__(self, path: str, option: str, append: bool = False) -> None:
        super().__init__()
        self._dropped = 0
        self._fd = open_output(path, append, f"{option} file:{path}")

    @property
    def dropped(self) -> int:
        return self._dropped

    def start(self, dispatch: Dispatch) -> None:
        """A file has no input."""

    def _write(self, data: bytes) -> None:
        while data and self._fd >= 0:
            try:
                data = data[os.write(self._fd, data) :]
            except OSError:  # the disk is full: count it, the machine goes on
                self._dropped += len(data)
                return

    def close(self) -> None:
        super().close()
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

    def _write(self, data: bytes) -> None:
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
