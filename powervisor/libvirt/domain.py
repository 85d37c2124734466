"""A machine as libvirt's domain XML: what libvirt has words for in them, all else as arguments of the emulator."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import ascii_lowercase
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from ..block.drives import DriveOptions
from ..block.nbd_server import parse_server
from ..console.spec import listening
from ..errors import UserError
from ..fsdev.options import FsdevOptions, VirtfsOptions
from ..isa.cores import Core
from ..properties import pairs, parse, words

QEMU = "http://libvirt.org/schemas/domain/qemu/1.0"
_DEFAULTS = {"discard": "ignore", "cache": "writeback"}
"""What goes without saying of a disk."""
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_DISK, _BALLOON, _DIRECTORY, _RANDOM = "virtio-blk-pci", "virtio-balloon-pci", "virtio-9p-pci", "virtio-rng-pci"
_FILES = {
    "file", "filename", "file.filename", "path", "server.path", "file.server.path", "addr.path", "local.path",
    "remote.path", "logfile",
}  # fmt: skip
"""Properties that name a file, of all options that are passed on."""
_CARDS = {"virtio-net-pci": "virtio", "e1000": "e1000"}
"""Network cards, and what libvirt calls them."""


@dataclass
class Domain:
    """A machine in the words of the command line; `arguments` are words that are passed on as they are."""

    name: str
    emulator: Path
    core: Core
    cores: int
    threads: int
    memory: int
    kernel: str | None = None
    initrd: str | None = None
    append: str | None = None
    bios: str | None = None
    dtb: str | None = None
    hugepages: bool = False
    prealloc: bool = False
    no_reboot: bool = False
    logs: Path | None = None
    """The directory for what comes on serial lines."""
    serials: Sequence[str] = ("pty",)
    devices: Sequence[str] = ()
    drives: Sequence[str] = ()
    netdevs: Sequence[str] = ()
    networks: Sequence[str] = ()
    """Networks that libvirt keeps, each with a card of its own."""
    fsdevs: Sequence[str] = ()
    virtfs: Sequence[str] = ()
    arguments: list[str] = field(default_factory=list)

    @property
    def architecture(self) -> str:
        """What libvirt calls it; the emulator of ppc takes e500mc where no core is named."""
        return "ppc" if self.core.bits == 32 else "ppc64"

    @property
    def files(self) -> list[Path]:
        """The host's files that the emulator reads before the guest starts; libvirt gives it images of disks itself."""
        return [Path(path) for path in (self.kernel, self.initrd, self.bios, self.dtb) if path is not None]


def domain_xml(domain: Domain) -> str:
    """The XML that virsh define takes. Raises UserError for what libvirt cannot have."""
    ElementTree.register_namespace("qemu", QEMU)
    root = Element("domain", type="qemu")
    SubElement(root, "name").text = domain.name
    SubElement(root, "memory", unit="KiB").text = str(domain.memory >> 10)
    if domain.hugepages or domain.prealloc:
        backing = SubElement(root, "memoryBacking")
        if domain.hugepages:
            SubElement(backing, "hugepages")
        if domain.prealloc:
            SubElement(backing, "allocation", mode="immediate")
    SubElement(root, "vcpu").text = str(domain.cores * domain.threads)
    _os(SubElement(root, "os"), domain)
    if domain.architecture == "ppc64":  # of ppc libvirt takes nothing about CPUs
        _cpu(SubElement(root, "cpu", mode="custom", match="exact", check="none"), domain)
    SubElement(root, "clock", offset="utc")
    SubElement(root, "on_poweroff").text = "destroy"
    SubElement(root, "on_reboot").text = "destroy" if domain.no_reboot else "restart"
    SubElement(root, "on_crash").text = "destroy"
    _devices(SubElement(root, "devices"), domain)
    if domain.arguments:
        line = SubElement(root, f"{{{QEMU}}}commandline")
        for option, word in zip(["", *domain.arguments], domain.arguments, strict=False):
            SubElement(line, f"{{{QEMU}}}arg", value=_absolute(option, word))
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode") + "\n"
    if (wrong := _NOT_XML.search(text)) is not None:
        raise UserError(f"XML cannot have the character {wrong[0]!r}; leave it out, in names of files too")
    return text


