"""Errors that a client is told, by the classes that the protocol has."""

from ..errors import PowervisorError


class QmpError(PowervisorError):
    """A command that fails."""

    error_class = "GenericError"


class CommandNotFound(QmpError):
    """There is no such command, or not now."""

    error_class = "CommandNotFound"


class DeviceNotFound(QmpError):
    """There is no such device, object or type."""

    error_class = "DeviceNotFound"


class DeviceNotActive(QmpError):
    """The machine has no device that could do it."""

    error_class = "DeviceNotActive"
