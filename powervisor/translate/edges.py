"""The ways from one piece of translated code to another, which stencils and regions write alike."""

from __future__ import annotations

from collections.abc import Callable

from ..native.emitter import Emitter
from ..vcpu.state import SOFT_CODE_ENTRIES, Context, SoftCode, Vcpu

SIGNATURE = "(ptr %cpu, ptr %ctx, i64 %bud, i64 %page, i64 %x)"
CONVENTION = "preserve_nonecc"


class Edges(Emitter):
    """Mixed into what emits functions with the SIGNATURE of translated code."""

    def tail(self, target: str, budget: str = "%bud", page: str = "%page", x: str = "poison") -> None:
        """Continue in other code."""
        self.put(f"musttail call {CONVENTION} void {target}(ptr %cpu, ptr %ctx, i64 {budget}, i64 {page}, i64 {x})")
        self.put("ret void")
        self.terminated = True

    def check(self, budget: str, leave: Callable[[], None]) -> None:
        """Leave at a back edge when the budget is spent or somebody asks for attention."""
        place = self.temp(f"getelementptr i8, ptr %cpu, i64 {Vcpu.offset('zero')}")
        floor = self.temp(f"load volatile i64, ptr {place}")  # 0, or `requests` << 32: more than any budget
        stop, on = self.new_label("stop"), self.new_label("on")
        self.put(f"br i1 {self.temp(f'icmp slt i64 {budget}, {floor}')}, label %{stop}, label %{on}, !prof !1")
        self.start(stop)
        leave()
        self.start(on)

    def soft_code(self, address: str) -> str:
        """The entry of the context's code translations that an effective address may be in."""
        index = self.temp(f"and i64 {self.temp(f'lshr i64 {address}, 12')}, {SOFT_CODE_ENTRIES - 1}")
        code = self.temp(f"getelementptr i8, ptr %ctx, i64 {Context.offset('code')}")
        return self.temp(f"getelementptr i8, ptr {code}, i64 {self.temp(f'mul i64 {index}, {SoftCode.size}')}")

    def code_of(self, soft: str) -> str:
        """The CodePage in such an entry."""
        place = self.temp(f"getelementptr i8, ptr {soft}, i64 {SoftCode.offset('entries')}")
        return self.temp(f"load ptr, ptr {place}")

    def jump_far(self, target: str, budget: str, mode: str) -> None:
        """Continue at an effective address in any page, through the context's code translations."""
        clean = self.temp(f"and i64 {target}, -4")
        self.check(budget, lambda: self.tail('@"rt.lookup"', budget, "%page", clean))
        soft = self.soft_code(target)
        tag = self.temp(f"or i64 {self.temp(f'and i64 {target}, -4096')}, {mode}")
        hit = self.temp(f"icmp eq i64 {self.temp(f'load i64, ptr {soft}')}, {tag}")
        yes, no = self.new_label("hit"), self.new_label("miss")
        self.put(f"br i1 {hit}, label %{yes}, label %{no}, !prof !0")
        self.start(no)
        self.tail('@"rt.lookup"', budget, "%page", clean)
        self.start(yes)
        word = self.temp(f"lshr i64 {self.temp(f'and i64 {target}, 4092')}, 2")
        slot = self.temp(f"getelementptr [2 x i32], ptr {self.code_of(soft)}, i64 {word}")
        self.tail(self.temp(f"load ptr, ptr {slot}"), budget, tag)
