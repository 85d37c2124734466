"""Debug events of category E.ED: instruction and data address compare, instruction complete."""

from __future__ import annotations

from ..native.ints import u32, u64
from ..native.lang import native
from .state import Vcpu


@native(inline=True)
def debug_data(cpu: Vcpu, ea: u64, size: u32, store: bool) -> None:
    """Data address compare of an access; called on the slow path only, which every access takes while events are on."""
