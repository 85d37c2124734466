"""Guest memory accesses of instructions: the fast path through the soft TLB, and the exact slow one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..isa.registers import IVOR, MAS2, MCSR, MSR, SPR
from ..native.ints import u8, u16, u32, u64
from ..native.lang import Abort, Static, at, atomic_add, bswap, call_host, field_addr, likely, native, unlikely
from ..native.lang import load as load_host
from ..native.lang import store as store_host
from .debug import debug_data
from .interrupts import enter
from .mmu import (
    PAGE,
    READ,
    WRITE,
    current_context,
    data_space,
    fill_data,
    in_ram,
    physical,
    soft_slot,
    soft_tag,
    translate,
)
from .ops import address, mode64, optimistic, to_handler
from .state import Bank, ExitReason, PlainRegister, Port, Rom, SoftData, TlbEntry, Vcpu
from .trace import Trace, TraceEvent, emit

if TYPE_CHECKING:
    T = Any  # the type a static parameter names

MMIO_FAILED = 0xFFFF_FFFF
"""Size of a finished access in the log that found no device: a bus error."""


@native(inline=True)
def soft_entry(cpu: Vcpu, ea: u64) -> SoftData:
    """The soft TLB entry an address may be in."""
    return current_context(cpu).data[soft_slot(ea)]


@native(inline=True)
def crosses(where: u64, size: u32) -> bool:
    """Whether an access goes on in the next page; for an aligned one that is seen by its lowest bits."""
    return where & (u64(size) - 1) != 0 and where & 0xFFF > u64(0x1000) - u64(size)


@native(inline=True)
def load(cpu: Vcpu, T: Static, ea: u64) -> T:
    """Load an unsigned integer from guest memory (u8 .. u64), in the page's byte order."""
    where = address(cpu, ea)
    if optimistic() and not mode64(cpu):
        addend = current_context(cpu).low_read[where >> 12]
        if unlikely(addend == 0) or unlikely(crosses(where, u32(T.size))):
            to_handler()
        return bswap(load_host(T, where + addend))
    soft = soft_entry(cpu, where)
    if likely(soft.read == soft_tag(where + (T.size - 1))):
        return bswap(load_host(T, where + soft.addend))
    return T(load_slow(cpu, where, u32(T.size)))


@native(inline=True)
def store(cpu: Vcpu, T: Static, ea: u64, value: T) -> None:
    """Store an unsigned integer to guest memory (u8 .. u64), in the page's byte order."""
    where = address(cpu, ea)
    if optimistic() and not mode64(cpu):
        addend = current_context(cpu).low_write[where >> 12]
        if unlikely(addend == 0) or unlikely(crosses(where, u32(T.size))):
            to_handler()
        store_host(T, where + addend, bswap(value))
        return
    soft = soft_entry(cpu, where)
    if likely(soft.write == soft_tag(where + (T.size - 1))):
        store_host(T, where + soft.addend, bswap(value))
    else:
        store_slow(cpu, where, u64(value), u32(T.size))


@native
def read_ram(host: u64, size: u32) -> u64:
    """A big-endian value at a host address."""
    if size == 1:
        return u64(load_host(u8, host))
    if size == 2:
        return u64(bswap(load_host(u16, host)))
    if size == 4:
        return u64(bswap(load_host(u32, host)))
    return bswap(load_host(u64, host))


@native
def write_ram(host: u64, value: u64, size: u32) -> None:
    """Put a big-endian value at a host address."""
    if size == 1:
        store_host(u8, host, u8(value))
    elif size == 2:
        store_host(u16, host, bswap(u16(value)))
    elif size == 4:
        store_host(u32, host, bswap(u32(value)))
    else:
        store_host(u64, host, bswap(value))


@native
def reverse_bytes(value: u64, size: u32) -> u64:
    """The low `size` bytes in reverse order."""
    return bswap(value) >> u64(64 - 8 * (size & 15)) if size < 8 else bswap(value)


@native(cold=True)
def load_slow(cpu: Vcpu, ea: u64, size: u32) -> u64:
    """Load with everything checked: debug events, page crossings, faults, byte order, devices."""
    return load_space(cpu, ea, size, data_space(cpu), u32(0))


@native(cold=True)
def load_space(cpu: Vcpu, ea: u64, size: u32, space: u64, esr: u32) -> u64:
    """Load in a space (the current one or an external PID's)."""
    debug_data(cpu, ea, size, False)
    if (ea + u64(size) - 1) & PAGE == ea & PAGE:
        return load_page(cpu, ea, size, space, esr)
    value = u64(0)
    little = False
    for n in range(size):
        where = address(cpu, ea + u64(n))
        entry = at(TlbEntry, translate(cpu, where, space, u32(READ), esr))
        if n == 0:
            little = entry.mas2 & MAS2.E != 0
        value = value << 8 | load_page(cpu, where, u32(1), space, esr)
    return reverse_bytes(value, size) if little else value


