"""Growing the text of one function: instructions, blocks, slots."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from .lang import NativeFunction
from .values import CompileError, Frame, Value, ir_type


class Emitter:
    """The state of a function being compiled. What is not here comes from the classes built on it."""

    if TYPE_CHECKING:
        module: Any

        def call(self, function: NativeFunction, arguments: list[Any], node: ast.AST) -> Any: ...
        def emit_return(self, value: Value | None) -> None: ...
        def emit_abort(self) -> None: ...
        def vector_binary(self, op: Any, a: Value, b: Value, node: ast.AST) -> Value: ...
        def vector_constant(self, constant: Any, kind: Any, node: Any) -> Value: ...

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.allocas: list[str] = []
        self.counter = 0
        self.frames: list[Frame] = []
        self.terminated = False
        self.file = ""

    def temp(self, text: str) -> str:
        self.counter += 1
        name = f"%t{self.counter}"
        self.lines.append(f"  {name} = {text}")
        return name

    def put(self, text: str) -> None:
        self.lines.append("  " + text)

    def new_label(self, hint: str = "L") -> str:
        self.counter += 1
        return f"{hint}{self.counter}"

    def label(self, name: str) -> None:
        if not self.terminated:
            self.put(f"br label %{name}")
        self.lines.append(f"{name}:")
        self.terminated = False

    def start(self, name: str) -> None:
        """Begin a block that others lead to; the one before has ended."""
        self.lines.append(f"{name}:")
        self.terminated = False

    def jump(self, name: str) -> None:
        if not self.terminated:
            self.put(f"br label %{name}")
        self.terminated = True

    def branch(self, condition: Value, yes: str, no: str) -> None:
        weight = getattr(condition, "weight", None)
        profile = f", !prof !{weight}" if weight is not None else ""
        self.put(f"br i1 {condition.ref}, label %{yes}, label %{no}{profile}")
        self.terminated = True

    def alloca(self, kind: Any, hint: str) -> str:
        self.counter += 1
        name = f"%{hint}.{self.counter}"
        self.allocas.append(f"  {name} = alloca {ir_type(kind)}")
        return name

    def error(self, node: Any, reason: str) -> CompileError:
        inside = self.frames[-1].function.name if self.frames else "?"
        return CompileError(f"{self.file}:{getattr(node, 'lineno', 1)}: in {inside}: {reason}")
