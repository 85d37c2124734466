"""LLVM pipelines: IR text to object bytes. Imported only when something has to be compiled."""

from __future__ import annotations

import subprocess
import sys
from functools import cache

import llvmlite.binding as llvm


@cache
def host_features() -> dict[str, bool]:
    """The host's instruction set extensions, by LLVM's names."""
    return dict(llvm.get_host_cpu_features())


@cache
def target_machine(opt: int = 2) -> llvm.TargetMachine:
    """The host's target machine: static relocation, small code model (everything lives in the low 2 GiB)."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.initialize_native_asmparser()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=opt,
        codemodel="small", reloc="static",
    )  # fmt: skip


STENCIL_PASSES = (
    "sroa", "simplify_cfg", "instruction_combine", "always_inliner", "sroa", "instruction_combine", "simplify_cfg",
    "global_dead_code_eliminate",
)  # fmt: skip
REGION_PASSES = (
    "always_inliner", "global_dead_code_eliminate", "sroa", "simplify_cfg", "instruction_combine", "simplify_cfg",
    "jump_threading", "new_gvn", "instruction_combine", "simplify_cfg",
)  # fmt: skip
"""What the front end emits needs its slots turned into values and its arms merged, which costs a tenth of the standard
pipeline's time; regions have loops, where finding equal values pays."""


def compile_object(text: str, opt: int = 1, passes: tuple[str, ...] = STENCIL_PASSES) -> bytes:
    """Optimise IR and return an ELF relocatable object.

    `opt` is the code generator's level; 0 is ten times as fast as 1.
    """
    machine = target_machine(opt)
    module = llvm.parse_assembly(text)
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=2))
    manager = llvm.create_new_module_pass_manager()
    for name in passes:
        getattr(manager, f"add_{name}_pass")()
    manager.run(module, builder)
    result: bytes = machine.emit_object(module)
    return result


class Background:
    """An object being compiled by another process: LLVM holds one lock for all threads of a process."""

    def __init__(self, text: str, opt: int = 1) -> None:
        self._text, self._opt = text.encode(), opt
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"import {__name__} as llvm; llvm.serve({opt})"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._process.stdin is not None
        self._process.stdin.write(self._text)  # read whole before the other side begins: this does not wait for it
        self._process.stdin.close()
        self._process.stdin = None

    def result(self) -> bytes:
        """The object; compiled here when the other process failed (killed, out of memory)."""
        assert self._process.stdout is not None
        with self._process.stdout as output:
            data = output.read()
        if self._process.wait() == 0 and data:
            return data
        return compile_object(self._text.decode(), self._opt)


def serve(opt: int) -> None:
    """The other process: IR on standard input, object on standard output."""
    sys.stdout.buffer.write(compile_object(sys.stdin.buffer.read().decode(), opt))
