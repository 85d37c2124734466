"""The options that describe a machine, for every command that needs one, in QEMU's words."""

import argparse
from dataclasses import dataclass
from typing import Any

from powervisor.cli import objects
from powervisor.cli.board_options import (
    ACCELERATORS,
    HostProperties,
    check_accel,
    check_core,
    parse_board,
    parse_memory,
    parse_smp,
)
from powervisor.cli.json_words import words_of
from powervisor.cli.options import HELP, Merged, Once, Parser, nearest, table
from powervisor.errors import UsageError, UserError
from powervisor.properties import check_known, listing, parse, prop

LOADER = "loader"
LONGEST_NAME = 64
OPTION_NAMES = {
    "board": "-M", "cpu": "-cpu", "cores": "-smp", "threads": "-smp threads", "memory": "-m", "kernel": "-kernel",
    "bios": "-bios", "initrd": "-initrd", "dtb": "-dtb", "loaders": "-device loader", "devices": "-device",
    "drives": "-drive", "blockdevs": "-blockdev", "snapshot": "-snapshot", "chardevs": "-chardev",
    "fsdevs": "-fsdev", "virtfs": "-virtfs", "netdevs": "-netdev", "objects": "-object", "pcap": "-pcap",
    "serial": "-serial", "append": "-append", "mem_path": "-mem-path", "mem_prealloc": "-mem-prealloc",
    "mem_lock": "-overcommit mem-lock=on",
    "deterministic": "-deterministic", "record": "-record", "replay": "-replay",
}  # fmt: skip
"""What arguments of `Machine` are called in messages of the command line."""


@dataclass(frozen=True)
class NameOptions:
    """-name."""

    guest: str = prop("", "what the machine is called", required=True)
    debug_threads: bool = prop(False, "threads have names anyway")

    @property
    def findable(self) -> bool:
        """Whether `powervisor stat` can have it as a word: it takes numbers for processes."""
        return len(self.guest) <= LONGEST_NAME and not self.guest.replace("-", "").isdecimal()


def parse_name(text: str) -> NameOptions:
    """The value of -name. Raises UserError."""
    name = parse(NameOptions, text, f"-name {text}", first="guest")
    if not name.guest.isprintable():
        raise UserError(f"-name {text}: cannot be a name; leave out what cannot be printed")
    return name


def add_guest_options(parser: Parser) -> None:
    """A guest by name."""
    parser.add_argument("name", nargs="?", metavar="GUEST", help="the same as -guest GUEST")
    parser.option("-guest", metavar="NAME", help="boot a guest by name: linux, uboot, builtin ... (powervisor guests)")


