"""The engine: an image loaded and attached to a Vm, ready to run vCPUs natively."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..isa.cores import Core
from ..native.codespace import CodeSpace
from ..native.lang import NativeFunction
from . import sharing
from .image import Building, Image, Store

if TYPE_CHECKING:
    from .tier1.compiler import RegionCompiler
    from .tier1.options import RegionOptions

CODE_SPACE = 256 << 20
QUICK_SPACE = 128 << 20
SHARER_SPACE, LEAST_SPACE = 128 << 20, 32 << 20
"""What a machine takes that shares another one's image, and what it makes do with where there are many."""
TIER1 = {"off": 0, "on": 6, "eager": 1, "force": 1}
"""Time slices that end before an instruction until it is worth compiling (6: a quarter of a million instructions)."""
PAGES_SHARE = 4
"""A quarter of the space is for CodePages: about 8,000 pages of code."""


_IMPORTING = threading.Lock()
"""Held by who imports tier 1: threads of several machines did it at once, and one found half a module."""


class Engine:
    """Native code for one machine: `run(vcpu)` executes until there is something for Python."""

    def __init__(
        self, core: Core, vm: Any, natives: Iterable[NativeFunction] = (),
        progress: Callable[[str], None] | None = None, background: bool = False, tier1: str | None = None,
        cache: bool = True, regions: RegionOptions | None = None, code_space: int = CODE_SPACE,
    ) -> None:  # fmt: skip
        """With `background`, an image that is not in the cache is built by another process: see `coming`.

        `tier1` is "on", "off", "eager": code that one time slice ended in is compiled before it goes on, or "force":
        whatever is executed is. Without it, $POWERVISOR_TIER1 decides, or "on". Without `cache` nothing on disk is read
        or written. With `regions` none of these are kept on disk. `code_space`: bytes that translated code may take.
        """
        self._cache = cache
        self.tier1 = tier1 or os.environ.get("POWERVISOR_TIER1", "on")
        if self.tier1 not in TIER1:
            raise UserError(f"POWERVISOR_TIER1={self.tier1}: it is one of {', '.join(TIER1)}")
        self._region_options = regions
        self.regions: RegionCompiler | None = None
        self.core, self.vm = core, vm
        self._starting = threading.Lock()
        self._started = self._closed = False
        self._map = CodeSpaceMap(int(vm.ram_size))
        vm.code_map = self._map.address
        store = Store(core, list(natives), cache)
        background &= self.tier1 != "force"  # a quick image has no regions
        self._shared = sharing.Shared(store.name, background)
        try:
            self.space = _room(code_space if self._shared.image is None else min(code_space, SHARER_SPACE))
        except UserError:
            self._shared.close()
            raise
        self._spaces = [self.space]
        self.coming: sharing.Coming | None = self._shared.coming
        """The image being built; give its `result` to `upgrade`."""
        image = self._shared.image or store.load(self.space)
        if image is None and progress is not None:
            progress(f"building the {core.name} translator ({'once' if cache else 'anew, without the cache'})")
        if image is None and background:
            final, self.space = self.space, _room(QUICK_SPACE)
            self._spaces.append(self.space)
            image = store.build_quick(self.space)
            self.coming = self._shared.offer_quick(image, self.space, Building(store, final), final)
        elif self._shared.image is None:
            image = image or store.build(self.space)
            self._shared.offer(image, self.space)
        assert image is not None
        self._attach(image)

    def _attach(self, image: Image) -> None:
        """Run with an image from now on. No vCPU may be in native code."""
        self.image, self.symbols = image, image.symbols
        self.vm.tables = self.symbols["tables"]
        self.vm.miss_ladder, self.vm.miss_step = self.symbols["miss_ladder"], self.symbols["miss_step"]
        self._run = ctypes.CFUNCTYPE(None, ctypes.c_uint64)(self.symbols["run"])
        address = ctypes.c_uint64
        self.settle = self.function("settle", None, address)
        self.update_mode = self.function("update_mode", None, address)
        self._reset_contexts = self.function("reset_contexts", None, address)
        self.forget_all = self.function("forget_all", None, address)
        self.debug_address = self.function("debug_address", address, address, address)
        self.check_timers = self.function("check_timers", address, address)
        self.read_spr = self.function("read_spr", address, address, ctypes.c_uint32)
        self.write_spr = self.function("write_spr", None, address, ctypes.c_uint32, address)
        self.drop_range = self.function("drop_range", None, address, address, address)
        self.flush()
        if self.tier1 in ("eager", "force"):
            self._compile_regions()

    def reset_contexts(self, cpu: Any) -> None:
        """Make every context of a vCPU empty and unused."""
        self._reset_contexts(cpu.address)

    def start(self) -> None:
        """The guest begins: let hot code be compiled. What that needs is imported meanwhile, on a thread."""
        if self.tier1 == "on" and self.coming is None and not self._started:
            self._started = True
            threading.Thread(target=self._compile_regions, name="tier1-start", daemon=True).start()

    def _compile_regions(self) -> None:
        with _IMPORTING:
            from .tier1.compiler import RegionCompiler
            from .tier1.options import DEFAULTS
            from .tier1.store import open_store

        with self._starting:
            if self.coming is not None or self._closed or self.regions is not None:
                return
            options = self._region_options
            kept = self._cache and options is None
            self.regions = RegionCompiler(
                self.core, self.vm, self.symbols, self.function, lambda: open_store(self.core, kept),
                wait=self.tier1 != "on", options=options or DEFAULTS,
            )  # fmt: skip
            self.vm.hot_after, self.vm.hot_at_once = TIER1[self.tier1], int(self.tier1 == "force")

    def hot(self, cpu: Any) -> None:
        """A vCPU found hot code."""
        if self.regions is not None:
            self.regions.hot(cpu)

    def compile_handler(self, word: int) -> None:
        """A vCPU met an instruction whose handler the quick image has not."""
        self.image.compile(word)

    def upgrade(self, image: Image) -> None:
        """Change to the image that was built meanwhile. No vCPU may be in native code.

        The quick image stays loaded: addresses of its functions are in use elsewhere.
        """
        self.coming = None
        self.space = self._spaces[0]
        self._attach(image)

    def function(self, name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
        """An exported native function as a ctypes callable."""
        return ctypes.CFUNCTYPE(result, *arguments)(self.symbols[name])

    def run(self, vcpu: int) -> None:
        """Run the vCPU at an address (without the GIL) until it leaves native code; see Vcpu.exit_reason."""
        self._run(vcpu)

    def flush(self) -> None:
        """Forget all translated code. No vCPU may be in native code."""
        if self.regions is not None:
            self.regions.forget()
        start = self._first_free()
        self._map.clear()
        self.vm.code_pages = (start + 63) & -64
        self.vm.code_pages_end = start + self._room_for_pages()
        self.vm.code_next = self.vm.code_pages_end
        self.vm.code_end = self.space.base + self.space.size

    def _first_free(self) -> int:
        """Where translated code may begin: behind the image, if it is not another machine's."""
        own = self._shared.owns(self.image, self.space)
        return (self.space.base + (self.image.used if own else 0) + 4095) & -4096

    def _room_for_pages(self) -> int:
        return self.space.size // PAGES_SHARE

    def code_bytes(self) -> int:
        """Bytes of translated code and its page tables now in use."""
        vm, start = self.vm, self._first_free()
        hot = int(vm.code_next) - start - self._room_for_pages()
        cold = self.space.base + self.space.size - int(vm.code_end)
        return hot + cold + int(vm.code_pages) - start

    def close(self) -> None:
        """Free everything. No vCPU may be in native code."""
        with self._starting:
            self._closed = True
        if self.coming is not None and self._shared.waits_alone:
            self.coming.abandon()
        if self.regions is not None:
            self.regions.close()
        for space in self._spaces:
            if not self._shared.leave(space):
                space.close()
        self._shared.close()
        self._map.close()


def _room(size: int) -> CodeSpace:
    """So much room for translated code, or less where many machines have taken theirs. Raises UserError."""
    while True:
        try:
            return CodeSpace(size)
        except UserError:
            if size <= LEAST_SPACE:
                raise
        size //= 2


class CodeSpaceMap:
    """Vm.code_map: a zeroed word per page of RAM, costing memory only where used."""

    def __init__(self, ram_size: int) -> None:
        import mmap

        self.size = (ram_size >> 12) * 8
        self._memory: mmap.mmap | None = mmap.mmap(-1, self.size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)
        self._pin: Any = (ctypes.c_char * self.size).from_buffer(self._memory)
        self.address = ctypes.addressof(self._pin)

    def clear(self) -> None:
        """Empty the map and give its memory back."""
        import mmap

        assert self._memory is not None
        self._memory.madvise(mmap.MADV_DONTNEED)

    def close(self) -> None:
        """Free the map."""
        self._pin = None
        if self._memory is not None:
            self._memory.close()
            self._memory = None
