"""AltiVec entries compiled for tests: handlers and stencils as functions of a vCPU and the fields' values."""

from __future__ import annotations

import ast
import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

from powervisor.insns import TABLE
from powervisor.isa.insn import Insn
from powervisor.native.codespace import CodeSpace
from powervisor.native.compile import TAIL, Module
from powervisor.native.elf import Object
from powervisor.native.ints import i64, u32
from powervisor.native.lang import NativeFunction
from powervisor.native.llvm import compile_object
from powervisor.native.values import Value
from powervisor.translate.runtime import LIBRARY
from powervisor.translate.stencils import HoleTable, StencilCompiler, Variant, variants
from powervisor.vcpu.state import Vcpu

ENTRIES = [entry for entry in TABLE if entry.group.startswith("altivec")]
MAX_FIELDS = 5


class StencilAsFunction(StencilCompiler):
    """A stencil whose holes are arguments; returns whether it leaves to the handler."""

    def field_value(self, name: str) -> Value:
        field = self.variant.insn.fields[name]
        number = list(self.variant.insn.fields).index(name)
        kind = i64 if field.signed else u32
        value = f"%f{number}" if field.signed else self.temp(f"trunc i64 %f{number} to i32")
        return Value(kind, value, ("field", name), name in self.variant.nonzero)

    def scaled(self, index: Value, step: int, node: ast.AST) -> str:
        return super().scaled(Value(index.kind, index.ref), step, node)

    def derived(self, function: NativeFunction, arguments: list[Any], node: ast.AST) -> Any:
        return self.inline_call(function, arguments, node)

    def tail(self, target: str, budget: str = "", page: str = "", x: str = "") -> None:
        self.put("ret i1 true" if "n.cold" in target else "ret i1 false")
        self.terminated = True

    def stencil(self, symbol: str) -> str:
        text = super().stencil(symbol)
        fields = ", ".join(f"i64 %f{n}" for n in range(MAX_FIELDS))
        return f'define i1 @"{symbol}"(ptr %cpu, {fields}) {{\n{self.context()}{text[text.index("entry:") + 7 :]}'

    @staticmethod
    def context() -> str:
        """The stencils' second argument."""
        return (
            f"  %ctx.at = getelementptr i8, ptr %cpu, i64 {Vcpu.offset('context')}\n"
            "  %ctx.address = load i64, ptr %ctx.at\n  %ctx = inttoptr i64 %ctx.address to ptr\n"
        )


class Program:
    """Functions in memory of their own."""

    def __init__(self, text: str) -> None:
        self.space = CodeSpace(1 << 21)
        self.symbols = Object(compile_object(text)).load(self.space.take, self._missing)

    @staticmethod
    def _missing(name: str) -> int:
        raise AssertionError(f"native code needs {name}")

    def function(self, symbol: str) -> Callable[..., bool]:
        """(vCPU address, fields in the encoding's order) -> abandoned."""
        kind = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p, *[ctypes.c_uint64] * MAX_FIELDS)
        call = kind(self.symbols[symbol])

        def run(cpu: int, *fields: int) -> bool:
            return bool(call(cpu, *[int(f) & (1 << 64) - 1 for f in fields], *[0] * (MAX_FIELDS - len(fields))))

        return run


@cache
def handlers() -> dict[str, Callable[..., bool]]:
    """Every AltiVec handler by the entry's name."""
    module = Module()
    symbols = {entry.name: module.require(entry.function, export=True) for entry in ENTRIES}
    program = Program(module.emit() + LIBRARY)
    return {name: program.function(symbol) for name, symbol in symbols.items()}


@cache
def stencils() -> dict[str, list[tuple[Variant, Callable[..., bool]]]]:
    """Every AltiVec stencil by the entry's name; 64-bit mode."""
    module, holes, texts, symbols = Module(), HoleTable(), [], {}
    for entry in ENTRIES:
        for variant in (v for v in variants(entry) if v.cached is None) if entry.hot else ():
            symbol = f"stencil.{entry.name}.{variant.index}"
            texts.append(StencilAsFunction(module, holes, variant, True, set()).stencil(symbol))
            symbols[symbol] = variant
    program = Program("\n".join([*texts, *sorted(module.declarations)]) + TAIL + LIBRARY)
    result: dict[str, list[tuple[Variant, Callable[..., bool]]]] = {}
    for symbol, variant in symbols.items():
        result.setdefault(variant.insn.name, []).append((variant, program.function(symbol)))
    return result


def stencil_for(entry: Insn, word: int) -> Callable[..., bool] | None:
    """The stencil a word selects; None where there is none."""
    values = entry.operands(word)
    for variant, function in stencils().get(entry.name, ()):
        fits = all(int(values[name]) == value for name, value in variant.fixed)
        if fits and all(int(values[name]) != 0 for name in variant.nonzero):
            return function
    return None
