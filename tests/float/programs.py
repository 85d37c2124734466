"""Floating-point instructions compiled for tests: handlers as functions, and fast paths that tell when they leave."""

from __future__ import annotations

import ast
import ctypes
from collections.abc import Iterable
from functools import cache
from typing import Any

from powervisor.insns import TABLE
from powervisor.isa.insn import Insn
from powervisor.native.codespace import CodeSpace
from powervisor.native.compile import FunctionCompiler, Module
from powervisor.native.elf import Object
from powervisor.native.ints import u8, u64
from powervisor.native.lang import NativeFunction, address_of, call_host, native
from powervisor.native.llvm import compile_object
from powervisor.native.values import Const, Value
from powervisor.vcpu import fpscr, ops
from powervisor.vcpu.state import Vcpu

ENTRIES: dict[str, Insn] = {entry.name: entry for entry in TABLE if entry.group.startswith("float")}
FRT, FRA, FRB, FRC = 3, 4, 5, 6


class FastCompiler(FunctionCompiler):
    """Compiles an instruction as its stencil would be: optimistic, Rc=0, leaving instead of rare paths.

    The function returns 1 ("abandoned") where the stencil would leave to the handler.
    """

    def function(self, function: NativeFunction, statics: dict[str, Any], symbol: str) -> str:
        self.leaves = any(entry.function is function for entry in ENTRIES.values())
        if not self.leaves:
            return super().function(function, statics, symbol)
        return super().function(function, statics, symbol).replace(f"@@{symbol}@@ void", f"@@{symbol}@@ i1")

    def bind(self, name: str, value: Any, node: Any) -> None:
        constant = name == "rc" and self.leaves and len(self.frames) == 1
        super().bind(name, Const(value.kind(0)) if constant else value, node)

    def call(self, function: NativeFunction, arguments: list[Any], node: ast.AST) -> Any:
        if not self.leaves:
            return super().call(function, arguments, node)
        if function is ops.optimistic:
            return Const(True)
        if function.cold:
            self.put("ret i1 true")
            self.lines.append(f"{self.new_label('dead')}:")
            _, result = self.signature(function, self.split_arguments(function, arguments, node)[0])
            return None if result is None else Value(result, "poison")
        return self.inline_call(function, arguments, node)

    def emit_return(self, value: Value | None) -> None:
        if self.leaves:
            self.put("ret i1 false")
            self.terminated = True
        else:
            super().emit_return(value)


@native
def guarded(cpu: Vcpu, function: u64, a: u64, b: u64, c: u64, d: u64, e: u64) -> bool:
    """Call native code as the engine does: Python before and after disturbs the host's FPU flags."""
    fpscr.fp_enter(cpu)
    result = call_host(u8, function, address_of(cpu), a, b, c, d, e)
    fpscr.fp_leave(cpu)
    return result & 1 != 0


@native
def guarded_twice(cpu: Vcpu, first: u64, second: u64, a: u64, b: u64, c: u64, d: u64) -> bool:
    """A fast path, then a handler whose first field is `d`, without leaving native code between."""
    fpscr.fp_enter(cpu)
    left = call_host(u8, first, address_of(cpu), a, b, c, u64(0))
    call_host(u8, second, address_of(cpu), d, u64(0))
    fpscr.fp_leave(cpu)
    return left & 1 != 0


class Compiled:
    """Native functions loaded into memory of their own, called with a vCPU and up to five integers."""

    def __init__(self, functions: Iterable[NativeFunction], compiler: type[FunctionCompiler] | None = None) -> None:
        module = Module(compiler)
        symbols = {function: module.require(function, export=True) for function in (*functions, guarded, guarded_twice)}
        self.space = CodeSpace(1 << 20)
        loaded = Object(compile_object(module.emit())).load(self.space.take, self._missing)
        self.addresses = {function: loaded[symbol] for function, symbol in symbols.items()}
        kind = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p, *[ctypes.c_uint64] * 6)
        self.call, self.call_twice = kind(self.addresses[guarded]), kind(self.addresses[guarded_twice])

    def _missing(self, name: str) -> int:
        """A C library function, through a jump within reach of the code."""
        address = ctypes.cast(getattr(ctypes.CDLL(None), name), ctypes.c_void_p).value or 0
        code = b"\xff\x25\0\0\0\0" + address.to_bytes(8, "little")  # jmp *0(%rip)
        place = self.space.take(len(code))
        ctypes.memmove(place, code, len(code))
        return place

    def run(self, function: NativeFunction, cpu: Any, *arguments: int) -> bool:
        """Call a function; true when it was abandoned (by an interrupt, or by a fast path)."""
        padded = [*arguments, 0, 0, 0, 0, 0][:5]
        return bool(self.call(cpu.address, self.addresses[function], *padded))


def operands(entry: Insn, **given: int) -> list[int]:
    """Field values for a call: FRT, FRA, FRB and FRC as named here, others as given or 0."""
    fields = {"frt": FRT, "fra": FRA, "frb": FRB, "frc": FRC, **given}
    return [fields.get(name, 0) for name in entry.fields]


@cache
def handlers() -> Compiled:
    """Every floating-point handler, and `settle`."""
    return Compiled([*(e.function for e in ENTRIES.values()), fpscr.settle])


STORAGE = [e for e in ENTRIES.values() if e.group == "float_storage"]
HOT = [e for e in ENTRIES.values() if e.hot and e.group != "float_storage"]


@cache
def fast_paths() -> Compiled:
    """The fast path of every floating-point instruction that has one."""
    return Compiled([e.function for e in (*HOT, *STORAGE)], FastCompiler)
