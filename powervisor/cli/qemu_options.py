"""Options that scripts and libvirt give QEMU: what is said about what there is anyway, and what cannot be had."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from powervisor.cli.json_words import words_of
from powervisor.cli.options import Parser
from powervisor.errors import UserError
from powervisor.properties import choice, number, parse, prop


@dataclass(frozen=True)
class RtcOptions:
    """-rtc."""

    base: str = prop(
        "utc", "the board's clock has this time",
        choice("utc", remedy="that is <clock offset='utc'/> in a libvirt domain"),
    )  # fmt: skip
    clock: str = prop("host", "it goes as the host's", choice("host"))
    driftfix: str = prop("none", "no tick is ever lost", choice("none"))


@dataclass(frozen=True)
class BootOptions:
    """-boot."""

    strict: bool = prop(False, "boot nothing but what is named: so it is")
    menu: str = prop("off", "no firmware asks", choice("off"))


@dataclass(frozen=True)
class OvercommitOptions:
    """-overcommit."""

    mem_lock: bool = prop(False, "RAM stays in the host's memory")
    cpu_pm: str = prop("off", "a vCPU that waits leaves its host processor to others", choice("off"))


@dataclass(frozen=True)
class MsgOptions:
    """-msg."""

    timestamp: bool = prop(False, "messages begin with the time, in UTC")
    guest_name: bool = prop(False, "messages begin with the machine's name")


@dataclass(frozen=True)
class SandboxOptions:
    """-sandbox."""

    enable: str = prop("off", "system calls are not filtered; confine the process from outside", choice("off"))


@dataclass(frozen=True)
class AudioOptions:
    """-audiodev."""

    driver: str = prop("", "the board has no sound", choice("none"), required=True)
    id: str = prop("", "its name", required=True)


@dataclass(frozen=True)
class ActionOptions:
    """-action."""

    reboot: str = prop("reset", "when the guest resets: begin anew, or end", choice("reset", "shutdown"))
    shutdown: str = prop("poweroff", "when the guest has ended: end, or stand still", choice("poweroff", "pause"))
    panic: str = prop("shutdown", "when a fault cannot be delivered", choice("shutdown", "pause"))


@dataclass(frozen=True)
class AddFdOptions:
    """-add-fd."""

    fd: int | None = prop(None, "an inherited descriptor", number(0, 1 << 20))
    set: int | None = prop(None, "the number of the set that it goes into", number(0, 1 << 30))
    opaque: str = prop("", "a note, which query-fdsets tells")


DECLARED: Mapping[str, type] = {
    "-rtc": RtcOptions, "-boot": BootOptions, "-overcommit": OvercommitOptions, "-msg": MsgOptions,
    "-sandbox": SandboxOptions, "-audiodev": AudioOptions, "-action": ActionOptions, "-add-fd": AddFdOptions,
}  # fmt: skip


class Refused(argparse.Action):
    """An option of QEMU that cannot be had; `metavar` is why, and what to do."""

    def __init__(self, option_strings: list[str], dest: str, why: str, nargs: int | str | None = None) -> None:
        super().__init__(option_strings, dest, nargs=nargs, help=argparse.SUPPRESS, default=argparse.SUPPRESS)
        self.why = why

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        raise UserError(f"{option_string}: {self.why}")


DISK = "write -drive file=FILE"
MONITOR = "write -monitor"
NO_SCREEN = "the machine has no display; leave it out"
REFUSED: dict[str, tuple[str, bool]] = {
    "-usbdevice": ("the board has no USB; leave it out", True),
    "-enable-kvm": ("guests are translated, on any host; leave it out", False),
    "-hda": (DISK, True),
    "-hdb": (DISK, True),
    "-sd": ("write -drive file=FILE,if=sd", True),
    "-pflash": ("write -drive file=FILE,if=pflash", True),
    "-cdrom": ("write -drive file=FILE,readonly=on", True),
    "-vnc": (NO_SCREEN, True),
    "-spice": (NO_SCREEN, True),
    "-numa": ("the board has one node; leave it out", True),
    "-d": ("write -trace EVENTS (-trace help)", True),
}
"""Options of QEMU with why they are refused and what to do, and whether a value follows."""


def _checked(options: type, option: str, first: str = "") -> Callable[[str], Any]:
    """What argparse makes of an option's text; `first` as for `parse`."""
    return lambda text: parse(options, text, f"{option} {text}", first)


def _none(option: str, why: str) -> Callable[[str], str]:
    """The one value of an option for what there is not."""

    def check(text: str) -> str:
        if text != "none":
            raise UserError(f"{option} {text}: {why}; write {option} none")
        return text

    return check


def add_qemu_options(parser: Parser) -> None:
    """-nodefaults -display -rtc -msg -add-fd -daemonize ... on `parser`."""
    parser.option("-nodefaults", action="store_true", help="no serial line but those of -serial")
    parser.option("-no-user-config", action="store_true", help="there is no such file anyway")
    parser.option("-usb", action="store_true", help="libvirt's default; the board has no USB, a note says so")
    parser.option("-display", metavar="none", type=_none("-display", "there is no display"), help="none")
    parser.option("-vga", metavar="none", type=_none("-vga", "there is no display"), help="none")
    parser.option("-parallel", metavar="none", type=_none("-parallel", "the board has no such port"), help="none")
    for option in ("-net", "-nic"):
        parser.option(
            option,
            metavar="none",
            type=_none(option, "write -netdev user,id=n0 -device virtio-net-pci,netdev=n0 for a network"),
            help="none but those of -netdev and -device",
        )
    parser.option("-rtc", metavar="CLOCK", type=_checked(RtcOptions, "-rtc"), help="base=utc")
    parser.option("-boot", metavar="HOW", type=_checked(BootOptions, "-boot"), help="strict=on, menu=off")
    parser.option(
        "-overcommit",
        metavar="WHAT",
        type=_checked(OvercommitOptions, "-overcommit"),
        help="mem-lock=on: keep RAM in the host's memory",
    )
    parser.option(
        "-msg", metavar="HOW", type=_checked(MsgOptions, "-msg"), help="timestamp=on: messages begin with the time"
    )
    parser.option(
        "-sandbox",
        metavar="off",
        type=_checked(SandboxOptions, "-sandbox", "enable"),
        help="off: no system call is refused",
    )
    parser.option(
        "-audiodev", metavar="none", action="append", help="none,id=ID: the board has no sound",
        type=lambda text: _checked(AudioOptions, "-audiodev", "driver")(words_of("-audiodev", "driver")(text)),
    )  # fmt: skip
    parser.option(
        "-action",
        metavar="WHAT",
        type=_checked(ActionOptions, "-action"),
        help="reboot=shutdown, shutdown=pause, panic=pause",
    )
    parser.option(
        "-add-fd",
        dest="add_fds",
        action="append",
        default=[],
        metavar="FD",
        type=_checked(AddFdOptions, "-add-fd"),
        help="fd=N,set=S[,opaque=NOTE]: let the path /dev/fdset/S stand for an inherited descriptor",
    )
    parser.option(
        "-daemonize", action="store_true", help="leave the terminal; this command ends when clients can connect"
    )
    parser.option("-pidfile", metavar="FILE", help="write the number of the process there")
    parser.option("-D", dest="log", metavar="FILE", help="messages go there, once the machine has started")
    for option, (why, value) in REFUSED.items():
        parser.option(option, action=Refused, why=why, nargs=1 if value else 0)
