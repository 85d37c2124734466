"""What options of the command line take, from their declarations: for clients of QMP and the page of the options."""

from __future__ import annotations

from collections.abc import Mapping


def declared() -> Mapping[str, tuple[type, ...]]:
    """Options whose values are properties, with the classes that declare those."""
    from powervisor.block.drives import BlockdevOptions, DriveOptions
    from powervisor.boards.hypervisor import BoardProperties
    from powervisor.cli import objects, qemu_options
    from powervisor.cli.board_options import AccelOptions, HostProperties, MemoryOptions, SmpOptions
    from powervisor.cli.machine_options import NameOptions
    from powervisor.console import named
    from powervisor.fsdev.options import FsdevOptions, VirtfsOptions
    from powervisor.manage.endpoints import MonOptions
    from powervisor.net import netdevs

    return {
        "-machine": (BoardProperties, HostProperties),
        "-accel": (AccelOptions,),
        "-smp": (SmpOptions,),
        "-m": (MemoryOptions,),
        "-name": (NameOptions,),
        "-chardev": tuple(dict.fromkeys(kind.options for kind in named.KINDS.values())),
        "-mon": (MonOptions,),
        "-drive": (DriveOptions,),
        "-blockdev": (BlockdevOptions,),
        "-netdev": tuple(one.options_type for one in netdevs.TYPES.values()),
        "-object": tuple(
            dict.fromkeys(
                [*(kind.options for kind in objects.KINDS.values()), *(o for _, o in netdevs.OBJECTS.values())]
            )
        ),
        "-fsdev": (FsdevOptions,),
        "-virtfs": (VirtfsOptions,),
        **qemu_options.DECLARED,
    }


LIBVIRT_NAMES = {"-m": "memory", "-smp": "smp-opts", "-boot": "boot-opts"}
"""What QEMU calls these when programs ask."""
UNTOLD = ("-sandbox",)
"""libvirt would use what it is told of."""


def command_line() -> dict[str, tuple[str, ...]]:
    """Options and the names of what they take, as query-command-line-options tells."""
    from powervisor.properties import properties

    return {
        LIBVIRT_NAMES.get(option, option.lstrip("-")): tuple(
            dict.fromkeys(one.name for options in found for one in properties(options))
        )
        for option, found in declared().items()
        if option not in UNTOLD
    }
