"""Translators in the cache, before a machine wants one: `python -m powervisor.libvirt.images [-keep] CORE...`."""

from __future__ import annotations

import sys

from ..isa import cores
from ..machine.native import keep_image


def main(words: list[str]) -> int:
    """Print for each core whether its translator is in $POWERVISOR_CACHE; with -keep build it before."""
    keep = words[:1] == ["-keep"]
    for name in words[keep:]:
        print(name, "kept" if keep_image(cores.get(name), build=keep) else "missing", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