def add_machine_options(parser: Parser) -> None:
    """-M -cpu -smp -m -kernel ... on `parser`."""
    parser.set_defaults(arch="", name=None, guest=None)
    parser.option(
        "-M",
        "-machine",
        dest="board",
        action=Merged,
        metavar="BOARD",
        help="board (help: list them), ppce500,hypervisor=on; none: QMP only",
    )
    parser.option("-cpu", metavar="CORE", help="processor core (help: list them)")
    parser.option("-smp", metavar="N", help="CPUs: N, or cores=N,threads=N (e6500: 1 or 2 threads a core)")
    parser.option("-m", dest="memory", metavar="SIZE", help="RAM, in MiB unless it ends in K, M, G")
    parser.option("-kernel", metavar="FILE", help="uImage, ELF or vmlinux to boot")
    parser.option("-initrd", metavar="FILE", help="initial RAM disk for the kernel")
    parser.option("-append", metavar="TEXT", help="command line for the kernel")
    parser.option("-bios", metavar="FILE", help="firmware, which may go on to boot the -kernel")
    parser.option("-dtb", metavar="FILE", help="device tree to give the guest instead of the board's own")
    parser.option(
        "-device",
        action="append",
        default=[],
        type=words_of("-device", "driver"),
        metavar="DEVICE",
        help="add a device: NAME,property=value,... (help: list)",
    )
    parser.option(
        "-drive",
        dest="drives",
        action="append",
        metavar="DRIVE",
        help="a disk: file=F[,format=qcow2][,if=virtio|sd|pflash][,if=none,id=ID][,readonly=on] ..., or "
        "file=nbd://HOST:PORT/EXPORT",
    )
    parser.option(
        "-blockdev",
        dest="blockdevs",
        action="append",
        type=words_of("-blockdev"),
        metavar="NODE",
        help="storage for a -device: driver=file,filename=F,node-name=N",
    )
    parser.option(
        "-snapshot", action="store_true", help="leave all images as they are: what is written is gone at the end"
    )
    parser.option(
        "-virtfs",
        action="append",
        metavar="DIRECTORY",
        help="a directory of this host: local,path=P,mount_tag=T[,readonly=on]; mount -t 9p T /mnt",
    )
    parser.option(
        "-fsdev",
        dest="fsdevs",
        action="append",
        metavar="DIRECTORY",
        help="a directory for -device virtio-9p-pci,fsdev=ID: local,id=ID,path=P[,readonly=on]",
    )
    parser.option(
        "-chardev",
        dest="chardevs",
        action="append",
        metavar="CHARDEV",
        help="a chardev for a -device or -serial: stdio, pty, file,path=F, socket,path=P,server=on, null; each with "
        ",id=NAME[,logfile=F] (help: list)",
    )
    parser.option(
        "-netdev",
        dest="netdevs",
        action="append",
        default=[],
        type=words_of("-netdev", "type"),
        metavar="NET",
        help="a network for a -device: user,id=ID[,hostfwd=tcp::2222-:22] ... (help: list)",
    )
    parser.option(
        "-object",
        dest="objects",
        action="append",
        default=[],
        type=words_of("-object", "qom-type"),
        metavar="OBJECT",
        help="filter-dump,id=ID,netdev=ID,file=F: capture what passes a network; RAM, keys ... (help: list)",
    )
    parser.option("-pcap", metavar="FILE", help="capture what passes all networks, for tcpdump and Wireshark")
    parser.option(
        "-serial",
        action="append",
        metavar="WHERE",
        help="a serial line: stdio, pty, file:F, unix:F,server=on, tcp:HOST:PORT,server=on, chardev:ID, null, none; "
        "twice for two",
    )
    parser.option("-nographic", action="store_true", help="the console on this terminal (it is there anyway)")
    parser.option("-mem-path", metavar="DIR", help="take RAM from the hugetlbfs mounted there")
    parser.option("-mem-prealloc", action="store_true", help="commit all of RAM before the start")
    parser.option("-accel", metavar="NAME", help="how guest code runs: translate; tcg is the same")
    parser.option("-deterministic", action="store_true", help="do the same every time: time is made of instructions")
    parser.option(
        "-icount", metavar="TIMING", help="-deterministic with ns=N an instruction, quantum=N ... (help: list)"
    )
    parser.option(
        "-record", action=Once, metavar="FILE", help="-deterministic, and keep what comes in (keys, frames) in a file"
    )
    parser.option("-replay", action=Once, metavar="FILE", help="do again what was recorded, with the same options")
    parser.option("-no-cache", action="store_true", help="neither use nor keep translated code on disk")
    parser.option(
        "-name",
        dest="machine_name",
        type=parse_name,
        metavar="NAME",
        help="what the machine is called, for powervisor stat",
    )
    parser.option("-no-reboot", action="store_true", help="end, with status 4, when the guest resets")


def list_requested(options: argparse.Namespace) -> str | None:
    """The text of `-M help`, `-cpu help` and the like, if one of them was asked for."""
    from powervisor.cli import boards, cores

    listings = {
        options.board: lambda: boards.listing(),
        options.cpu: lambda: cores.listing(32 if getattr(options, "arch", None) == "ppc" else 64),
        options.accel: lambda: table(list(ACCELERATORS.items())),
    }
    if options.icount in HELP:
        from powervisor.machine.timing import Timing

        return table(listing(Timing))
    if options.board is not None and options.board.rpartition(",")[2] in HELP and "," in options.board:
        return _board_help(options.board.rpartition(",")[0])
    for device in options.device:
        name, _, rest = device.rpartition(",")
        if rest in HELP:
            return _device_help(name)
    for kind, texts in (("netdev", options.netdevs), ("object", options.objects)):
        for text in texts:
            name, _, rest = text.rpartition(",")
            if rest in HELP:
                return _network_help(kind, name)
    return next((listings[word]() for word in HELP if word in listings), None)


