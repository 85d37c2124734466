"""Managing machines from outside: the QMP server, its commands and events, migration streams, memory dumps.

A command is a function with `@command` in `commands/`; an event is a dataclass with `@event` in `events`. Checking of
what clients send, query-qmp-schema and docs/qmp.md come from their annotations.
"""

from .endpoints import named_endpoint, open_endpoint, parse_mon
from .manager import Identity
from .server import QmpServer

__all__ = ["Identity", "QmpServer", "named_endpoint", "open_endpoint", "parse_mon"]
