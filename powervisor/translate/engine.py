"""The engine: an image loaded and attached to a Vm, ready to run vCPUs natively."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable
from typing import Any

from ..isa.cores import Core
from ..native.codespace import CodeSpace
from ..native.lang import NativeFunction
from .image import load_or_build

CODE_SPACE = 384 << 20
CODE_PAGES = 96 << 20
"""Room for CodePages: about 11,000 pages of code."""


class Engine:
    """Native code for one machine: `run(vcpu)` executes until there is something for Python."""

    def __init__(
        self, core: Core, vm: Any, natives: Iterable[NativeFunction] = (), progress: Callable[[str], None] | None = None
    ) -> None:
        self.core, self.vm = core, vm
        self.space = CodeSpace(CODE_SPACE)
        self.image = load_or_build(core, self.space, list(natives), progress)
        self.symbols = self.image.symbols
        self._map = CodeSpaceMap(int(vm.ram_size))
        vm.tables = self.symbols["tables"]
        vm.miss_ladder, vm.miss_step = self.symbols["miss_ladder"], self.symbols["miss_step"]
        vm.code_map = self._map.address
        self.run_address = self.symbols["run"]
        self._run = ctypes.CFUNCTYPE(None, ctypes.c_uint64)(self.run_address)
        address = ctypes.c_uint64
        self.update_mode = self.function("update_mode", None, address)
        self.forget_all = self.function("forget_all", None, address)
        self.drop_range = self.function("drop_range", None, address, address, address)
        self.flush()

    def function(self, name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
        """An exported native function as a ctypes callable."""
        return ctypes.CFUNCTYPE(result, *arguments)(self.symbols[name])

    def run(self, vcpu: Any) -> None:
        """Run a vCPU (without the GIL) until it leaves native code; see Vcpu.exit_reason."""
        self._run(vcpu.address)

    def flush(self) -> None:
        """Forget all translated code. No vCPU may be in native code."""
        start = (self.space.base + self.image.used + 4095) & -4096
        self._map.clear()
        self.vm.code_pages = (start + 63) & -64
        self.vm.code_pages_end = start + CODE_PAGES
        self.vm.code_next = start + CODE_PAGES
        self.vm.code_end = self.space.base + self.space.size

    def code_bytes(self) -> int:
        """Bytes of translated code and its page tables now in use."""
        vm, start = self.vm, (self.space.base + self.image.used + 4095) & -4096
        hot = int(vm.code_next) - start - CODE_PAGES
        cold = self.space.base + self.space.size - int(vm.code_end)
        return hot + cold + int(vm.code_pages) - start

    def close(self) -> None:
        """Free everything. No vCPU may be in native code."""
        self.space.close()
        self._map.close()


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
