"""query-qmp-schema: what there is, from the declarations of commands and events."""

from __future__ import annotations

from functools import cache
from typing import Any

from .command import COMMANDS
from .events import EVENTS
from .types import Types, members


@cache
def schema() -> tuple[dict[str, Any], ...]:
    """Its entries."""
    types = Types()
    found: list[dict[str, Any]] = []
    for one in COMMANDS.values():
        arguments = types.object(f"{one.name}-arg", one.arguments)
        nothing = one.returns is type(None)
        returned = types.object("Empty", ()) if nothing else types.name(one.returns, f"{one.name}-ret")
        found.append({"name": one.name, "meta-type": "command", "arg-type": arguments, "ret-type": returned})
    for name, event in EVENTS.items():
        arguments = types.object(f"{name}-arg", members(event))
        found.append({"name": name, "meta-type": "event", "arg-type": arguments})
    return (*found, *types.entries())
