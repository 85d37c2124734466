"""Where everything goes in RAM, and how CPUs enter: the rules of the ppce500 board (ePAPR client)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import NamedTuple

from powervisor.boards.devicetree import Node, Value, amend, cells64, check_header, flatten
from powervisor.boot import elf, uimage
from powervisor.boot.image import Image, Segment, gunzip, read_file
from powervisor.errors import UserError, argument
from powervisor.memory.ram import MIB
from powervisor.memory.space import PhysicalSpace
from powervisor.properties import NUMBER, parse, prop

EPAPR_MAGIC = 0x4550_4150
STACK_TOP = 16 * MIB - 8
RAW_FIRMWARE_BASE = 0x00F0_0000
"""Where a -bios file without format goes and is entered: U-Boot's text base on this board."""

_FIRMWARE_END = 32 * MIB  # firmware uses the RAM below
_INITRD_PAD, _INITRD_ALIGN = 32 * MIB, 16 * MIB
_DTB_PAD, _DTB_ALIGN, _DTB_ROOM = 24 * MIB, MIB, MIB
_FALLBACK_ALIGN = 64 * 1024
_BSS_ROOM = 8 * MIB
_GZIP = b"\x1f\x8b"
_FDT = b"\xd0\x0d\xfe\xed"


@dataclass(frozen=True)
class LoaderDevice:
    """`-device loader,file=F[,addr=A][,cpu-num=N][,force-raw=on]`: a file put in RAM; CPU N starts in it."""

    file: str = prop("", "the file", required=True)
    addr: int | None = prop(None, "physical address for a file that does not say it itself", NUMBER)
    cpu_num: int | None = prop(None, "the CPU that starts in it", NUMBER)
    force_raw: bool = prop(False, "take the file as it is, whatever its format")

    @property
    def where(self) -> str:
        """The option, for messages."""
        return f"{argument('loaders')},file={self.file}"

    @classmethod
    def parse(cls, text: str) -> LoaderDevice:
        """From what follows `-device loader,`. Raises UserError."""
        return parse(cls, text, argument("loaders"))


class BootOptions(NamedTuple):
    """What the user gave, in QEMU's words."""

    kernel: str | os.PathLike[str] | None = None
    bios: str | os.PathLike[str] | None = None
    initrd: str | os.PathLike[str] | None = None
    append: str | None = None
    dtb: str | os.PathLike[str] | None = None
    loaders: tuple[LoaderDevice, ...] = ()


class EntryState(NamedTuple):
    """How a CPU enters: all else is 0, one TLB1 entry maps effective 0 to physical 0, `map_size` bytes."""

    pc: int
    gpr: dict[int, int]
    map_size: int


class BootPlan:
    """What goes where.

    `blobs` are (physical address, bytes); `zeros` the ranges (address, length) that images want zero, as
    RAM is when new; `entries` the entry states by vCPU, those not named wait in the spin table; `placed`
    names each range (what, physical address, size) for people.
    """

    def __init__(self) -> None:
        self.blobs: list[tuple[int, bytes]] = []
        self.zeros: list[tuple[int, int]] = []
        self.entries: dict[int, EntryState] = {}
        self.placed: list[tuple[str, int, int]] = []
        self.device_tree = b""

    def load(self, space: PhysicalSpace) -> None:
        """Write everything to RAM, at start and again after each reset."""
        for pa, length in self.zeros:
            space.clear(pa, length)
        for pa, data in self.blobs:
            space.write_bytes(pa, data)


class _Layout:
    """Ranges taken so far; refuses overlaps and finds room."""

    def __init__(self, ram_size: int) -> None:
        self.ram_size = ram_size
        self.taken: list[tuple[int, int, str]] = []

    def take(self, what: str, *ranges: tuple[int, int]) -> None:
        """Take the ranges of one thing, which may overlap each other but nothing else."""
        for start, end in ranges:
            if other := self.conflict(start, end):
                raise UserError(
                    f"{what} (0x{start:x}..0x{end:x}) overlaps {other[2]} (0x{other[0]:x}..0x{other[1]:x}); move one"
                )
        self.taken += [(start, end, what) for start, end in ranges]

    def conflict(self, start: int, end: int) -> tuple[int, int, str] | None:
        return next((t for t in self.taken if t[0] < end and start < t[1]), None)

    def place(self, what: str, size: int, preferred: int, floor: int) -> int:
        """Room for `size` bytes: at `preferred`, else low above `floor`, leaving a kernel's bss alone if possible."""
        floor = _align_up(floor, _FALLBACK_ALIGN)
        for start in (preferred, floor + _BSS_ROOM, floor):
            while start + size <= self.ram_size:
                other = self.conflict(start, start + size)
                if other is None:
                    self.take(what, (start, start + size))
                    return start
                start = _align_up(other[1], _FALLBACK_ALIGN)
        free = max(self.ram_size - floor, 0)
        raise UserError(
            f"{what}: {size} bytes do not fit in the {free} bytes of RAM above 0x{floor:x}; "
            f"give a larger {argument('memory')} than {self.ram_size >> 20}M"
        )