def _board_help(name: str) -> str:
    """The properties of a board."""
    from powervisor.boards import registry
    from powervisor.boards.hypervisor import BoardProperties

    board = registry.get(parse_board(name).board)
    rows = [*listing(BoardProperties), *listing(HostProperties)]
    return f"{board.name}:\n" + table([("  " + first, text) for first, text in rows])


def _device_help(name: str) -> str:
    """All devices, or the properties of one."""
    from powervisor.boot.loader import LoaderDevice
    from powervisor.devices import models

    summary = "a file in memory before the start; a CPU may begin there"
    if name == LOADER:
        return f"{LOADER}: {summary}\n" + table([("  " + first, text) for first, text in listing(LoaderDevice)])
    if name:
        return models.help_text(name)
    return table([(LOADER, summary), *models.summaries()])


def _network_help(kind: str, name: str) -> str:
    """All types of -netdev or -object, or the properties of one."""
    from powervisor.net import netdevs

    of_one, of_all = {
        "netdev": (netdevs.help_rows, netdevs.summaries),
        "object": (objects.help_rows, objects.summaries),
    }[kind]
    return f"{name}:\n" + table([("  " + first, text) for first, text in of_one(name)]) if name else table(of_all())


def machine_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """Keyword arguments for `Machine`: what the user gave and what -guest stands for; defaults are left to it.

    A guest that is not there yet is built. Raises UserError.
    """
    guest = _guest_name(options)
    given = _given(options)
    if getattr(options, "loadvm", None) is not None:
        if guest is not None:
            raise UserError(f"-guest {guest}: what the machine loads comes with -loadvm; leave one of the two out")
        for name in ("record", "replay"):
            if given.get(name) is not None:
                raise UserError(f"-{name}: a recording begins at power-on; leave -loadvm out")
        return given
    arguments = given if guest is None else _guest_arguments(guest, given) | given
    if options.arch and not {"kernel", "bios", "loaders"} & arguments.keys():
        raise UserError("there is nothing to run; add -kernel or -bios")
    if "initrd" in arguments and not {"kernel", "bios"} & arguments.keys():
        raise UserError("-initrd: there is nothing to use it; add -kernel or -bios")
    return arguments


def _guest_name(options: argparse.Namespace) -> str | None:
    """The guest of -guest, or of the word without an option."""
    if options.name is None:
        name: str | None = options.guest
        return name
    from powervisor.guests import catalogue

    known = (*catalogue.GUESTS, *catalogue.ALIASES)
    if options.name not in known:
        remedy = f"a file to boot is -kernel {options.name}; guests are {nearest(options.name, known)}"
        raise UsageError(f"{options.name}: not an option, and no guest; {remedy}")
    if options.guest is not None:
        raise UsageError(f"{options.name}: -guest {options.guest} is given too; leave one of the two out")
    word: str = options.name
    return word


