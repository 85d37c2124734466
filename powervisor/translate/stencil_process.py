"""Stencils are compiled by a process for each mode, beside the runtime: Python and LLVM have one lock in a process.

`python -m powervisor.translate.stencil_process CORE MODE QUICK` writes two objects to standard output.
"""

from __future__ import annotations

import contextlib
import gc
import os
import struct
import subprocess
import sys

from ..isa.cores import Core

_SIZES = struct.Struct("<QQ")


def modes(core: Core, quick: bool) -> tuple[bool, ...]:
    """The modes (MSR[CM]) that have stencils: of a quick image only what the core's operating systems use."""
    if core.bits == 32:
        return (False,)
    return (True,) if quick else (False, True)


class StencilProcess:
    """The stencils of a core for 32-bit (`cm` False) or 64-bit mode, being compiled."""

    def __init__(self, core: str, cm: bool, quick: bool) -> None:
        self.core, self.cm, self.quick = core, cm, quick
        command = [sys.executable, "-m", __name__, core, str(int(cm)), str(int(quick))]
        self._process: subprocess.Popen[bytes] | None = None
        with contextlib.suppress(OSError):
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=None if os.environ.get("POWERVISOR_DEBUG") else subprocess.DEVNULL,  # Ctrl-C is for it as well
            )  # fmt: skip

    def result(self) -> tuple[bytes, bytes]:
        """The object of the stencils and that of their derived functions.

        Compiled here when the other process failed (killed, out of memory) or could not be started.
        """
        if self._process is None:
            return compile_stencils(self.core, self.cm, self.quick)
        assert self._process.stdout is not None
        with self._process.stdout as output:
            data = output.read()
        if self._process.wait() != 0 or len(data) < _SIZES.size:
            return compile_stencils(self.core, self.cm, self.quick)
        first, second = _SIZES.unpack_from(data)
        return data[_SIZES.size : _SIZES.size + first], data[_SIZES.size + first : _SIZES.size + first + second]


def compile_stencils(core: str, cm: bool, quick: bool) -> tuple[bytes, bytes]:
    """The two objects, compiled in this process."""
    from ..isa import cores
    from ..native.llvm import compile_object
    from .runtime import derived_module
    from .stencil_set import StencilSet
    from .stencils import HoleTable
    from .templates import stencil_ir

    chosen, holes = StencilSet(cores.get(core), quick), HoleTable()
    text = stencil_ir(chosen.every, chosen.pairs, chosen.branch, cm, holes, cm == chosen.modes[0])
    return compile_object(text, 0 if quick else 1), compile_object(derived_module(holes, cm), 0)


def main(core: str, mode: str, quick: str) -> None:
    """The process."""
    gc.disable()
    first, second = compile_stencils(core, mode == "1", quick == "1")
    sys.stdout.buffer.write(_SIZES.pack(len(first), len(second)) + first + second)
    sys.stdout.buffer.flush()
    os._exit(0)  # at once: a machine waits, and to take syntax trees and modules apart takes a tenth of the time


if __name__ == "__main__":
    main(*sys.argv[1:])
