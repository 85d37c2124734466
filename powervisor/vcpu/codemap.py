"""Which physical pages have translated code, and how it is dropped.

`Vm.code_map` holds a word per page of RAM: the address of a CodePage, one for each mode in use, chained. A CodePage has
an entry pointer per instruction word; entries that have no code lead to the miss ladder, a run of equal-sized stubs
from which the translator learns the word's index. All jumps between blocks go through entries, so dropping code is
storing pointers.
"""

from __future__ import annotations

from ..native.ints import u8, u32, u64
from ..native.lang import at, atomic_or, atomic_store, field_addr, load, native
from ..native.locks import acquire, release
from ..native.struct import Array, Struct
from .state import Request, Vcpu, Vm

WORDS_PER_PAGE = 1024
CODE_RESERVE = 1 << 20
"""Bytes of the code space that compiled regions leave to the translator."""


class CodePage(Struct):
    """Translated code of a physical page in one mode."""

    entries: Array[u64, WORDS_PER_PAGE]
    pa: u64
    next: u64
    mode: u32
    has_code: u32
    generation: u32  # how often its code was dropped
    heat: Array[u8, WORDS_PER_PAGE]  # how often a time slice ended before an instruction, see dispatch.warm


@native
def lock_code(vm: Vm) -> None:
    """Take the lock of everything translated."""
    acquire(field_addr(vm, "code_lock"), vm.futex)


@native
def unlock_code(vm: Vm) -> None:
    """Release it."""
    release(field_addr(vm, "code_lock"))


@native
def reset_entries(vm: Vm, page: CodePage) -> None:
    """Point every entry at the miss ladder."""
    target = vm.miss_ladder
    for n in range(WORDS_PER_PAGE):
        page.entries[n] = target
        target += vm.miss_step
        page.heat[n] = u8(0)
    page.has_code = u32(0)
    page.generation += 1


@native
def drop_code(vm: Vm, pa: u64) -> bool:
    """Drop the code of the page that holds a physical address; whether there was any."""
    if pa >= vm.ram_size or vm.code_map == 0:
        return False
    head = load(u64, vm.code_map + (pa >> 12) * 8)
    if head == 0:
        return False
    dropped = False
    lock_code(vm)
    while head != 0:
        page = at(CodePage, head)
        if page.has_code:
            reset_entries(vm, page)
            dropped = True
        head = page.next
    unlock_code(vm)
    return dropped


@native
def reserve_code(vm: Vm, size: u64) -> u64:
    """Address of room for compiled code, 0 when the code space is full."""
    lock_code(vm)
    where = (vm.code_end - size) & 0xFFFF_FFFF_FFFF_FFC0
    if vm.code_next + size + CODE_RESERVE > vm.code_end:
        where = u64(0)
    else:
        vm.code_end = where
    unlock_code(vm)
    return where


@native
def watch_code(vm: Vm, page: CodePage) -> u32:
    """The page's generation, which changes from now on with its words, though nothing has been translated there."""
    lock_code(vm)
    page.has_code = u32(1)
    generation = page.generation
    unlock_code(vm)
    return generation


@native
def publish_code(vm: Vm, page: CodePage, index: u32, generation: u32, code: u64) -> None:
    """Let a word's entry lead to compiled code, unless the page's code was dropped meanwhile."""
    lock_code(vm)
    if page.generation == generation:
        page.has_code = u32(1)
        page.heat[index] = u8(255)
        atomic_store(u64, field_addr(page, "entries", index), code)
    unlock_code(vm)


@native
def invalidate_code(cpu: Vcpu, pa: u64) -> None:
    """icbi: drop the page's code; other vCPUs leave straight-line code at their next branch anyway."""
    drop_code(cpu.vm, pa)


@native
def drop_range(vm: Vm, pa: u64, length: u64) -> None:
    """Drop the code of a physical range that something other than a vCPU wrote (DMA, loader, debugger)."""
    if length == 0:
        return
    page = pa & 0xFFFF_FFFF_FFFF_F000
    while page < pa + length:
        if drop_code(vm, page):
            for n in range(vm.vcpu_count):
                other = at(Vcpu, vm.vcpus[n])
                atomic_or(u32, field_addr(other, "requests"), u32(Request.CODE))
        page += 4096
