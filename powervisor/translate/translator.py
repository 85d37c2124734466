"""The block translator, itself native: decode, choose a stencil, copy it, patch it."""

from __future__ import annotations

from ..native.ints import i32, i64, u8, u16, u32, u64
from ..native.lang import at, atomic_store, bswap, call_host, field_addr, load, native, store
from ..vcpu.codemap import WORDS_PER_PAGE, CodePage, lock_code, unlock_code
from ..vcpu.state import ExitReason, Mode, Stat, Vcpu
from ..vcpu.stops import may_stop
from ..vcpu.trace import TraceEvent
from ..vcpu.trace import emit as emit_event
from .fusion import PER_VARIANT
from .tables import NO_FIELD, NO_GPR, NO_TEMPLATES, SUBTABLE, InsnRow, Kind, Patch, Source, Tables, Template

BLOCK_LIMIT = 96
"""Instructions a block may have."""
BLOCK_SPACE = 128 * 1024
"""Bytes that must be free before a block is begun."""

FORWARD, BACKWARD, OFF_PAGE = 0, 1, 2
CONDITIONAL = 2
"""InsnRow.ends of branches with a BO field: the block goes on unless BO says always."""


@native
def decode(tables: Tables, word: u32) -> InsnRow:
    """The row of an instruction word; row 0 where it is undefined."""
    first = tables.primary[word >> 26]
    if first & SUBTABLE:
        first = load(u16, tables.subtables + u64(first & 0x7FFF) * 4096 + u64(word & 0x7FF) * 2)
    number = u64(first)
    while number != 0:
        row = at(InsnRow, tables.rows + number * InsnRow.size)
        if word & row.mask == row.match:
            return row
        number = u64(row.next)
    return at(InsnRow, tables.rows)


@native(inline=True)
def branch_displacement(row: InsnRow, word: u32) -> i64:
    """The displacement field of a relative branch, in bytes."""
    how = row.displacement
    width = how >> 8 & 31
    value = i32(word << (32 - (how & 31) - width)) >> (32 - width)
    return i64(value) << u64(how >> 16 & 7)


@native
def choose(tables: Tables, row: InsnRow, word: u32, mode: u32, where: u32, last: u32) -> u64:
    """Address of the Template for an instruction word, 0 when only its handler can execute it.

    `last` is the number of the GPR in x, or NO_GPR.
    """
    if row.templates == NO_TEMPLATES:
        return u64(0)
    if row.needs_fp and (mode & Mode.FP == 0 or (row.needs_exact and mode & Mode.FPX)):
        return u64(0)
    if row.needs_vec and mode & Mode.VEC == 0:
        return u64(0)
    if row.select and call_host(u32, row.select, word, mode) == 0:
        return u64(0)
    index = u32(0)
    for n in range(u32(row.selector_count)):
        selector = row.selectors[n]
        value = load(u8, selector.map + u64(word >> u32(selector.shift & 31) & selector.mask))
        if value == 0xFF:
            return u64(0)
        index = index * u32(selector.radix) + u32(value)
    if row.relative:
        index = index * 3 + where
    count = u32(row.source_count)
    index = index * (count + 1)
    for n in range(count):
        if word >> u32(row.source_shift[n] & 31) & 31 == last:
            index += n + 1
            break
    if mode & Mode.CM:
        index += row.mode_step
    template = tables.templates + u64(row.templates + index) * Template.size
    return template if at(Template, template).length != 0 else u64(0)


@native
def left_in_x(row: InsnRow, word: u32, last: u32) -> u32:
    """Number of the GPR in x after a stencil."""
    if row.destination_shift == NO_FIELD:
        return last
    return word >> u32(row.destination_shift & 31) & 31


