"""A labgrid driver: a virtual board as a console and a power switch (pip install 'powervisor[labgrid]')."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from ..errors import UserError
from ..guests import catalogue
from ..machine import Machine

try:
    import attr
    from labgrid.driver.common import Driver
    from labgrid.driver.consoleexpectmixin import ConsoleExpectMixin
    from labgrid.driver.exception import ExecutionError
    from labgrid.factory import target_factory
    from labgrid.protocol import ConsoleProtocol, PowerProtocol
    from labgrid.step import step
    from pexpect import TIMEOUT
except ModuleNotFoundError as error:
    raise UserError(f"powervisor.testing.labgrid: no module {error.name}; pip install 'powervisor[labgrid]'") from None


class _Line:
    """The host's end of the serial line: what the guest wrote and nobody has read."""

    def __init__(self) -> None:
        self.on_receive: Callable[[bytes], None] | None = None
        self.can_receive: Callable[[], int] = lambda: 0
        self._data = bytearray()
        self._grown = threading.Condition()

    def start(self, dispatch: Callable[[Callable[[], None]], None]) -> None:
        """Input comes by the machine's console."""

    def write(self, data: bytes) -> None:
        """Keep what the guest sent."""
        with self._grown:
            self._data += data
            self._grown.notify_all()

    def read(self, most: int, timeout: float) -> bytes:
        """What has come, once something has; b"" when the time in seconds is over."""
        with self._grown:
            self._grown.wait_for(lambda: bool(self._data), timeout)
            taken = bytes(self._data[:most])
            del self._data[:most]
            return taken

    def close(self) -> None:
        """What was not read stays."""


@target_factory.reg_driver
@attr.s(eq=False)
class PowervisorDriver(ConsoleExpectMixin, Driver, PowerProtocol, ConsoleProtocol):
    """A virtual board. `guest` is a guest by name, `options` are keywords of `powervisor.Machine`.

    Options that name a file (kernel, bios, initrd, dtb) may be labgrid's images. While it is on, `machine` is the
    Machine.
    """

    guest = attr.ib(default=None, validator=attr.validators.optional(attr.validators.instance_of(str)))
    options = attr.ib(factory=dict, validator=attr.validators.instance_of(dict))

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self.txdelay, self.txchunk = 0.0, 1
        self.machine: Machine | None = None
        self._line = _Line()

    def _keywords(self) -> dict[str, Any]:
        given = dict(self.options)
        for name in ("kernel", "bios", "initrd", "dtb"):
            if name in given and given[name] in self.target.env.config.get_images():
                given[name] = self.target.env.config.get_image_path(given[name])
        if self.guest is not None:
            given = {**catalogue.machine_arguments(catalogue.get(self.guest), given), **given}
        return given

    def on_deactivate(self) -> None:
        """The target lets go of it: off."""
        self._close()

    def _close(self) -> None:
        if self.machine is not None:
            self.machine.close()
            self.machine = None

    @Driver.check_active
    @step()
    def on(self) -> None:
        """Make the machine and let it run; without effect while it is on. Raises ExecutionError."""
        if self.machine is None:
            self._line = _Line()
            try:
                self.machine = Machine(**{**self._keywords(), "serial": [self._line]})
            except (UserError, TypeError) as error:  # TypeError: a keyword that Machine has not
                raise ExecutionError(f"PowervisorDriver: {error}") from None
            self.machine.start()

    @Driver.check_active
    @step()
    def off(self) -> None:
        """End the machine."""
        self._close()

    @Driver.check_active
    @step()
    def cycle(self) -> None:
        """Off and on again."""
        self.off()
        self.on()

    def _read(self, size: int = 1, timeout: float = 10, max_size: int | None = None) -> bytes:
        data = self._line.read(max_size or 4096, timeout)
        if not data:
            raise TIMEOUT(f"Timeout of {timeout:.2f} seconds exceeded")
        return data

    def _write(self, data: bytes) -> int:
        if self.machine is None:
            raise ExecutionError("PowervisorDriver: the machine is off; call on() first")
        self.machine.console.send(data)
        return len(data)
