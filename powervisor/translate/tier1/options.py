"""What regions may do to be fast; tests turn one off at a time."""

from __future__ import annotations

import json
from dataclasses import dataclass


@dataclass(frozen=True)
class RegionOptions:
    """Zero turns an optimisation off."""

    insns: int = 300
    """Instructions a region may have."""
    pages: int = 4
    """Pages it may span."""
    entries: int = 48
    cases: int = 40
    """Targets of an indirect jump that stay inside."""
    callees: int = 4
    """Functions that an indirect call is thought to lead to."""
    returns: int = 12
    """In-region return addresses that a return is compared with."""
    near: int = 8
    """Groups of accesses whose page is remembered."""
    frames: int = 1 << 1
    """GPRs, as bits, that point to stack frames, which may be in two pages."""
    level: int = 2
    """Of LLVM's code generator."""
    without: tuple[str, ...] = ()
    """LLVM passes left out."""

    def text(self) -> str:
        """As one word, for another process."""
        return json.dumps(vars(self), separators=(",", ":"))

    @classmethod
    def of(cls, text: str) -> RegionOptions:
        """The options that `text` gave."""
        values = json.loads(text)
        return cls(**{**values, "without": tuple(values["without"])})


DEFAULTS = RegionOptions()
