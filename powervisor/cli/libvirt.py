"""powervisor libvirt: machines that virsh defines, starts, watches and saves."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from powervisor.cli.machine_options import (
    add_guest_options,
    add_machine_options,
    list_requested,
    machine_arguments,
)
from powervisor.cli.options import Parser, nearest
from powervisor.console.stdio import complain
from powervisor.errors import UsageError, UserError

SUMMARIES = {
    "xml": "write a machine, described as for powervisor run, as XML for virsh define",
    "check": "tell what is missing before libvirt runs machines, and what to do about it",
    "setup": "do what can be done about it: launchers, translators, AppArmor's rules",
}
_PASSED_ON = {
    "blockdevs": "-blockdev", "chardevs": "-chardev", "objects": "-object", "pcap": "-pcap", "icount": "-icount",
    "record": "-record", "replay": "-replay",
}  # fmt: skip
"""Options without words of libvirt's: the launcher gets them."""
_FILES = "pcap", "record", "replay"
_PASSED_ON_ALONE = {"snapshot": "-snapshot", "deterministic": "-deterministic", "no_cache": "-no-cache"}


def main(words: list[str]) -> int:
    """One of xml, check and setup."""
    actions: dict[str, Callable[[list[str]], int]] = {"xml": _xml, "check": _check, "setup": _setup}
    name = words[0] if words else ""
    if name in actions:
        return actions[name](words[1:])
    epilog = "\n".join([*(f"  {name:6}  {summary}" for name, summary in SUMMARIES.items()), "", "see docs/libvirt.md"])
    parser = Parser("libvirt", "Let libvirt run machines.", epilog=epilog)
    parser.add_argument("action", nargs="?", choices=tuple(actions), help="what to do; each has its own --help")
    parser.parse(words[:1])
    raise UsageError(f"there is nothing to do; write {nearest(name, actions)}")


def _host_options(parser: Parser) -> None:
    parser.option("-session", action="store_true", help="for qemu:///session, the libvirt of this user alone")
    parser.option("-prefix", metavar="DIR", help="where launchers are, in DIR/bin; default /usr/local, or ~/.local")
    parser.option("-root", metavar="DIR", help="a host that is being prepared, as a tree of files; default /")


def _host(options: argparse.Namespace) -> Any:
    from powervisor.libvirt.host import Host

    root = Path(options.root or "/").absolute()
    if not root.is_dir():
        raise UserError(f"-root {options.root}: there is no such directory")
    prefix = Path(options.prefix).absolute() if options.prefix else None
    return Host(options.session, prefix, root)


def _check(words: list[str]) -> int:
    parser = Parser("libvirt check", "Tell what is missing before libvirt runs machines; nothing is changed.")
    _host_options(parser)
    options = parser.parse(words)
    from powervisor.libvirt.checks import check
    from powervisor.libvirt.findings import State

    lacks = False
    for finding in check(_host(options)):
        print(finding, flush=True)
        lacks |= finding.state is State.MISSING
    return 1 if lacks else 0


def _setup(words: list[str]) -> int:
    parser = Parser("libvirt setup", "Make libvirt ready for machines. Nothing is changed that is as it should be.")
    _host_options(parser)
    parser.option("-guest", action="append", default=[], metavar="NAME", help="have this guest's files for everybody")
    parser.option("-dry-run", action="store_true", help="only tell what would be done")
    options = parser.parse(words)
    from powervisor.guests import catalogue
    from powervisor.libvirt.setup import changes

    guests = [catalogue.get(name) for name in options.guest]
    files = [(guest.name, [] if options.dry_run and not _built(guest) else catalogue.build(guest)) for guest in guests]
    host = _host(options)
    failed = done = 0
    try:
        for change in changes(host, files):
            done += 1
            if options.dry_run:
                print(f"would   {change.what}")
                continue
            if change.slow:
                print(f"begin   {change.what}", flush=True)
            try:
                change.apply()
            except (OSError, UserError) as error:
                failed += 1
                complain(f"failed  {change.what}: {_reason(error, host, change.what)}")
            else:
                print(f"done    {change.what}", flush=True)
    except OSError as error:
        raise UserError(f"libvirt setup: {_reason(error, host)}") from None
    if not done:
        print("nothing to do: everything is in place")
    return 1 if failed else 0


def _built(guest: Any) -> bool:
    from powervisor.guests import catalogue

    return all(catalogue.locate(artifact) for artifact in guest.files.values())


