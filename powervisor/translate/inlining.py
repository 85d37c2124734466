"""Instruction semantics with every call inlined, and left where something is rare: the base of stencils and regions."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any, ClassVar

from ..native.compile import FunctionCompiler, Module
from ..native.lang import NativeFunction
from ..native.values import Const, Value
from ..vcpu import mmu, ops
from ..vcpu.state import Context


class InlineCompiler(FunctionCompiler):
    """Emits an instruction's semantics for a mode. Subclasses say what leaving to the handler is."""

    if TYPE_CHECKING:

        def leave(self) -> None:
            """Give up: the handler executes the instruction from its start."""

    overrides: ClassVar[dict[NativeFunction, str]] = {
        ops.mode64: "on_mode64", ops.optimistic: "on_optimistic", ops.cia: "on_cia", ops.jump: "on_jump",
        ops.jump_relative: "on_jump_relative", mmu.current_context: "on_current_context",
    }  # fmt: skip
    """Native functions that are known here, or mean something else, and the methods that emit them."""

    def __init__(self, module: Module, cm: bool) -> None:
        super().__init__(module)
        self.cm = cm

    def emit_abort(self) -> None:
        self.leave()

    def lookup(self, name: str, node: ast.AST) -> Any:
        found = self.frames[-1].scope.get(name)
        return found if isinstance(found, Value) else super().lookup(name, node)

    def compare(self, name: str, a: Any, b: Any, node: ast.AST) -> Any:
        for one, other in ((a, b), (b, a)):
            if isinstance(one, Value) and one.nonzero and isinstance(other, Const) and other.value == 0:
                if name in ("eq", "ne"):
                    return Const(name == "ne")
        return super().compare(name, a, b, node)

    def call(self, function: NativeFunction, arguments: list[Any], node: ast.AST) -> Any:
        method = self.overrides.get(function)
        if method is not None:
            return getattr(self, method)(node, *arguments)
        if function.field_function:
            return self.derived(function, arguments, node)
        if function.cold:
            self.leave()
            _, result = self.signature(function, self.split_arguments(function, arguments, node)[0])
            self.start(self.new_label("dead"))
            return None if result is None else Value(result, "poison")
        return self.inline_call(function, arguments, node)

    def derived(self, function: NativeFunction, arguments: list[Any], node: ast.AST) -> Any:
        """A value that depends on fields only."""
        if all(isinstance(a, Const) for a in arguments):
            return Const(function(*(a.value for a in arguments)))
        return self.inline_call(function, arguments, node)

    def masked(self, address: str) -> str:
        """An effective address in the mode's width."""
        return address if self.cm else self.temp(f"and i64 {address}, 4294967295")

    def on_mode64(self, node: ast.AST, cpu: Any) -> Any:
        return Const(self.cm)

    def on_optimistic(self, node: ast.AST) -> Any:
        return Const(True)

    def on_current_context(self, node: ast.AST, cpu: Any) -> Any:
        return Value(Context, "%ctx")
