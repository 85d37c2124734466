"""What reading and writing each of the MPIC's registers does. Everything here runs under the state's lock.

Registers are 32 bits wide; `accessor` is the CPU whose access it is.
"""

from __future__ import annotations

from powervisor.devices.mpic_delivery import (
    PROXY_MODE,
    acknowledge,
    all_cpus,
    end_of_interrupt,
    level_sensitive,
    notify,
    raise_event,
    rebuild,
    send_ipi,
    set_level,
    update_all_outputs,
    update_errors,
    update_input,
    update_outputs,
)
from powervisor.devices.mpic_registers import (
    BRR1_VALUE,
    EXTERNAL,
    FRR_LAST_SOURCE,
    FRR_VERSION,
    IPIS,
    MESSAGE_BLOCKS,
    MESSAGE_SOURCE,
    MESSAGES_PER_BLOCK,
    MSI_SOURCE,
    MSIRS,
    MSIRS_PER_BANK,
    SOURCES,
    TIMER_GROUPS,
    TIMERS_PER_GROUP,
    Ctpr,
    Gcr,
    Ilr,
    Ivpr,
    Msiir,
    Offset,
    Tcr,
)
from powervisor.devices.mpic_state import (
    INPUTS,
    IPI0,
    PRIORITIES,
    TIMER0,
    Event,
    Level,
    MpicState,
    Notify,
)
from powervisor.devices.mpic_timers import advance, reset_timers, running, write_base
from powervisor.native.ints import u32
from powervisor.native.lang import native

ACTIVITY = Ivpr.activity.mask
POLARITY = Ivpr.polarity.mask
SENSE = Ivpr.sense.mask
IVPR_ALL = Ivpr.mask.mask | Ivpr.priority.mask | Ivpr.vector.mask
IVPR_RESET = Ivpr.reset_value
TCR_WRITABLE = Tcr.roll_over.mask | Tcr.clock_ratio.mask | Tcr.cascade.mask
STEP = 0x10
"""Registers stand 16 bytes apart."""


@native
def reset_all(state: MpicState) -> None:
    """The state after power-on; what devices drive on the pins stays."""
    state.gcr = u32(0)
    state.pir = u32(0)
    state.spurious_vector = u32(Ivpr.vector.mask)
    state.error_mask = u32(0xFFFF_FFFF)
    for n in range(u32(INPUTS)):
        source = state.inputs[n]
        source.ivpr = u32(IVPR_RESET | POLARITY) if EXTERNAL <= n and n < IPI0 else u32(IVPR_RESET)
        source.idr = u32(0) if n >= IPI0 and n < TIMER0 else u32(1)
        source.ilr = u32(0)
        source.level = source.level & Level.PIN
        source.pending = u32(0)
        if n < IPI0 and level_sensitive(source, u32(n)):
            source.pending = u32(source.level != 0)
        source.in_service = u32(0)
    for index in range(state.cpu_count):
        cpu = state.cpus[index]
        cpu.ctpr = u32(Ctpr.reset_value)
        cpu.in_service = u32(0)
        for priority in range(u32(PRIORITIES)):
            cpu.service[priority] = u32(0)
    for block in range(u32(MESSAGE_BLOCKS)):
        messages = state.messages[block]
        for i in range(u32(MESSAGES_PER_BLOCK)):
            messages.msgr[i] = u32(0)
        messages.enable = u32(0)
        messages.status = u32(0)
    for i in range(u32(MSIRS)):
        state.msir[i] = u32(0)
    reset_timers(state)
    rebuild(state)


# ---- a source's three registers ------------------------------------------------------------------------------------


@native
def read_ivpr(state: MpicState, n: u32) -> u32:
    """IVPR, with ACTIVITY as it is now: requested (masked or not) or in service."""
    source = state.inputs[n]
    if source.pending | source.in_service:
        return source.ivpr | ACTIVITY
    return source.ivpr


@native
def write_ivpr(state: MpicState, n: u32, value: u32) -> None:
    """IVPR; internal sources are active high without a choice, IPIs and timers have neither polarity nor sense."""
    source = state.inputs[n]
    before = source.ivpr
    if n < EXTERNAL:
        source.ivpr = value & (IVPR_ALL | POLARITY | SENSE)
        if (before ^ value) & SENSE:
            source.pending = u32(value & SENSE != 0 and source.level != 0)
    elif n < IPI0:
        source.ivpr = value & IVPR_ALL | POLARITY
    else:
        source.ivpr = value & IVPR_ALL
    update_input(state, n)


