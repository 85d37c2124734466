"""Which stencils an image of a core has."""

from __future__ import annotations

from ..insns import TABLE
from ..isa.cores import Core
from .fusion import Fused, fused_variants, is_compare
from .stencil_process import modes
from .stencils import Variant, variants


class StencilSet:
    """The stencils of a core; a quick image has fewer: none for FP and vectors, none fused or reading x, one mode."""

    def __init__(self, core: Core, quick: bool = False) -> None:
        self.quick = quick
        self.table = TABLE.for_core(core.categories)
        hot = [insn for insn in self.table if insn.hot and not (quick and insn.needs & {"fp", "altivec"})]
        self.every: list[Variant] = [v for insn in hot for v in variants(insn) if self.serving(v) is v]
        self.pairs: list[Fused] = []
        if not quick:
            self.pairs = [pair for insn in hot if is_compare(insn) for pair in fused_variants(insn)]
        self.modes = modes(core, quick)
        self.branch = next((insn for insn in self.table if insn.name == "bc"), None)
        """The conditional branch of the fused pairs."""

    def serving(self, variant: Variant) -> Variant:
        """The variant whose stencil serves for another; a quick image has none that take a GPR from x."""
        return variant.from_memory if self.quick else variant.same_as
