"""LLVM pipelines: IR text to object bytes. Imported only when something has to be compiled."""

from __future__ import annotations

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


def compile_object(text: str, speed: int = 2, opt: int = 2) -> bytes:
    """Optimise IR at a speed level (0..3) and return an ELF relocatable object."""
    machine = target_machine(opt)
    module = llvm.parse_assembly(text)
    module.verify()
    tuning = llvm.create_pipeline_tuning_options(speed_level=speed)
    tuning.loop_vectorization = tuning.slp_vectorization = tuning.loop_unrolling = False
    builder = llvm.create_pass_builder(machine, tuning)
    builder.getModulePassManager().run(module, builder)
    result: bytes = machine.emit_object(module)
    return result