@native
def read_source(state: MpicState, n: u32, register: u32) -> u32:
    """IVPR, IDR or ILR of a source."""
    if register == Offset.IVPR:
        return read_ivpr(state, n)
    if register == Offset.IDR:
        return state.inputs[n].idr
    if register == Offset.ILR:
        return state.inputs[n].ilr
    return unknown(state)


@native
def write_source(state: MpicState, n: u32, register: u32, value: u32) -> None:
    """IVPR, IDR or ILR of a source."""
    source = state.inputs[n]
    if register == Offset.IVPR:
        write_ivpr(state, n, value)
    elif register == Offset.IDR:
        source.idr = value & all_cpus(state)
        update_input(state, n)
    elif register == Offset.ILR:
        source.ilr = value & Ilr.target.mask
        update_input(state, n)
    else:
        unknown(state)


@native
def unknown(state: MpicState) -> u32:
    """No register is here: reads are 0."""
    state.unknown += 1
    return u32(0)


# ---- a CPU's registers ---------------------------------------------------------------------------------------------


@native
def read_cpu(state: MpicState, register: u32, index: u32) -> u32:
    """A register of one CPU's block."""
    if index < state.cpu_count:
        if register == Offset.IACK:
            return acknowledge(state, index)
        if register == Offset.CTPR:
            return state.cpus[index].ctpr
        if register == Offset.WHOAMI:
            return index
    return unknown(state)