@native
def fused(tables: Tables, row: InsnRow, template: u64, word: u32, branch: u32, mode: u32, index: u32) -> u64:
    """Template of a compare and the conditional branch after it (see fusion), 0 when they do not fit together."""
    bo, bi = branch >> 21 & 31, branch >> 16 & 31
    if row.fused == NO_TEMPLATES or template == 0 or branch >> 26 != 16 or branch & 3 != 0:
        return u64(0)
    if bo & 0x14 != 4 or bi & 3 == 3 or bi >> 2 != word >> 23 & 7:
        return u64(0)
    target = i64(index + 1) * 4 + (i64(i32(branch << 16)) >> 16)
    if target < 0 or target >= 4096:
        return u64(0)
    first = tables.templates + u64(row.templates) * Template.size
    number = u32((template - first) // Template.size)
    if mode & Mode.CM:
        number -= row.mode_step
    number = number * PER_VARIANT + (bi & 3) * 4
    if bo & 8:
        number += 2
    if target <= i64(index + 1) * 4:
        number += 1
    if mode & Mode.CM:
        number += row.fused_step
    found = tables.templates + u64(row.fused + number) * Template.size
    return found if at(Template, found).length != 0 else u64(0)


@native(inline=True)
def bits(word: u32, shift: u8, width: u8) -> u64:
    """A piece of an instruction word."""
    return u64(word >> u32(shift & 31)) & ((u64(1) << (width & 31)) - 1)


@native
def emit(
    cpu: Vcpu, template: Template, row: InsnRow, word: u32, where: u64, following: u64, cold: u64, entries: u64,
    index: u32, count: u32, target: u64, last: u32,
) -> None:  # fmt: skip
    """Copy a template to `where` and fill its holes.

    `following` and `cold` are where n.next and n.cold lead, `entries` the page's entry pointers, `index` the
    instruction's word in its page, `target` the branch target's offset from the page's start, `last` the GPR that
    must be in x afterwards.
    """
    size = u64(template.length)
    done = u64(0)
    while done < size:
        store(u64, where + done, load(u64, template.code + done))
        done += 8
    mode = u64(cpu.mode)
    for n in range(u64(template.patch_count)):
        patch = at(Patch, template.patches + n * Patch.size)
        value = u64(patch.addend)
        source = patch.source
        if source == Source.FIELD:
            piece = bits(word, patch.shift, patch.width)
            if patch.width2:
                piece |= bits(word, patch.shift2, patch.width2) << u64(patch.at2 & 31)
            if patch.sign:
                up = u64(64 - patch.sign & 63)
                piece = u64(i64(piece << up) >> up)
            value += piece << u64(patch.scale & 31)
        elif source == Source.DERIVED:
            value += call_host(u64, patch.function, word) << u64(patch.scale & 31)
        elif source == Source.CONSTANT:
            value += patch.function
        elif source == Source.NEXT:
            value += following
        elif source == Source.SLOT:
            value += entries + (target >> 2) * 8
        elif source == Source.CIA:
            value += u64(index) * 4 - mode
        elif source == Source.COUNT:
            value += u64(count)
        elif source == Source.TARGET:
            value += target - mode
        elif source == Source.MODE:
            value += mode
        elif source == Source.HANDLER:
            value += row.handler
        elif source == Source.WORD:
            value += u64(word)
        elif source == Source.INDEX:
            value += u64(index)
        elif source == Source.LAST:
            value += u64(last & 31) * 8
        else:
            value += cold
        place = where + u64(patch.offset)
        if patch.kind == Kind.ABS64:
            store(u64, place, value)
        elif patch.kind == Kind.REL32:
            store(u32, place, u32(value - place))
        else:
            store(u32, place, u32(value))


@native
def translate_block(cpu: Vcpu, page: CodePage, first: u32) -> u64:
    """Translate from a word of a page to the block's end; the code's address, 0 when the code space is full."""
    vm = cpu.vm
    tables = at(Tables, vm.tables)
    lock_code(vm)
    known = page.entries[first]
    if known - vm.miss_ladder >= vm.miss_step * WORDS_PER_PAGE:
        unlock_code(vm)
        return known
    start = (vm.code_next + 15) & 0xFFFF_FFFF_FFFF_FFF0
    if start + BLOCK_SPACE > vm.code_end:
        unlock_code(vm)
        cpu.exit_reason = u32(ExitReason.CODE_FULL)
        return u64(0)
    entries = field_addr(page, "entries")
    where = start
    index = first
    count = u32(0)
    last = u32(NO_GPR)
    open_end = True
    while open_end:
        word = bswap(load(u32, vm.ram + page.pa + u64(index) * 4))
        row = decode(tables, word)
        count += 1
        target = u64(0)
        direction = u32(OFF_PAGE)
        if row.relative:
            target = u64(index) * 4 + u64(branch_displacement(row, word))
            if target < 4096:
                direction = u32(BACKWARD) if target <= u64(index) * 4 else u32(FORWARD)
        chosen = choose(tables, row, word, cpu.mode, direction, last)
        parts = False
        if index + 1 < WORDS_PER_PAGE and row.fused != NO_TEMPLATES and not may_stop(vm, index + 1):
            branch = bswap(load(u32, vm.ram + page.pa + u64(index) * 4 + 4))
            pair = fused(tables, row, chosen, word, branch, cpu.mode, index)
            if pair != 0:
                chosen = pair
                parts = vm.coverage != 0
                index += 1
                count += 1
                target = u64(i64(index) * 4 + (i64(i32(branch << 16)) >> 16))
        if chosen != 0:
            template = at(Template, chosen)
            last = left_in_x(row, word, last)
        else:
            template = tables.site_end if row.ends else tables.site
            last = u32(NO_GPR)
        size = u64(template.length)
        cold = u64(0)
        if template.has_cold:
            site = tables.site_end if row.ends else tables.site
            cold = (vm.code_end - u64(site.length) - 8) & 0xFFFF_FFFF_FFFF_FFF8
            vm.code_end = cold
            emit(cpu, site, row, word, cold, where + size, u64(0), entries, index, count, target, last)
        emit(cpu, template, row, word, where, where + size, cold, entries, index, count, target, last)
        where += size
        index += 1
        conditional = row.ends == CONDITIONAL and word >> 21 & 0x14 != 0x14
        if conditional and vm.coverage:
            parts = True
        if row.ends and (chosen == 0 or not conditional):
            open_end = False
        elif index == WORDS_PER_PAGE:
            emit(cpu, tables.goto_far, row, word, where, where, u64(0), entries, index, count, u64(4096), last)
            where += u64(tables.goto_far.length)
            open_end = False
        elif (
            count >= BLOCK_LIMIT
            or page.entries[index] - vm.miss_ladder >= vm.miss_step * WORDS_PER_PAGE
            or may_stop(vm, index)
            or parts
        ):
            emit(cpu, tables.goto_slot, row, word, where, where, u64(0), entries, index, count, u64(index) * 4, last)
            where += u64(tables.goto_slot.length)
            open_end = False
    vm.code_next = where
    page.has_code = u32(1)
    atomic_store(u64, entries + u64(first) * 8, start)
    cpu.stats[Stat.TRANSLATED_BLOCKS] = cpu.stats[Stat.TRANSLATED_BLOCKS] + 1
    cpu.stats[Stat.TRANSLATED_INSNS] = cpu.stats[Stat.TRANSLATED_INSNS] + u64(count)
    if vm.coverage:
        pa = page.pa + u64(first) * 4
        emit_event(cpu, u32(TraceEvent.BLOCK), count * 4, cpu.pc, pa, u64(0), u64(0), u64(0), u64(0))
    unlock_code(vm)
    return start