def _reason(error: Exception, host: Any, what: str = "") -> str:
    """What went wrong, with the file where `what` does not name it, and what to do."""
    from powervisor.libvirt.checks import setup_command

    if not isinstance(error, OSError):
        return str(error)
    where = "" if not error.filename or str(Path(error.filename).parent) in what else f" ({error.filename})"
    remedy = f"; as root: {setup_command(host)}" if isinstance(error, PermissionError) and not host.session else ""
    return f"{error.strerror or error}{where}{remedy}"


def _xml(words: list[str]) -> int:
    parser = Parser(
        "libvirt xml", "Write a machine as libvirt's XML: powervisor libvirt xml linux >m.xml; virsh define m.xml"
    )
    add_guest_options(parser)
    add_machine_options(parser)
    parser.option(
        "-network", action="append", default=[], metavar="NAME", help="a virtio card at a network of libvirt's"
    )
    _host_options(parser)
    options = parser.parse(words)
    if (listing := list_requested(options)) is not None:
        print(listing)
        return 0
    from powervisor.libvirt.access import obstacle
    from powervisor.libvirt.domain import domain_xml

    host = _host(options)
    domain = _domain(options, host)
    print(domain_xml(domain), end="")
    account = host.account
    for path in domain.files if account is not None and host.live else ():
        if (why := obstacle(path, account)) is not None:
            why = why if str(path) in why else f"{path}: {why}"
            complain(f"powervisor libvirt xml: {why}; guests by name: powervisor libvirt setup -guest NAME")
    if host.session and not host.logs.is_dir():
        complain(f"powervisor libvirt xml: {host.logs} is not there yet; powervisor libvirt setup -session makes it")
    if not domain.emulator.exists():
        complain(f"powervisor libvirt xml: {domain.emulator} is not there yet; powervisor libvirt setup writes it")
    return 0


def _domain(options: argparse.Namespace, host: Any) -> Any:
    """The machine of a command line. Raises UserError."""
    from powervisor.boards import registry
    from powervisor.isa import cores
    from powervisor.libvirt.domain import Domain
    from powervisor.libvirt.host import ARCHITECTURES

    found = machine_arguments(options)
    if not {"kernel", "bios", "loaders"} & found.keys():
        named = f"{guest} is for powervisor run only" if (guest := options.name or options.guest) else "nothing to boot"
        raise UserError(f"{named}; name a guest (k32), or give -kernel or -bios")
    board = registry.get(found.get("board", registry.DEFAULT))
    core = cores.get(found.get("cpu", board.default_core))
    own = found.get("board", "").partition(",")[2]
    arguments = ["-machine", own] if own else []
    for name, option in _PASSED_ON.items():
        value = getattr(options, name) or ()
        if isinstance(value, str):
            value = [str(Path(value).absolute()) if name in _FILES else value]
        arguments += [word for text in value for word in (option, text)]
    arguments += [option for name, option in _PASSED_ON_ALONE.items() if getattr(options, name)]
    files = {name: _file(found.get(name), options, host) for name in ("kernel", "initrd", "bios", "dtb")}
    domain = Domain(
        name=found.get("name") or options.name or options.guest or "powervisor",
        emulator=host.launcher(ARCHITECTURES[core.bits == 64]), core=core, cores=found.get("cores", 1),
        threads=found.get("threads", 1), memory=found.get("memory", board.ram_default), append=found.get("append"),
        hugepages=options.mem_path is not None, prealloc=options.mem_prealloc, no_reboot="no_reboot" in found,
        logs=host.logs, serials=options.serial or ("pty",), devices=options.device, drives=options.drives or (),
        netdevs=options.netdevs, networks=options.network, fsdevs=options.fsdevs or (), virtfs=options.virtfs or (),
        arguments=arguments, **files,
    )  # fmt: skip
    board.check(core.name, domain.cores, domain.threads, domain.memory)
    if "/" in domain.name:
        raise UserError(f"-name {domain.name}: libvirt takes no name with a /; leave it out")
    return domain


def _file(path: str | None, options: argparse.Namespace, host: Any) -> str | None:
    """An absolute path; of a guest by name that emulators have for themselves, theirs."""
    if path is None:
        return None
    own: Path = host.cache / "guests" / Path(path).name
    if (options.name or options.guest) and own.is_file():
        return str(host.name(own))
    return str(Path(path).absolute())