@native(cold=True)
def load_page(cpu: Vcpu, ea: u64, size: u32, space: u64, esr: u32) -> u64:
    """Load from one page."""
    entry = at(TlbEntry, translate(cpu, ea, space, u32(READ), esr))
    pa = physical(entry, ea)
    if in_ram(cpu, pa):
        if space == data_space(cpu):
            fill_data(cpu, ea, entry, space)
        value = read_ram(cpu.vm.ram + pa, size)
    else:
        value = mmio_read(cpu, pa, size)
    if entry.mas2 & MAS2.E:
        return reverse_bytes(value, size)
    return value


@native(cold=True)
def store_slow(cpu: Vcpu, ea: u64, value: u64, size: u32) -> None:
    """Store with everything checked."""
    store_space(cpu, ea, value, size, data_space(cpu), u32(0))


@native(cold=True)
def store_space(cpu: Vcpu, ea: u64, value: u64, size: u32, space: u64, esr: u32) -> None:
    """Store in a space; a store that crosses a page writes nothing unless both pages allow it."""
    debug_data(cpu, ea, size, True)
    if (ea + u64(size) - 1) & PAGE == ea & PAGE:
        store_page(cpu, ea, value, size, space, esr)
        return
    entry = at(TlbEntry, translate(cpu, ea, space, u32(WRITE), esr))
    translate(cpu, address(cpu, ea + u64(size) - 1), space, u32(WRITE), esr)
    data = reverse_bytes(value, size) if entry.mas2 & MAS2.E else value
    for n in range(size):
        byte = data >> u64(8 * (size - 1 - n)) & 0xFF
        store_page(cpu, address(cpu, ea + u64(n)), byte, u32(1), space, esr)


@native(cold=True)
def store_page(cpu: Vcpu, ea: u64, value: u64, size: u32, space: u64, esr: u32) -> None:
    """Store to one page."""
    entry = at(TlbEntry, translate(cpu, ea, space, u32(WRITE), esr))
    pa = physical(entry, ea)
    data = reverse_bytes(value, size) if entry.mas2 & MAS2.E else value
    if in_ram(cpu, pa):
        if space == data_space(cpu):
            fill_data(cpu, ea, entry, space)
        write_ram(cpu.vm.ram + pa, data, size)
    else:
        mmio_write(cpu, pa, data, size)


# ---- devices -------------------------------------------------------------------------------------------------------


@native(inline=True)
def irqchip_offset(cpu: Vcpu, pa: u64, size: u32) -> u64:
    """Offset of an access in the native interrupt controller, all ones elsewhere."""
    vm = cpu.vm
    if size == 4 and vm.irqchip_read and pa - vm.irqchip_pa < vm.irqchip_size:
        return pa - vm.irqchip_pa
    return u64(0xFFFF_FFFF_FFFF_FFFF)


@native
def port_of(cpu: Vcpu, pa: u64, size: u32) -> u64:
    """Address of the Port of an access, 0 where there is none or the access must leave.

    One that may be done again, and one that was done, go by the log.
    """
    if size != 1 or cpu.restartable | cpu.mmio_done != 0:
        return u64(0)
    where = cpu.vm.ports
    while where != 0:
        port = at(Port, where)
        if pa - port.pa < port.length:
            return where
        where = port.next
    return u64(0)


@native
def plain_register(cpu: Vcpu, pa: u64, size: u32) -> u64:
    """Address of the PlainRegister that an access names as a whole, 0 where there is none or the access must leave."""
    if cpu.restartable | cpu.mmio_done != 0:
        return u64(0)
    where = cpu.vm.banks
    while where != 0:
        bank = at(Bank, where)
        if pa - bank.pa < bank.length:
            found = load_host(u64, bank.registers + (pa - bank.pa) * 8)
            return found if found != 0 and at(PlainRegister, found).length == size else u64(0)
        where = bank.next
    return u64(0)


@native
def rom(cpu: Vcpu, pa: u64) -> u64:
    """Host address of a device's memory at `pa`, 0 where there is none or the access must leave.

    One that was done by the log is taken from there, and one that was done here is done here again.
    """
    where = cpu.vm.roms
    while where != 0:
        found = at(Rom, where)
        if pa - found.pa < found.length:
            done_before = cpu.mmio_cursor < cpu.mmio_done
            by_log = done_before and cpu.mmio_log[cpu.mmio_cursor].pa == pa
            if by_log or not done_before and found.open == 0:
                return u64(0)
            return found.host + (pa - found.pa)
        where = found.next
    return u64(0)


NOT_HERE = 0xFFFF_FFFF_FFFF_FFFF
"""What no read of a register that native code answers for gives: those have 32 bits at most."""


