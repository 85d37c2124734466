"""Machine: the one public object behind the command line, the API and the tests."""

from ..boot.loader import LoaderDevice
from .cpu import Cpu
from .hooks import Hook, HookError
from .machine import Machine
from .outcome import Outcome
from .snapshot import Snapshot
from .until import NotReached

__all__ = ["Cpu", "Hook", "HookError", "LoaderDevice", "Machine", "NotReached", "Outcome", "Snapshot"]