def plan_boot(options: BootOptions, ram_size: int, tree: Node, bits: int = 64, cpus: int = 1) -> BootPlan:
    """Place images, initrd and device tree for a machine with `cpus` vCPUs of `bits`-bit cores.

    `tree` is the board's and gets /chosen completed; `options.dtb` replaces it. Raises UserError.
    """
    plan, layout = BootPlan(), _Layout(ram_size)
    image = _boot_image(options, ram_size, bits)
    if image:
        _add_image(plan, layout, image)
    starts = {0: image} if image else {}
    for device in options.loaders:
        loaded = _loader_image(device, ram_size, bits)
        _add_image(plan, layout, loaded)
        if device.cpu_num is not None:
            if not 0 <= device.cpu_num < cpus:
                raise UserError(f"{device.where}: cpu-num={device.cpu_num}, and there are CPUs 0..{cpus - 1}")
            starts[device.cpu_num] = loaded
        image = image or loaded
    if image is None or 0 not in starts:
        raise UserError(
            f"nothing for CPU 0 to run: give {argument('kernel')}, {argument('bios')} or "
            f"{argument('loaders')},file=F,cpu-num=0"
        )

    end = image.end
    chosen: dict[str, tuple[Value, ...]] = {}
    if options.append is not None or not options.dtb:
        chosen["bootargs"] = (options.append or "",)
    if options.bios:
        end = max(end, _FIRMWARE_END)
    if options.kernel:
        if options.bios:
            kernel = read_file(argument("kernel"), options.kernel)
            at = layout.place(f"{argument('kernel')} {options.kernel}", len(kernel), end, end)
            plan.blobs.append((at, kernel))
            span = at, len(kernel)
            end = at + len(kernel)
        else:
            span = image.base, image.end - image.base
        chosen["qemu,boot-kernel"] = (*cells64(span[0]), *cells64(span[1]))

    template = read_file(argument("dtb"), options.dtb) if options.dtb else flatten(tree)
    if options.dtb:
        check_header(template, f"{argument('dtb')} {options.dtb}")
    room = _align_up(max(_DTB_ROOM, len(template) + len(options.append or "") + _FALLBACK_ALIGN), _FALLBACK_ALIGN)
    preferred = (image.end + _DTB_PAD) // _DTB_ALIGN * _DTB_ALIGN
    dtb_at = layout.place("device tree", room, preferred, image.end)
    if options.initrd:
        initrd = read_file(argument("initrd"), options.initrd)
        where = f"{argument('initrd')} {options.initrd}"
        at = layout.place(where, len(initrd), (end + _INITRD_PAD) // _INITRD_ALIGN * _INITRD_ALIGN, end)
        plan.blobs.append((at, initrd))
        for name, address in (("linux,initrd-start", at), ("linux,initrd-end", at + len(initrd))):
            chosen[name] = (address,) if address < 1 << 32 else cells64(address)

    if options.dtb:
        plan.device_tree = amend(template, {"/chosen": chosen}, f"{argument('dtb')} {options.dtb}")
    else:
        for name, value in chosen.items():
            tree.child("chosen").set(name, *value)
        plan.device_tree = flatten(tree)
    plan.blobs.append((dtb_at, plan.device_tree))
    plan.placed = [(what, start, stop - start) for start, stop, what in sorted(layout.taken)]
    for cpu, start in starts.items():
        map_size = initial_map_size(max(dtb_at + len(plan.device_tree), start.entry))
        gpr = {1: STACK_TOP, 3: dtb_at, 6: EPAPR_MAGIC, 7: map_size} | ({2: start.toc} if start.toc else {})
        plan.entries[cpu] = EntryState(start.entry, gpr, map_size)
    return plan


def initial_map_size(end: int) -> int:
    """The smallest TLB1 page of 4^n KiB that covers `end` bytes and more."""
    size = 4096
    while size <= end:
        size *= 4
    return size


def _boot_image(options: BootOptions, ram_size: int, bits: int) -> Image | None:
    """What CPU 0 enters: the firmware if there is one, else the kernel."""
    if options.bios:
        where = f"{argument('bios')} {options.bios}"
        data = read_file(argument("bios"), options.bios)
        return _executable(data, where, ram_size, bits) or _raw(data, where, RAW_FIRMWARE_BASE, ram_size)
    if not options.kernel:
        return None
    where = f"{argument('kernel')} {options.kernel}"
    data = read_file(argument("kernel"), options.kernel)
    if data[:2] == _GZIP:
        data = gunzip(data, ram_size, where)
    if image := _executable(data, where, ram_size, bits):
        return image
    if data[:4] == _FDT:
        raise UserError(f"{where}: a device tree or FIT image; FIT needs firmware that knows it ({argument('bios')})")
    raw = f"{argument('loaders')},file=F,addr=A,cpu-num=0"
    raise UserError(f"{where}: neither ELF nor uImage; load a raw binary with {raw}")


def _executable(data: bytes, where: str, ram_size: int, bits: int) -> Image | None:
    if data[:4] == elf.MAGIC:
        return elf.load(data, where, ram_size, bits)
    if data[:4] == uimage.MAGIC:
        return uimage.load(data, where, ram_size, bits)
    return None


def _loader_image(device: LoaderDevice, ram_size: int, bits: int) -> Image:
    data = read_file(argument("loaders"), device.file)
    if not device.force_raw and (image := _executable(data, device.where, ram_size, bits)):
        return image
    if device.addr is None:
        raise UserError(f"{device.where}: a raw file needs addr=, the physical address it goes to")
    return _raw(data, device.where, device.addr, ram_size)


def _raw(data: bytes, where: str, address: int, ram_size: int) -> Image:
    if not data:
        raise UserError(f"{where}: the file is empty")
    return Image(where, address, (Segment(address, data, len(data)),)).check_fits(ram_size)


def _add_image(plan: BootPlan, layout: _Layout, image: Image) -> None:
    layout.take(image.where, *((segment.pa, segment.end) for segment in image.segments))
    for segment in image.segments:
        if segment.data:
            plan.blobs.append((segment.pa, segment.data))
        if segment.size > len(segment.data):
            plan.zeros.append((segment.pa + len(segment.data), segment.size - len(segment.data)))


def _align_up(value: int, align: int) -> int:
    return -(-value // align) * align