def _guest_arguments(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """What -guest stands for; -append is added to the guest's own in `given`, which wins in all else."""
    from powervisor.guests import catalogue

    guest = catalogue.get(name)
    for name in ("kernel", "bios"):
        if name in given:
            raise UserError(f"-{name}: -guest {guest.name} brings its own; leave one of the two out")
    arguments = catalogue.machine_arguments(guest, given)
    if "append" in given:
        given["append"] = " ".join(filter(None, (arguments.get("append"), given["append"])))
    return arguments


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """What the user gave in options, -guest and -serial left out."""
    from powervisor.boards import registry
    from powervisor.isa import cores

    given: dict[str, Any] = {}
    if options.board is not None and ",dumpdtb=" in options.board:
        raise UserError(f"-M {options.board}: the tree is printed by powervisor dtb; leave dumpdtb= out")
    chosen = parse_board(registry.DEFAULT if options.board is None else options.board)
    board = registry.get(chosen.board)
    board.check_serials(len(options.serial or ()))  # before any is opened
    if options.board is not None:
        given["board"] = chosen.board
    if options.cpu is not None:
        check_core(options.cpu, options.arch)
        given["cpu"] = cores.get(options.cpu).name
    elif options.arch in cores.DEFAULTS:
        given["cpu"] = cores.DEFAULTS[options.arch]
    if options.smp is not None:
        topology = parse_smp(options.smp)
        given.update(cores=topology.cores, threads=topology.threads)
    if options.memory is not None:
        given["memory"] = parse_memory(options.memory)
    for text, where in ((options.accel, "-accel"), (chosen.host.accel or None, "-M accel")):
        if text is not None:
            check_accel(text, where)
    named = objects.parse_objects(options.objects)
    given.update(objects.memory_arguments(named, chosen.host.memory_backend, given.get("memory")))
    for name in ("kernel", "bios", "initrd", "dtb", "append", "mem_path"):
        if (text := getattr(options, name)) is not None:
            given[name] = text
    given.update({name: True for name in ("mem_prealloc", "no_reboot", "snapshot") if getattr(options, name)})
    given.update(_deterministic(options))
    if options.no_cache:
        given["cache"] = False
    name = options.machine_name
    if name is not None and name.findable:
        given["name"] = name.guest
    elif name is not None and not options.arch:
        remedy = f"write at most {LONGEST_NAME} characters that are no number"
        raise UserError(f"-name {name.guest}: cannot be a name; {remedy}")
    given.update(_devices(options.device, named.rngs))
    if options.fsdevs or options.virtfs:
        from powervisor.fsdev import options as fsdev_options

        fsdev_options.check(options.fsdevs or (), options.virtfs or ())
        given.update({name: texts for name in ("fsdevs", "virtfs") if (texts := getattr(options, name))})
    if options.chardevs:
        from powervisor.console.named import parse_named

        for text in options.chardevs:
            parse_named(text)
    if options.drives or options.blockdevs:
        from powervisor.block import drives

        drives.check(options.drives or (), options.blockdevs or ())
        given.update({name: texts for name in ("drives", "blockdevs") if (texts := getattr(options, name))})
    given.update(_networks(options, named.captures))
    return given


def _deterministic(options: argparse.Namespace) -> dict[str, Any]:
    """-deterministic, -icount, -record and -replay."""
    from powervisor.machine.timing import Timing

    given: dict[str, Any] = {
        name: path for name in ("record", "replay") if (path := getattr(options, name)) is not None
    }
    if options.icount is not None:
        given["deterministic"] = parse(Timing, options.icount, f"-icount {options.icount}")
    elif options.deterministic:
        given["deterministic"] = True
    return given


def _networks(options: argparse.Namespace, captures: list[str]) -> dict[str, Any]:
    """-netdev, -object and -pcap; what cannot be understood is told before anything is opened or built."""
    if not options.netdevs and not captures and options.pcap is None:
        return {}
    from powervisor.net import netdevs

    try:
        netdevs.check(options.netdevs, captures)
    except UserError as error:
        raise UsageError(str(error)) from None
    return {"netdevs": options.netdevs, "objects": captures, "pcap": options.pcap}


def _devices(texts: list[str], rngs: list[str]) -> dict[str, Any]:
    """Loaders and devices apart; what is wrong is told before anything is opened or built."""
    from powervisor.boot.loader import LoaderDevice

    found: dict[str, Any] = {}
    for text in texts:
        kind, _, rest = text.partition(",")
        if kind == LOADER:
            found.setdefault("loaders", []).append(LoaderDevice.parse(rest))
        else:
            from powervisor.devices import models

            wanted = models.describe(text)
            if rng := getattr(wanted.options, "rng", ""):
                check_known(rngs, "rng", rng, wanted.where, f"add -object rng-builtin,id={rng}")
            found.setdefault("devices", []).append(text)
    return found