def _absolute(option: str, text: str) -> str:
    """The properties of an option with files named from the root: the emulator is started there."""
    found = []
    for word in words(text):
        name, equals, value = word.partition("=")
        is_node = option == "-blockdev" and name == "file"
        if name in _FILES and value and "://" not in value and not is_node:
            word = f"{name}={os.path.abspath(value)}"
        found.append(word.replace(",", ",,"))
    return ",".join(found)


def _os(element: Element, domain: Domain) -> None:
    SubElement(element, "type", arch=domain.architecture, machine="ppce500").text = "hvm"
    words = {"loader": domain.bios, "kernel": domain.kernel, "initrd": domain.initrd, "cmdline": domain.append}
    for tag, text in (words | {"dtb": domain.dtb}).items():
        if text is not None:
            SubElement(element, tag).text = text


def _cpu(element: Element, domain: Domain) -> None:
    SubElement(element, "model", fallback="forbid").text = domain.core.name
    SubElement(element, "topology", sockets="1", cores=str(domain.cores), threads=str(domain.threads))


def _devices(element: Element, domain: Domain) -> None:
    SubElement(element, "emulator").text = str(domain.emulator)
    backends = _Backends(domain)
    for device in domain.devices:
        name, _, rest = device.partition(",")
        if not _device(element, name, pairs(rest, f"-device {name}"), backends):
            domain.arguments += ["-device", device]
    for name in [name for name, drive in backends.drives.items() if drive.interface == "virtio"]:
        _disk(element, backends.drives[name], "")
        backends.taken("-drive", name)
    for text in domain.virtfs:
        virtfs = parse(VirtfsOptions, text.partition(",")[2], f"-virtfs {text}")
        _filesystem(element, virtfs.path, virtfs.mount_tag, virtfs.readonly)
    for network in domain.networks:
        interface = SubElement(element, "interface", type="network")
        SubElement(interface, "source", network=network)
        SubElement(interface, "model", type="virtio")
    domain.arguments += backends.rest()
    for index, spec in enumerate(domain.serials):
        _serial(element, index, spec, domain)
    SubElement(element, "controller", type="usb", index="0", model="none")
    own = any(word.partition(",")[0] == _BALLOON for word in domain.arguments)
    SubElement(element, "memballoon", model="none" if own else "virtio")


class _Backends:
    """-drive, -netdev and -fsdev, by option and name; those that no element has had are passed on."""

    def __init__(self, domain: Domain) -> None:
        self._words: dict[tuple[str, str], str] = {}
        self.drives: dict[str, DriveOptions] = {}
        self.netdevs: dict[str, tuple[str, dict[str, str]]] = {}
        self.fsdevs: dict[str, FsdevOptions] = {}
        for number, text in enumerate(domain.drives):
            drive = parse(DriveOptions, text, f"-drive {text}")
            name = drive.id or f"\0{number}"
            self._add("-drive", name, text)
            if _has_words(drive):
                self.drives[name] = drive
        for text in domain.netdevs:
            kind, _, rest = text.partition(",")
            words = pairs(rest, f"-netdev {kind}", ("hostfwd",))
            self._add("-netdev", words["id"], text)
            self.netdevs[words["id"]] = kind, words
        for text in domain.fsdevs:
            fsdev = parse(FsdevOptions, text.partition(",")[2], f"-fsdev {text}")
            self._add("-fsdev", fsdev.id, text)
            self.fsdevs[fsdev.id] = fsdev

    def _add(self, option: str, name: str, text: str) -> None:
        if (option, name) in self._words:
            raise UserError(f"{option} {text}: id={name} is taken; give each its own")
        self._words[option, name] = text

    def taken(self, option: str, name: str) -> None:
        """An element has it."""
        if self._words.pop((option, name), None) is None:
            raise UserError(f"{option} id={name}: two devices use it; give each one of its own")

    def rest(self) -> list[str]:
        """What is left, as arguments."""
        return [word for (option, _), text in self._words.items() for word in (option, text)]


def _has_words(drive: DriveOptions) -> bool:
    """Whether an element of libvirt's can say all of a -drive."""
    plain = drive.interface in ("virtio", "none") and not drive.snapshot and drive.locking and drive.index is None
    return plain and parse_server(drive.file, f"-drive file={drive.file}") is None