@native
def write_cpu(state: MpicState, register: u32, value: u32, index: u32) -> None:
    """A register of one CPU's block."""
    if index >= state.cpu_count:
        unknown(state)
    elif register == Offset.EOI:
        end_of_interrupt(state, index)
    elif register == Offset.CTPR:
        state.cpus[index].ctpr = value & Ctpr.priority.mask
        update_outputs(state, index)
    elif register - Offset.IPIDR < STEP * IPIS and register % STEP == 0:
        send_ipi(state, (register - Offset.IPIDR) // STEP, value)
    else:
        unknown(state)


# ---- timers and message registers, of which there are two groups ---------------------------------------------------


@native
def read_group(state: MpicState, g: u32, local: u32) -> u32:
    """A timer or message register."""
    group = state.groups[g]
    messages = state.messages[g]
    if Offset.TIMER <= local and local < Offset.TIMER_END:
        i = local // Offset.TIMER_STRIDE & 3
        register = local % Offset.TIMER_STRIDE
        n = TIMER0 + g * TIMERS_PER_GROUP + i
        advance(state, g)
        timer = group.timers[i]
        if register == Offset.TCCR:
            return timer.toggle << 31 | timer.count
        if register == Offset.TBCR:
            return timer.base
        if register == Offset.TVPR:
            return read_ivpr(state, n)
        if register == Offset.TDR:
            return state.inputs[n].idr
    elif local == Offset.TFRR:
        return group.tfrr
    elif local == Offset.TCR:
        return group.tcr
    elif Offset.MSGR <= local and local < Offset.MSGR_END and local % STEP == 0:
        i = (local - Offset.MSGR) // STEP
        messages.status &= ~(u32(1) << i)
        update_messages(state, g)
        return messages.msgr[i]
    elif local == Offset.MER:
        return messages.enable
    elif local == Offset.MSR:
        return messages.status
    return unknown(state)


@native
def write_group(state: MpicState, g: u32, local: u32, value: u32, accessor: u32) -> None:
    """A timer or message register."""
    group = state.groups[g]
    messages = state.messages[g]
    if Offset.TIMER <= local and local < Offset.TIMER_END:
        i = local // Offset.TIMER_STRIDE & 3
        write_timer(state, g, i, local % Offset.TIMER_STRIDE, value)
        if running(group.timers[i]):
            raise_event(state, u32(Event.TIMERS), accessor)
    elif local == Offset.TFRR:
        group.tfrr = value
    elif local == Offset.TCR:
        advance(state, g)
        group.tcr = value & TCR_WRITABLE
        raise_event(state, u32(Event.TIMERS), accessor)
    elif Offset.MSGR <= local and local < Offset.MSGR_END and local % STEP == 0:
        i = (local - Offset.MSGR) // STEP
        messages.msgr[i] = value
        messages.status |= u32(1) << i
        update_messages(state, g)
    elif local == Offset.MER:
        messages.enable = value & ((1 << MESSAGES_PER_BLOCK) - 1)
        update_messages(state, g)
    elif local == Offset.MSR:
        messages.status &= ~value
        update_messages(state, g)
    else:
        unknown(state)


@native
def write_timer(state: MpicState, g: u32, i: u32, register: u32, value: u32) -> None:
    """TBCR, TVPR or TDR of a timer; TCCR is read-only."""
    n = TIMER0 + g * TIMERS_PER_GROUP + i
    advance(state, g)
    if register == Offset.TBCR:
        write_base(state.groups[g].timers[i], value)
    elif register == Offset.TVPR:
        write_ivpr(state, n, value)
    elif register == Offset.TDR:
        state.inputs[n].idr = value & all_cpus(state)
    elif register != Offset.TCCR:
        unknown(state)


@native
def update_messages(state: MpicState, block: u32) -> None:
    """The sources of a block's message registers follow status and enable."""
    messages = state.messages[block]
    active = messages.status & messages.enable
    for i in range(u32(MESSAGES_PER_BLOCK)):
        n = MESSAGE_SOURCE + block * MESSAGES_PER_BLOCK + u32(i)
        set_level(state, n, u32(Level.INSIDE), active >> u32(i) & 1 != 0)


# ---- MSI -----------------------------------------------------------------------------------------------------------


@native
def write_msiir(state: MpicState, bank: u32, value: u32) -> None:
    """MSIIR: a message sets its bit in an MSIR, whose source is asserted until the MSIR is read."""
    i = bank * MSIRS_PER_BANK + (value >> Msiir.register.lo)
    state.msir[i] |= u32(1) << (value >> Msiir.bit.lo & Msiir.bit.ones)
    set_level(state, MSI_SOURCE + i, u32(Level.INSIDE), True)


@native
def read_msi(state: MpicState, bank: u32, local: u32) -> u32:
    """MSIR (cleared by reading) or MSISR of a bank."""
    first = bank * MSIRS_PER_BANK
    if local < Offset.MSIR_END and local % STEP == 0:
        i = first + local // STEP
        value = state.msir[i]
        state.msir[i] = u32(0)
        set_level(state, MSI_SOURCE + i, u32(Level.INSIDE), False)
        return value
    if local == Offset.MSISR:
        summary = u32(0)
        for register in range(u32(MSIRS_PER_BANK)):
            summary |= u32(state.msir[first + register] != 0) << u32(register)
        return summary
    return unknown(state)


# ---- global registers ----------------------------------------------------------------------------------------------


@native
def write_gcr(state: MpicState, value: u32) -> None:
    """GCR: the mode, or the reset, which is over at once."""
    if value & Gcr.reset.mask:
        reset_all(state)
    else:
        state.gcr = value & PROXY_MODE
        update_all_outputs(state)


@native
def write_pir(state: MpicState, value: u32, accessor: u32) -> None:
    """PIR: a CPU is held in reset while its bit is set. Python stops and starts it; see `Mpic.service`."""
    new = value & all_cpus(state)
    rising, falling = new & ~state.pir, state.pir & ~new
    state.pir = new
    state.cores_held |= rising
    state.cores_released |= falling
    if rising | falling:
        for index in range(state.cpu_count):
            if (rising | falling) >> u32(index) & 1:
                notify(state, state.cpus[index], u32(Notify.KICK))
        raise_event(state, u32(Event.CORES), accessor)


@native
def read_global(state: MpicState, offset: u32) -> u32:
    """A register that is one of its kind, or one of IPIVPR0..3."""
    if offset == Offset.BRR1:
        return u32(BRR1_VALUE)
    if offset == Offset.FRR:
        return u32(FRR_LAST_SOURCE << 16 | FRR_VERSION) | (state.cpu_count - 1) << 8
    if offset == Offset.GCR:
        return state.gcr
    if offset == Offset.PIR:
        return state.pir
    if offset - Offset.IPIVPR < STEP * IPIS and offset % STEP == 0:
        return read_ivpr(state, IPI0 + (offset - Offset.IPIVPR) // STEP)
    if offset == Offset.SPVE:
        return state.spurious_vector
    if offset == Offset.EISR:
        return state.errors
    if offset == Offset.EIMR:
        return state.error_mask
    if offset == Offset.BRR2 or offset == Offset.VIR:
        return u32(0)
    return unknown(state)


@native
def write_global(state: MpicState, offset: u32, value: u32, accessor: u32) -> None:
    """A register that is one of its kind, or one of IPIVPR0..3. BRR, FRR, VIR and EISR are read-only."""
    if offset == Offset.GCR:
        write_gcr(state, value)
    elif offset == Offset.PIR:
        write_pir(state, value, accessor)
    elif offset - Offset.IPIVPR < STEP * IPIS and offset % STEP == 0:
        write_ivpr(state, IPI0 + (offset - Offset.IPIVPR) // STEP, value)
    elif offset == Offset.SPVE:
        state.spurious_vector = value & Ivpr.vector.mask
    elif offset == Offset.EIMR:
        state.error_mask = value
        update_errors(state)
    else:
        unknown(state)


@native(inline=True)
def is_own_cpu(offset: u32) -> bool:
    """Whether an offset is in the accessing CPU's view of its own block."""
    return bool(offset >= Offset.IPIDR and offset <= Offset.EOI)


@native(inline=True)
def is_group(offset: u32) -> bool:
    """Whether an offset is among the timer and message registers of a group."""
    local = offset % Offset.GROUP_STRIDE
    return bool(
        offset - Offset.GROUP < Offset.GROUP_STRIDE * TIMER_GROUPS
        and (local == Offset.TFRR or local >= Offset.TIMER)
        and local <= Offset.MSR
    )


@native
def read_register(state: MpicState, offset: u32, accessor: u32) -> u32:
    """The value of a register, with the side effects of reading it."""
    if offset >= Offset.WINDOW:
        return unknown(state)
    if offset >= Offset.CPU:
        block = offset - Offset.CPU
        return read_cpu(state, block % Offset.CPU_STRIDE, block // Offset.CPU_STRIDE)
    if is_own_cpu(offset):
        return read_cpu(state, offset, accessor)
    if offset >= Offset.SOURCE:
        n = (offset - Offset.SOURCE) // Offset.SOURCE_STRIDE
        return read_source(state, n, offset % Offset.SOURCE_STRIDE) if n < SOURCES else unknown(state)
    if Offset.MSI <= offset and offset < Offset.MSI_END:
        block = offset - Offset.MSI
        return read_msi(state, block // Offset.MSI_STRIDE, block % Offset.MSI_STRIDE)
    if is_group(offset):
        return read_group(state, offset // Offset.GROUP_STRIDE - 1, offset % Offset.GROUP_STRIDE)
    return read_global(state, offset)


@native
def write_register(state: MpicState, offset: u32, value: u32, accessor: u32) -> None:
    """Write a register."""
    if offset >= Offset.WINDOW:
        unknown(state)
    elif offset >= Offset.CPU:
        block = offset - Offset.CPU
        write_cpu(state, block % Offset.CPU_STRIDE, value, block // Offset.CPU_STRIDE)
    elif is_own_cpu(offset):
        write_cpu(state, offset, value, accessor)
    elif offset >= Offset.SOURCE:
        n = (offset - Offset.SOURCE) // Offset.SOURCE_STRIDE
        if n < SOURCES:
            write_source(state, n, offset % Offset.SOURCE_STRIDE, value)
        else:
            unknown(state)
    elif Offset.MSI <= offset and offset < Offset.MSI_END and (offset - Offset.MSI) % Offset.MSI_STRIDE == Offset.MSIIR:
        write_msiir(state, (offset - Offset.MSI) // Offset.MSI_STRIDE, value)
    elif offset - Offset.MSIIR_PAGE < Offset.MSIIR_PAGE_END - Offset.MSIIR_PAGE and (
        (offset - Offset.MSIIR_PAGE) % Offset.MSIIR_PAGE_STRIDE == 0
    ):
        write_msiir(state, (offset - Offset.MSIIR_PAGE) // Offset.MSIIR_PAGE_STRIDE, value)
    elif is_group(offset):
        write_group(state, offset // Offset.GROUP_STRIDE - 1, offset % Offset.GROUP_STRIDE, value, accessor)
    else:
        write_global(state, offset, value, accessor)
