"""The host's side of a guest's serial lines: terminal, pty, file, sockets, and a recorder to wait for text.

`open_chardev("unix:/tmp/s,server=on")` makes one from QEMU's words; `Recorder` keeps what the guest said.
"""

from powervisor.console.chardev import Chardev, Dispatch
from powervisor.console.recorder import ExpectError, Recorder, recorded
from powervisor.console.spec import open_chardev

__all__ = ["Chardev", "Dispatch", "ExpectError", "Recorder", "open_chardev", "recorded"]
