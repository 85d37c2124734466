"""Native code over the cases of `qemu_user`: same registers, same memory at the same addresses, as the oracle has."""

from __future__ import annotations

import struct
from functools import cache
from typing import Any

from powervisor.isa import cores
from powervisor.isa.registers import IVOR, SPR
from powervisor.translate.engine import Engine
from powervisor.translate.oracle import Oracle
from powervisor.vcpu import fpscr
from powervisor.vcpu.state import ExitReason

from .oracle_user import load_state, saved_state, signal_of, user_msr
from .qemu_user import BUFFER, BUFFER_SIZE, CODE, Case, Outcome

RAM = 4 << 20
VECTORS = 0x3_0000
UNLIMITED = 1 << 40
_SC = 0x4400_0002
_STORE_DEVICE = 0x9000_8000  # stw r0,-0x8000(0): every vector leaves native code by it


class NativeUser:
    """A vCPU in user mode whose memory is mapped one to one."""

    def __init__(self, core: str) -> None:
        self.core = core
        self.machine = Oracle(core, RAM)  # for its memory and its state; nothing is executed by it
        self.cpu: Any = self.machine.cpu
        self.vm = self.machine.vm
        self.engine = Engine(cores.get(core), self.vm, [fpscr.settle_outside])
        for number, (ea, pa, mask) in enumerate(((0, 0, RAM - 1), (0xFFFF_8000, RAM, 0xFFF))):
            entry = self.cpu.tlb.tlb1[number]
            entry.ea, entry.pa, entry.mask = ea, pa, mask
            entry.mas1, entry.mas3, entry.valid = 0x8000_0000, 0x3F, 1
        self.cpu.tlb.tlb1_used = 2
        self.cpu.spr[SPR.IVPR] = VECTORS
        for number in range(16):
            self.cpu.spr[SPR.IVOR0 + number] = number << 4
            self.machine.ram[VECTORS + (number << 4) : VECTORS + (number << 4) + 4] = _STORE_DEVICE.to_bytes(4, "big")

    def run(self, case: Case, address: int = CODE, wide: bool = True, cold: bool = False) -> Outcome:
        """Execute a case as translated code; `cold`: with no translation of addresses cached."""
        cpu, ram = self.cpu, self.machine.ram
        load_state(cpu, case.before)
        ram[BUFFER : BUFFER + BUFFER_SIZE] = bytes(case.before.memory)
        words = [*case.words, _SC]
        ram[address : address + 4 * len(words)] = struct.pack(f">{len(words)}I", *words)
        self.engine.drop_range(self.vm.address, address, 4 * len(words))
        cpu.msr, cpu.pc, cpu.reserve_valid = user_msr(self.core, wide), address, 0
        cpu.mmio_done = cpu.mmio_cursor = cpu.exit_reason = cpu.requests = 0
        if cold:
            self.engine.forget_all(cpu.address)
        self.engine.update_mode(cpu.address)
        cpu.left, cpu.slice, cpu.budget = UNLIMITED, 0, 0
        self.engine.run(cpu.address)
        while cpu.exit_reason == ExitReason.HOT:
            self.engine.hot(cpu)
            cpu.exit_reason = 0
            self.engine.run(cpu.address)
        assert cpu.exit_reason == ExitReason.MMIO, f"exit {int(cpu.exit_reason)} at {int(cpu.pc):#x}"
        number = (int(cpu.pc) - VECTORS) >> 4
        if number == IVOR.SYSTEM_CALL:
            return Outcome(saved_state(cpu, ram[BUFFER : BUFFER + BUFFER_SIZE]), 0, address)
        return Outcome(None, signal_of(cpu, number), address)


@cache
def native(core: str) -> NativeUser:
    """One for each core: translated code is kept."""
    return NativeUser(core)
