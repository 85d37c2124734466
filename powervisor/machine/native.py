"""The hypervisor half of a machine: vCPUs, and what devices let native code do by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..boards.board import Board, Built
from ..boards.cpus import CpuTopology
from ..devices import ns16550_native
from ..devices.device import Device
from ..devices.mpic import Mpic, callable_at
from ..devices.mpic_native import ENTRY_POINTS
from ..devices.ns16550 import Ns16550
from ..devices.pflash import Pflash
from ..hv import images
from ..hv.vm import Vm, word_addresses
from ..isa import cores as core_models
from ..memory.ram import Ram
from ..memory.space import PhysicalSpace

_NATIVES = [*ENTRY_POINTS.values(), *ns16550_native.ENTRY_POINTS.values()]


def new_vm(board: Board, cpus: CpuTopology, ram: Ram, cache: bool, progress: Callable[[str], None] | None) -> Vm:
    """vCPUs over RAM, with the code of the devices that have some."""
    return Vm(
        core_models.get(cpus.core), cpus.svr, cpus.cores, cpus.threads, ram.address, ram.size, _NATIVES, progress,
        board.clock_hz, cache, board.hypercalls,
    )  # fmt: skip


def keep_image(core: core_models.Core, build: bool = True) -> bool:
    """Have the image of a core's machines in the cache before there is one; tells whether it is there, and with `build`
    builds it where it is not."""
    return images.keep(core, _NATIVES, build)


def attach_devices(vm: Vm, mpic: Mpic, space: PhysicalSpace, built: Built) -> None:
    """Let native code serve the interrupt controller, registers that only hold bits, and flash that is read."""
    symbols = vm.engine.symbols
    mpic.bind_addresses(symbols)
    functions = (symbols[ENTRY_POINTS[name].name] for name in ("read", "write", "acknowledge", "proxy", "taken"))
    vm.attach_irqchip(mpic.state_address, mpic.base, mpic.size, *functions)
    for vcpu in vm.vcpus:
        mpic.attach(vcpu.index, *word_addresses(vcpu))
    space.on_write(vm.memory_written)
    fixed = list(built.devices.values())  # the windows of others may move
    for window in space.windows:
        if isinstance(window.target, Pflash):
            window.target.follow(vm.attach_rom(window.base, window.size, window.target.array_address))
        elif isinstance(window.target, Device) and window.target in fixed:
            vm.attach_registers(window.base, window.size, window.target.plain_registers())


def print_natively(vm: Vm, board: Board, uarts: Iterable[Ns16550]) -> None:
    """Let native code take what the guest prints; somebody has to drain it (`ns16550_drain`)."""
    for uart in uarts:
        read, write, take = (vm.engine.symbols[ns16550_native.ENTRY_POINTS[n].name] for n in ("read", "write", "take"))
        uart.bind(callable_at(ns16550_native.uart_take, take), callable_at(ns16550_native.uart_write, write))
        vm.attach_port(uart.transmitter.address, board.base(board.part(uart.name)), uart.size, read, write)
