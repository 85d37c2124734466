"""The built-in guest's native functions to a PowerPC object, through LLVM."""

from __future__ import annotations

import ast
import string
from typing import Any

from ...native.compile import FunctionCompiler, Module
from ...native.ints import u8, u32, u64
from ...native.lang import NativeFunction
from ...native.struct import Struct
from ...native.values import Const, Value, ir_type, is_int, is_struct
from .program.console import put_number, put_text

TRIPLE = "powerpc-unknown-linux-gnu"
CPU = "e500mc"
FEATURES = "-hard-float"
"""No floating-point registers in compiled code, so that interrupt handlers need not save them."""


class GuestModule(Module):
    """Native functions and the constants and structs they name."""

    def __init__(self) -> None:
        super().__init__(GuestCompiler)
        self.constants: dict[bytes, str] = {}
        self.structs: dict[str, int] = {}
        self.externals: set[str] = set()
        self.routines: set[str] = set()

    def constant(self, data: bytes) -> str:
        """Operand of constant bytes; equal ones are stored once."""
        return self.constants.setdefault(data, f"@constant.{len(self.constants)}")

    def emit(self) -> str:
        """The module's IR."""
        code = super().emit()
        lines = [f'@"{name}" = external global i8' for name in sorted(self.externals - self.routines)]
        lines += [f'@"the.{name}" = global [{size} x i8] zeroinitializer, align 16'
                  for name, size in self.structs.items()]  # fmt: skip
        for data, name in self.constants.items():
            escaped = "".join(f"\\{byte:02x}" for byte in data)
            lines.append(f'{name} = private unnamed_addr constant [{len(data)} x i8] c"{escaped}", align 4')
        return "\n".join([*lines, code])


class GuestCompiler(FunctionCompiler):
    """Adds the words of `words`."""

    module: GuestModule

    def _constant(self, node: ast.AST, value: Any, kind: type) -> Any:
        if not isinstance(value, Const) or not isinstance(value.value, kind):
            raise self.error(node, f"a compile-time {kind.__name__} is needed")
        return value.value

    def _address(self, operand: str) -> Value:
        return Value(u32, self.temp(f"ptrtoint ptr {operand} to i32"))

    def _pointer(self, node: ast.AST, address: Any) -> str:
        return self.temp(f"inttoptr i32 {self.coerce(address, u32, node).ref} to ptr")

    def word_text(self, node: ast.AST, value: Any) -> Value:
        return self._address(self.module.constant(self._constant(node, value, str).encode() + b"\0"))

    def word_blob(self, node: ast.AST, value: Any) -> Value:
        return self._address(self.module.constant(self._constant(node, value, bytes)))

    def word_the(self, node: ast.AST, kind: Any) -> Value:
        if not isinstance(kind, Const) or not is_struct(kind.value):
            raise self.error(node, "a Struct class is needed")
        self.module.structs[kind.value.__name__] = kind.value.size
        return Value(kind.value, f'@"the.{kind.value.__name__}"')

    def word_peek(self, node: ast.AST, kind: Any, address: Any) -> Value:
        what = self.kind_argument(node, kind)
        return Value(what, self.temp(f"load volatile {what.ir}, ptr {self._pointer(node, address)}, align {what.size}"))

    def word_poke(self, node: ast.AST, kind: Any, address: Any, value: Any) -> None:
        what = self.kind_argument(node, kind)
        pointer, data = self._pointer(node, address), self.coerce(value, what, node)
        self.put(f"store volatile {what.ir} {data.ref}, ptr {pointer}, align {what.size}")

    def word_symbol(self, node: ast.AST, name: Any) -> Value:
        label = self._constant(node, name, str)
        self.module.externals.add(label)
        return self._address(f'@"{label}"')

    def word_routine(self, node: ast.AST, result: Any, name: Any, *arguments: Any) -> Value | None:
        label, kind = self._constant(node, name, str), result.value
        operands = []
        for argument in arguments:
            if isinstance(argument, Const):
                argument = self.coerce(argument, type(argument.value) if is_int(type(argument.value)) else u32, node)
            operands.append(argument)
        self.module.routines.add(label)
        self.declare(f'{ir_type(kind)} @"{label}"({", ".join(ir_type(o.kind) for o in operands)})')
        call = f'call {ir_type(kind)} @"{label}"({", ".join(f"{ir_type(o.kind)} {o.ref}" for o in operands)})'
        if kind is None:
            self.put(call)
            return None
        return Value(kind, self.temp(call))

    def word_say(self, node: ast.AST, form: Any, *values: Any) -> None:
        rest = list(values)
        for literal, name, spec, _ in string.Formatter().parse(self._constant(node, form, str)):
            if literal:
                self._print_text(node, Const(literal), 0, False)
            if name is None:
                continue
            if name or not rest:
                raise self.error(node, "say: as many {} as values, and no names in them")
            self._print(node, rest.pop(0), spec or "")
        if rest:
            raise self.error(node, f"say: {len(rest)} values too many")

    def _print(self, node: ast.AST, value: Any, spec: str) -> None:
        kind = spec[-1:] if spec[-1:] in ("s", "x", "d") else ""
        layout = spec.removesuffix(kind)
        right, fill = not layout.startswith("<"), "0" if layout.lstrip("<>").startswith("0") else " "
        width = int(layout.lstrip("<>") or 0)
        if kind == "s" or (isinstance(value, Const) and isinstance(value.value, str)):
            self._print_text(node, value, width, right and layout.startswith(">"))
            return
        number = self.convert(value, u64)
        base = Value(u32, "16" if kind == "x" else "10")
        operands = [number, base, Value(u32, str(width)), Value(u8, str(ord(fill))), Value(bool, str(right).lower())]
        self.call(put_number, operands, node)

    def _print_text(self, node: ast.AST, value: Any, width: int, right: bool) -> None:
        if isinstance(value, Const) and isinstance(value.value, str):
            value = self.word_text(node, value)
        operands = [self.coerce(value, u32, node), Value(u32, str(width)), Value(bool, str(right).lower())]
        self.call(put_text, operands, node)

    def word_relax(self, node: ast.AST) -> None:
        self.word_routine(node, Const(None), Const("relax"))


def compile_guest(
    entries: tuple[NativeFunction, ...], structs: tuple[type[Struct], ...]
) -> tuple[bytes, dict[str, str]]:
    """The ELF object of entry points, structs and all they need; the symbols of the entries by function name."""
    import llvmlite.binding as llvm

    module = GuestModule()
    module.structs = {struct.__name__: struct.size for struct in structs}
    symbols = {entry.body.__name__: module.require(entry, export=True) for entry in entries}
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = llvm.Target.from_triple(TRIPLE).create_target_machine(cpu=CPU, features=FEATURES, opt=2, reloc="static")
    parsed = llvm.parse_assembly(module.emit())
    parsed.triple, parsed.data_layout = TRIPLE, str(machine.target_data)
    options = llvm.create_pipeline_tuning_options(speed_level=1)
    passes = llvm.create_pass_builder(machine, options)
    passes.getModulePassManager().run(parsed, passes)
    code: bytes = machine.emit_object(parsed)
    return code, symbols