def _device(element: Element, name: str, words: dict[str, str], backends: _Backends) -> bool:
    """Make an element of a device, with its backend; False where libvirt has no words for it."""
    given = {key: value for key, value in words.items() if key != "id"}  # libvirt gives ids of its own
    if name == _DISK and given.keys() <= {"drive", "serial"} and (drive := backends.drives.get(given.get("drive", ""))):
        _disk(element, drive, given.get("serial", ""))
        backends.taken("-drive", given["drive"])
    elif name in _CARDS and given.keys() <= {"netdev", "mac"} and given.get("netdev") in backends.netdevs:
        kind, of_netdev = backends.netdevs[given["netdev"]]
        if of_netdev.keys() != {"user": {"id"}, "tap": {"id", "ifname"}}.get(kind):
            return False
        _interface(element, _CARDS[name], of_netdev.get("ifname", ""), given.get("mac", ""))
        backends.taken("-netdev", given["netdev"])
    elif name == _DIRECTORY and given.keys() == {"fsdev", "mount_tag"} and given["fsdev"] in backends.fsdevs:
        fsdev = backends.fsdevs[given["fsdev"]]
        _filesystem(element, fsdev.path, given["mount_tag"], fsdev.readonly)
        backends.taken("-fsdev", fsdev.id)
    elif name == _RANDOM and not given:
        rng = SubElement(element, "rng", model="virtio")
        SubElement(rng, "backend", model="random").text = "/dev/urandom"
    else:
        return name == _BALLOON and not given  # every domain has one
    return True


def _disk(element: Element, drive: DriveOptions, serial: str) -> None:
    number = len(element.findall("disk"))
    if number >= len(ascii_lowercase):
        raise UserError(f"-drive file={drive.file}: {number} disks are the most here; leave it out")
    block = os.path.exists(drive.file) and not os.path.isfile(drive.file)
    disk = SubElement(element, "disk", type="block" if block else "file", device="disk")
    options = {key: value for key, default in _DEFAULTS.items() if (value := getattr(drive, key)) != default}
    if options.get("discard") in ("on", "off"):
        options["discard"] = {"on": "unmap", "off": "ignore"}[options["discard"]]
    SubElement(disk, "driver", name="qemu", type=drive.format or "raw", **options)
    SubElement(disk, "source", {"dev" if block else "file": os.path.abspath(drive.file)})
    SubElement(disk, "target", dev=f"vd{ascii_lowercase[number]}", bus="virtio")
    if serial:
        SubElement(disk, "serial").text = serial
    if drive.readonly or drive.read_only:
        SubElement(disk, "readonly")


def _interface(element: Element, model: str, tap: str, mac: str) -> None:
    """A card at a TAP interface, or at what the host reaches."""
    interface = SubElement(element, "interface", type="ethernet" if tap else "user")
    if tap:
        there = os.path.exists(f"/sys/class/net/{tap}")
        SubElement(interface, "target", dev=tap, managed="no" if there else "yes")
    if mac:
        SubElement(interface, "mac", address=mac)
    SubElement(interface, "model", type=model)


def _filesystem(element: Element, path: str, tag: str, read_only: bool) -> None:
    filesystem = SubElement(element, "filesystem", type="mount", accessmode="squash")
    SubElement(filesystem, "source", dir=os.path.abspath(path))
    SubElement(filesystem, "target", dir=tag)
    if read_only:
        SubElement(filesystem, "readonly")


def _serial(element: Element, index: int, spec: str, domain: Domain) -> None:
    """A serial line, kept in a file as well; the first one is the console."""
    kind, _, rest = {"stdio": "pty", "mon:stdio": "pty"}.get(spec, spec).partition(":")
    if kind not in ("pty", "file", "unix", "tcp", "null"):
        raise UserError(f"-serial {spec}: libvirt opens serial lines itself; write pty, file:, unix:, tcp: or null")
    serial = SubElement(element, "serial", type=kind)
    if kind == "file":
        SubElement(serial, "source", path=os.path.abspath(rest))
    elif kind in ("unix", "tcp"):
        address, _ = listening(rest, f"-serial {spec}")
        if kind == "unix":
            SubElement(serial, "source", mode="bind", path=os.path.abspath(address))
        else:
            host, _, port = address.rpartition(":")
            SubElement(serial, "source", mode="bind", host=host.strip("[]") or "0.0.0.0", service=port)
            SubElement(serial, "protocol", type="raw")
    if domain.logs is not None and kind != "null":
        SubElement(serial, "log", file=str(domain.logs / f"{domain.name}-serial{index}.log"), append="on")
    SubElement(serial, "target", port=str(index))
