"""Machine: the one public object behind the command line, the API and the tests."""

from ..boot.loader import LoaderDevice
from .machine import Machine
from .outcome import Outcome
from .snapshot import Snapshot

__all__ = ["LoaderDevice", "Machine", "Outcome", "Snapshot"]
