"""Where CPU 0 comes from entry.s."""

from __future__ import annotations

from ....devices.ns16550 import Ier
from ....native.ints import u8, u32
from ....native.lang import native
from ..words import peek, say
from .bench import benchmark
from .board import read_board
from .console import enable_uart
from .identity import boot_arguments, print_all, recognise
from .interrupts import start_mpic
from .shell import execute_all, prompt, test
from .team import introduce


@native
def first_cpu(tree: u32, map_size: u32) -> None:
    """Everything after power-on."""
    read_board(tree, map_size)
    recognise()
    say("\nPowervisor built-in guest\n\n")
    start_mpic()
    introduce()
    enable_uart(Ier.receive.mask)
    if peek(u8, boot_arguments()) == 0:
        greet()
    else:
        execute_all(boot_arguments())
    say("\nhelp lists the commands.\n")
    prompt()


@native
def greet() -> None:
    """What is shown without boot arguments."""
    print_all()
    say("\nTests\n")
    test()
    say("\nSpeed\n")
    benchmark()