@native(cold=True)
def mmio_read(cpu: Vcpu, pa: u64, size: u32) -> u64:
    """Read a device: what native code can answer for natively, the rest by an exit and re-execution."""
    value = native_read(cpu, pa, size)
    if value != NOT_HERE:
        if cpu.trace & Trace.MMIO:
            emit(cpu, u32(TraceEvent.MMIO), size, cpu.pc, pa, value, u64(0), u64(0), u64(0))
        return value
    where = rom(cpu, pa)
    if where != 0:
        return read_ram(where, size)
    return mmio_exit(cpu, pa, u64(0), size, u32(READ))


@native(cold=True)
def native_read(cpu: Vcpu, pa: u64, size: u32) -> u64:
    """What a register holds that native code answers for, or NOT_HERE."""
    offset = irqchip_offset(cpu, pa, size)
    if offset < 0x1_0000_0000:
        return u64(call_host(u32, cpu.vm.irqchip_read, cpu.vm.irqchip, u32(offset), cpu.index))
    where = port_of(cpu, pa, size)
    if where != 0:
        port = at(Port, where)
        value = call_host(u32, port.read, port.state, u32(pa - port.pa))
        if value < 0x100:
            if cpu.timing != 0:
                atomic_add(u64, field_addr(port, "reads", pa - port.pa & 15), u64(1))
            return u64(value)
    found = plain_register(cpu, pa, size)
    if found != 0:
        register = at(PlainRegister, found)
        if cpu.timing != 0:
            atomic_add(u64, field_addr(register, "reads"), u64(1))
        return load_host(u64, register.value) & register.mask
    return u64(NOT_HERE)


@native(cold=True)
def mmio_write(cpu: Vcpu, pa: u64, value: u64, size: u32) -> None:
    """Write a device register."""
    if not native_write(cpu, pa, value, size):
        mmio_exit(cpu, pa, value, size, u32(WRITE))
    elif cpu.trace & Trace.MMIO:
        emit(cpu, u32(TraceEvent.MMIO), size, cpu.pc, pa, value, u64(1), u64(0), u64(0))


@native(cold=True)
def native_write(cpu: Vcpu, pa: u64, value: u64, size: u32) -> bool:
    """Write a register that native code answers for; whether it is one."""
    offset = irqchip_offset(cpu, pa, size)
    if offset < 0x1_0000_0000:
        call_host(None, cpu.vm.irqchip_write, cpu.vm.irqchip, u32(offset), u32(value), cpu.index)
        return True
    where = port_of(cpu, pa, size)
    if where != 0:
        port = at(Port, where)
        if call_host(u32, port.write, port.state, u32(pa - port.pa), u32(value)) != 0:
            if cpu.timing != 0:
                atomic_add(u64, field_addr(port, "writes", pa - port.pa & 15), u64(1))
            return True
    found = plain_register(cpu, pa, size)
    if found != 0:
        register = at(PlainRegister, found)
        if cpu.timing != 0:
            atomic_add(u64, field_addr(register, "writes"), u64(1))
        store_host(u64, register.value, load_host(u64, register.value) & ~register.mask | value & register.mask)
        return True
    return False


@native(cold=True)
def mmio_exit(cpu: Vcpu, pa: u64, value: u64, size: u32, kind: u32) -> u64:
    """The result of a device access (READ, WRITE, EXECUTE) done for this instruction, or the exit that asks for it."""
    if cpu.mmio_cursor < cpu.mmio_done:
        done = cpu.mmio_log[cpu.mmio_cursor]
        cpu.mmio_cursor += 1
        if done.length == MMIO_FAILED:
            source = u32(MCSR.LD) if kind == READ else u32(MCSR.ST) if kind == WRITE else u32(MCSR.IF)
            machine_check(cpu, pa, u32(MCSR.MAV) | source)
        return done.data
    if cpu.exit_reason == 0:  # else another exit is due first, a watchdog's reset for one
        cpu.mmio_pa = pa
        cpu.mmio_data = value
        cpu.mmio_size = size
        cpu.mmio_write = u32(kind == WRITE)
        cpu.exit_reason = u32(ExitReason.MMIO)
    raise Abort


@native(cold=True)
def machine_check(cpu: Vcpu, pa: u64, syndrome: u32) -> None:
    """Machine check at this instruction; checkstop when MSR[ME]=0 (and GS=0)."""
    if cpu.msr & (MSR.ME | MSR.GS) == 0:
        cpu.exit_reason = u32(ExitReason.CHECKSTOP)
        raise Abort
    cpu.spr[SPR.MCSR] = cpu.spr[SPR.MCSR] | u64(syndrome)
    cpu.spr[SPR.MCAR] = pa & 0xFFFF_FFFF
    cpu.spr[SPR.MCARU] = pa >> 32
    cpu.mmio_done = u32(0)
    enter(cpu, u32(IVOR.MACHINE_CHECK), cpu.pc)
    raise Abort
