"""The host's side of a guest's serial lines: terminal, pty, file, sockets, and a recorder to wait for text.

`open_chardev("unix:/tmp/s,server=on")` makes one from QEMU's words after -serial, `open_named("pty,id=a")` from those
after -chardev; `Recorder` keeps what the guest said.
"""

from powervisor.console.chardev import Chardev, Dispatch, PortChardev
from powervisor.console.named import open_named
from powervisor.console.recorder import ExpectError, Recorder, recorded
from powervisor.console.spec import open_chardev

__all__ = ["Chardev", "Dispatch", "ExpectError", "PortChardev", "Recorder", "open_chardev", "open_named", "recorded"]
