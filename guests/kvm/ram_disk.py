"""RAM disks for a Linux guest with another Linux in them, which the monitor boots by the guest's KVM."""

import gzip
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from powervisor.boards.cpus import CpuTopology
from powervisor.boards.devicetree import Node
from powervisor.boards.ppce500 import PPCE500
from powervisor.boot.loader import BootOptions, plan_boot
from powervisor.guests import catalogue
from powervisor.guests.archive import Cpio
from powervisor.guests.kvm import vmm
from powervisor.isa import cores
from powervisor.memory.ram import MIB

RUN = "/kvm/run"
"""The script that boots the inner guest; it ends with the monitor's status."""
WORDS = "console=ttyS0 nospectre_v2"
"""Of inner kernels' command lines. Linux flushes the branch predictor at each system call, by a register that KVM
emulates; there is none to flush."""

_BOARD = PPCE500._replace(
    parts=tuple(part for part in PPCE500.parts if part.name in ("mpic", "serial0", "gpio", "power-off", "spin-table")),
    expansion={},
)
"""What the monitor and KVM emulate of the board."""
_HYPERCALL = (0x4400_0022, *3 * (0x6000_0000,))
"""sc 1 and three nops: how a guest of KVM calls it on cores with the embedded hypervisor category."""


@dataclass(frozen=True)
class Inner:
    """A virtual machine inside. With `idle` its kernel idles by hypercall, else by the wait instruction."""

    guest: str
    cpus: int = 1
    memory: int = 128 * MIB
    append: str = f"{WORDS} stop"
    idle: bool = True
    more: bytes = b""
    """Another archive for its RAM disk, which adds to the guest's."""
    program: Path | None = None
    """An ELF file to boot instead of the guest's kernel and RAM disk."""
    script: str = RUN


def build(outer: str, *inners: Inner) -> bytes:
    """The RAM disk of Linux guest `outer` with virtual machines in it, each with its script (`RUN`).

    Makes what is missing. Raises UserError.
    The kernel unpacks one archive after the other; the second adds to the first.
    """
    chosen = catalogue.get(outer)
    bits = cores.get(chosen.options["cpu"]).bits
    (monitor,) = catalogue.build(catalogue.Guest(outer, "", files={"vmm": vmm.artifact(bits)}))
    _, initrd = catalogue.build(chosen)
    cpio = Cpio()
    cpio.device("dev/kvm", 10, 232)
    cpio.file("kvm/vmm", monitor.read_bytes(), 0o755)
    for inner in inners:
        _add(cpio, inner)
    return initrd.read_bytes() + gzip.compress(cpio.data(), 1, mtime=0)


def _add(cpio: Cpio, inner: Inner) -> None:
    """The inner guest's memory, a file for each part, and the script with the words that put them there."""
    guest = catalogue.get(inner.guest)
    core = cores.get(guest.options["cpu"])
    with TemporaryDirectory(prefix="powervisor-kvm-") as directory:
        plan = plan_boot(_files(guest, inner, Path(directory)), inner.memory, _tree(core, inner), core.bits, inner.cpus)
    entry = plan.entries[0]
    words = ["/kvm/vmm", "-m", str(inner.memory // MIB), "-c", str(inner.cpus)]
    words += ["-e", hex(entry.pc), "-t", hex(entry.gpr[3]), "-w", hex(entry.map_size)]
    for address, data in plan.blobs:
        name = f"{inner.script.lstrip('/')}-{address:x}"
        cpio.file(name, data)
        words.append(f"/{name}@{address:#x}")
    mount = "mount -t debugfs none /sys/kernel/debug 2>/dev/null  # where the kernel has one: what exits took"
    cpio.file(inner.script.lstrip("/"), f"#!/bin/sh\n{mount}\nexec {' '.join(words)}\n".encode(), 0o755)


def _files(guest: catalogue.Guest, inner: Inner, scratch: Path) -> BootOptions:
    if inner.program is not None:
        return BootOptions(kernel=inner.program)
    kernel, initrd = catalogue.build(guest)
    if inner.more:
        both = scratch / "initrd"
        both.write_bytes(initrd.read_bytes() + inner.more)
        initrd = both
    return BootOptions(kernel=kernel, initrd=initrd, append=inner.append)


def _tree(core: cores.Core, inner: Inner) -> Node:
    svr = _BOARD.core(core.name).svr
    tree = _BOARD.describe(CpuTopology(core.name, inner.cpus, 1, core.line_size, core.pvr, svr), inner.memory)
    hypervisor = tree.child("hypervisor").set("compatible", "linux,kvm").set("hcall-instructions", *_HYPERCALL)
    if inner.idle:
        hypervisor.set("has-idle")
    return tree
