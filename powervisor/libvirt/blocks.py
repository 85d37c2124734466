"""Our lines in files that belong to others, between two marks."""

from __future__ import annotations

BEGIN, END = "# begin powervisor (powervisor libvirt setup writes this)", "# end powervisor"


def replaced(text: str, lines: list[str]) -> str:
    """A file's text with our lines in it, where they were before or at the end."""
    before, begin, rest = text.partition(BEGIN)
    after = rest.partition(END)[2].lstrip("\n") if begin else ""
    if before and not before.endswith("\n"):
        before += "\n"
    return before + "\n".join([BEGIN, *lines, END, ""]) + after
