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
    # NewGVN's phi-of-ops takes a value of the iteration before for this one's (LLVM 22: a loop of addic. and crnor).
    llvm.set_option("", "-enable-phi-of-ops=false")
    # Loop strength reduction makes a variable of what each exit of a loop needs: more than the host has registers for.
    llvm.set_option("", "-disable-lsr")
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
QUICK_PASSES = ("always_inliner", "sroa", "global_dead_code_eliminate")
REGION_PASSES = (
    "always_inliner",
    "global_dead_code_eliminate",
    "sroa",
    "simplify_cfg",
    "new_gvn",
    "instruction_combine",
    "simplify_cfg",
    "jump_threading",
    "new_gvn",
    "instruction_combine",
    "simplify_cfg",
)
"""What the front end emits needs its slots turned into values and its arms merged, which costs a tenth of the standard
pipeline's time; regions have loops, where finding equal values pays. Quick passes take a third of the first."""


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
