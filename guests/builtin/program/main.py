"""Where CPU 0 comes from entry.s."""

from __future__ import annotations

from ....native.ints import u32
from ....native.lang import address_of, native
from ..words import say, the
from .board import poweroff, read_board
from .interrupts import start_mpic
from .state import Stacks
from .team import introduce, start_everybody
from .tree import print_nodes, root


@native
def first_cpu(tree: u32, map_size: u32) -> None:
    """Everything from power-on to power-off."""
    read_board(tree, map_size)
    say("Powervisor built-in guest {:x} {}\n", map_size, u32(address_of(the(Stacks))))
    print_nodes(root(), u32(0))
    start_mpic()
    introduce()
    start_everybody()
    poweroff()
