"""An instruction's semantics as a function that a region calls, and which LLVM inlines: its *meaning*.

Register numbers and signed immediates are parameters, all other fields are known when it is compiled, so that few
functions serve many instructions. It works on the frame (see `frame`) and returns what comes next.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

from ...isa.insn import FORM_FIELDS, Insn
from ...native.compile import Module
from ...native.ints import i64, u8, u32, u64
from ...native.lang import NativeFunction
from ...native.source import syntax
from ...native.values import Const, Frame, Place, Value
from ...vcpu import fpscr, ops
from ...vcpu.state import Mode, Vcpu
from ..stencils import value_groups
from .frame import (
    ARRAYS,
    COMPARED,
    COMPARED_A,
    COMPARED_B,
    CR_FIELDS,
    FIRST,
    READ_ONLY,
    SCALARS,
    SPRS,
    frame_kind,
    nibble_ir,
    offset_of,
)
from .memory import GO_ON, JUMP, TAKEN, MemoryCompiler
from .strict import strict_floating_point

REGISTER_FIELD = re.compile(r"r[abst]|fr[abcst]|vr[abcst]")
PARAMETERS = "ptr %cpu, ptr %frame, ptr %ctx, ptr %near, i1 %sure, i64 %cia"


class NotForRegions(Exception):
    """An instruction that only its handler executes."""


Token = tuple[str, Any]
"""A slot before the word is known: (array or scalar, element: a number, a field's name, or None)."""


@dataclass(frozen=True)
class Meaning:
    """A compiled instruction: IR of its function, and what it does to the frame."""

    symbol: str
    text: str
    declarations: frozenset[str]
    arguments: tuple[str, ...]
    reads: frozenset[Token]
    writes: frozenset[Token]
    leaves: bool
    access: str
    """"read", "write" or "": what its only access of memory is,"""
    size: int
    """of so many bytes."""

    def slots(self, tokens: frozenset[Token], operands: dict[str, Any]) -> int:
        """Bit mask of the slots that tokens mean in an instruction with these operands."""
        mask = 0
        for name, element in tokens:
            number = int(operands[element]) if isinstance(element, str) else element or 0
            mask |= 1 << FIRST[name] + number
        return mask


@dataclass
class State(Place):
    """A place in the frame."""

    token: Token = ("", None)


@dataclass
class StateArray(Place):
    """An array in the frame."""

    name: str = ""


@dataclass
class CrFile(Place):
    """Vcpu.cr."""


@dataclass
class CrField(Place):
    """One CR field, which may be known by a compare's operands."""

    number: int = 0


@dataclass
class SprFile(Place):
    """Vcpu.spr."""


def fixed_fields(insn: Insn, word: int) -> tuple[tuple[str, int], ...]:
    """The fields whose values are compiled in; NotForRegions where only the handler knows the form."""
    result = []
    for name, f in insn.fields.items():
        value = int(f.get(word))
        if name in FORM_FIELDS and f.width == 1 and value and name in insn.cold_forms:
            raise NotForRegions
        if name in insn.variants and not any(value in group for group in value_groups(insn, name)):
            raise NotForRegions
        if REGISTER_FIELD.fullmatch(name):
            if name in insn.split and value == 0:
                result.append((name, 0))
        elif not f.signed:
            result.append((name, value))
    return tuple(result)


def meaning_of(insn: Insn, word: int, mode: int, narrow: bool) -> Meaning:
    """The meaning of a word in a mode; NotForRegions when its handler must execute it.

    `narrow`: GPRs have 32 bits, and the upper halves that other code leaves in them mean nothing.
    """
    if not insn.hot or (insn.select is not None and not insn.select(u32(word), u32(mode))):
        raise NotForRegions
    if "fp" in insn.needs and (not mode & Mode.FP or mode & Mode.FPX):
        raise NotForRegions
    if "altivec" in insn.needs and not mode & Mode.VEC:
        raise NotForRegions
    return compiled(insn, fixed_fields(insn, word), bool(mode & Mode.CM), narrow)


_counter = [0]


@cache
def _attempted(insn: Insn, fixed: tuple[tuple[str, int], ...], cm: bool, narrow: bool) -> Meaning | None:
    module = Module()
    compiler = MeaningCompiler(module, insn, dict(fixed), cm, narrow)
    _counter[0] += 1
    try:
        return compiler.meaning(f"m{_counter[0]}.{insn.name}")
    except NotForRegions:
        return None


def compiled(insn: Insn, fixed: tuple[tuple[str, int], ...], cm: bool, narrow: bool) -> Meaning:
    """The meaning of an instruction with some fields known; NotForRegions when there is none."""
    found = _attempted(insn, fixed, cm, narrow)
    if found is None:
        raise NotForRegions
    return found


class MeaningCompiler(MemoryCompiler):
    """Emits an instruction's semantics over the frame; leaving is to return LEAVE."""

    overrides: ClassVar[dict[NativeFunction, str]] = MemoryCompiler.overrides | {
        ops.read_cr: "on_read_cr", ops.write_cr: "on_write_cr",
        fpscr.note_compare: "on_note_compare",
        ops.set_signed: "on_set_signed", ops.set_unsigned: "on_set_unsigned", ops.cr_bit: "on_cr_bit",
    }  # fmt: skip

    def __init__(
        self, module: Module, insn: Insn, fixed: dict[str, int], cm: bool, narrow: bool = False
    ) -> None:  # fmt: skip
        super().__init__(module, cm)
        self.insn, self.fixed, self.narrow = insn, fixed, narrow
        self.reads: set[Token] = set()
        self.writes: set[Token] = set()

    def meaning(self, symbol: str) -> Meaning:
        """The function and what it does."""
        insn = self.insn
        frame = Frame(insn.function, {"cpu": Value(Vcpu, "%cpu")}, None)
        arguments = []
        for name, f in insn.fields.items():
            if name in self.fixed:
                frame.scope[name] = Const(u32(self.fixed[name]))
            else:
                nonzero = name in insn.split and not f.signed
                frame.scope[name] = Value(i64 if f.signed else u32, f"%f.{name}", ("field", name), nonzero)
                arguments.append(name)
        self.frames.append(frame)
        self.enter(insn.function)
        self.body(syntax(insn.function)[0].body)
        if not self.terminated:
            self.emit_return(None)
        if self.module.queue:
            raise self.error(None, f"{insn.name}: {self.module.queue[0][0].name} was not inlined")
        if any(name in READ_ONLY for name, _ in self.writes):
            raise NotForRegions
        kinds = "".join(f", {'i64' if insn.fields[name].signed else 'i32'} %f.{name}" for name in arguments)
        lines, strict = strict_floating_point(self.lines)
        text = "\n".join(["entry:", *self.allocas, *lines])
        return Meaning(
            symbol, f'define internal i8 @"{symbol}"({PARAMETERS}{kinds}) #4 {{\n{text}\n}}\n',
            frozenset(self.module.declarations | strict), tuple(arguments), frozenset(self.reads),
            frozenset(self.writes), self.leaves, *(self.accesses[0] if len(self.accesses) == 1 else ("", 0)),
        )  # fmt: skip

    # ---- the frame -------------------------------------------------------------------------------------------------

    def in_frame(self, offset: int) -> str:
        return self.temp(f"getelementptr i8, ptr %frame, i64 {offset}")

    def field_place(self, base: Value, name: str, node: ast.AST) -> Place:
        if base.kind is not Vcpu:
            return super().field_place(base, name, node)
        kind = Vcpu.fields[name].type if name in Vcpu.fields else None
        if name in ARRAYS:
            return StateArray(kind, self.in_frame(offset_of(name)), name)
        if name in SCALARS:
            return State(kind, self.in_frame(offset_of(name)), (name, None))
        place = super().field_place(base, name, node)
        if name == "cr":
            return CrFile(place.kind, place.ref)
        return SprFile(place.kind, place.ref) if name == "spr" else place

    def element(self, base: Place, index: Any, node: ast.AST) -> Place:
        if isinstance(base, CrFile):
            return CrField(base.kind.element, "", self.known(index))
        if isinstance(base, SprFile) and self.known(index) in SPRS:
            name = SPRS[self.known(index)]
            return State(base.kind.element, self.in_frame(offset_of(name)), (name, None))
        place = super().element(base, index, node)
        if not isinstance(base, StateArray):
            return place
        return State(place.kind, place.ref, (base.name, self.element_of(index)))

    def known(self, index: Any) -> int:
        """An index that must be known when compiling."""
        if not isinstance(index, Const):
            raise NotForRegions
        return int(index.value)

    def element_of(self, index: Any) -> Any:
        """Which element of an array an index names: a number or a field."""
        if isinstance(index, Const):
            return int(index.value)
        if index.hole is not None and index.hole[0] == "field":
            return index.hole[1]
        raise NotForRegions

    def read(self, value: Any) -> Any:
        if isinstance(value, CrField):
            return self.read_cr(value.number)
        if isinstance(value, State):
            self.reads.add(value.token)
            kind = frame_kind(value.token[0], self.narrow)
            if kind:
                got = self.temp(f"load {kind}, ptr {value.ref}")
                return Value(u64, self.temp(f"{'zext' if kind == 'i32' else 'bitcast'} {kind} {got} to i64"))
        return super().read(value)

    def write(self, place: Place, value: Any, node: ast.AST) -> None:
        if isinstance(place, CrField):
            nibble = self.coerce(value, u8, node)
            self.writes.add(("cr", place.number))
            self.put(f"store i8 {nibble.ref}, ptr {self.in_frame(offset_of('cr') + place.number)}")
            self.put(f"store i8 0, ptr {self.in_frame(COMPARED + place.number)}")
            return
        if isinstance(place, State):
            self.writes.add(place.token)
            kind = frame_kind(place.token[0], self.narrow)
            if kind:
                whole = self.coerce(value, u64, node).ref
                put = self.temp(f"{'trunc' if kind == 'i32' else 'bitcast'} i64 {whole} to {kind}")
                self.put(f"store {kind} {put}, ptr {place.ref}")
                return
        super().write(place, value, node)

    def word_field_addr(self, node: ast.AST, view: Any, name: Any, index: Any = None) -> Value:
        if view.kind is Vcpu and name.value in (*ARRAYS, *SCALARS, "cr"):
            raise NotForRegions  # LLVM would keep the whole frame in memory
        return super().word_field_addr(node, view, name, index)

    # ---- CR fields -------------------------------------------------------------------------------------------------

    def operands(self, number: int) -> tuple[str, str, str]:
        """What was compared for a CR field, and whether anything was."""
        self.reads.add(("cr", number))
        self.reads.add(("so", None))
        a = self.temp(f"load i64, ptr {self.in_frame(COMPARED_A + 8 * number)}")
        b = self.temp(f"load i64, ptr {self.in_frame(COMPARED_B + 8 * number)}")
        kind = self.temp(f"load i8, ptr {self.in_frame(COMPARED + number)}")
        return a, b, self.temp(f"icmp ne i8 {kind}, 0")

    def read_cr(self, number: int) -> Value:
        lines, result = nibble_ir(f"%t{self.counter}.n", "%frame", number)
        self.counter += 1
        self.reads.add(("cr", number))
        self.reads.add(("so", None))
        self.lines += lines
        return Value(u8, result)

    def on_read_cr(self, node: ast.AST, cpu: Any) -> Value:
        value = "0"
        for number in range(CR_FIELDS):
            wide = self.temp(f"zext i8 {self.read_cr(number).ref} to i32")
            value = self.temp(f"or i32 {value}, {self.temp(f'shl i32 {wide}, {28 - 4 * number}')}")
        return Value(u32, value)

    def on_write_cr(self, node: ast.AST, cpu: Any, value: Any) -> None:
        whole = self.coerce(value, u32, node).ref
        for number in range(CR_FIELDS):
            nibble = self.temp(f"trunc i32 {self.temp(f'lshr i32 {whole}, {28 - 4 * number}')} to i8")
            self.write(CrField(u8, "", number), Value(u8, self.temp(f"and i8 {nibble}, 15")), node)

    def on_cr_bit(self, node: ast.AST, cpu: Any, bit: Any) -> Any:
        number, which = divmod(self.known(bit), 4)
        a, b, compared = self.operands(number)
        nibble = self.temp(f"load i8, ptr {self.in_frame(offset_of('cr') + number)}")
        stored = self.temp(f"icmp ne i8 {self.temp(f'and i8 {nibble}, {8 >> which}')}, 0")
        if which == 3:
            so = self.temp(f"load i8, ptr {self.in_frame(offset_of('so'))}")
            test = self.temp(f"icmp ne i8 {so}, 0")
        else:
            test = self.temp(f"icmp {('slt', 'sgt', 'eq')[which]} i64 {a}, {b}")
        return Value(bool, self.temp(f"select i1 {compared}, i1 {test}, i1 {stored}"))

    def compared(self, node: ast.AST, bf: Any, a: str, b: str) -> None:
        number = self.known(bf)
        self.writes.add(("cr", number))
        self.reads.add(("so", None))  # part of the nibble, when it is stored
        self.put(f"store i64 {a}, ptr {self.in_frame(COMPARED_A + 8 * number)}")
        self.put(f"store i64 {b}, ptr {self.in_frame(COMPARED_B + 8 * number)}")
        self.put(f"store i8 1, ptr {self.in_frame(COMPARED + number)}")

    def on_set_signed(self, node: ast.AST, cpu: Any, bf: Any, a: Any, b: Any) -> None:
        self.compared(node, bf, self.coerce(a, i64, node).ref, self.coerce(b, i64, node).ref)

    def on_set_unsigned(self, node: ast.AST, cpu: Any, bf: Any, a: Any, b: Any) -> None:
        # Unsigned order is signed order with the sign bits flipped: a field needs one kind of compare only.
        flipped = [self.temp(f"xor i64 {self.coerce(v, u64, node).ref}, -9223372036854775808") for v in (a, b)]
        self.compared(node, bf, *flipped)

    def on_note_compare(self, node: ast.AST, cpu: Any, field: Any) -> None:
        self.reads.add(("fp_pending", None))
        self.writes.add(("fp_pending", None))
        noted = self.temp(f"or i8 {self.coerce(field, u8, node).ref}, {fpscr.COMPARE_NOTED}")
        self.put(f"store i8 {noted}, ptr {self.in_frame(offset_of('fp_pending') + 3)}")

    # ---- calls -----------------------------------------------------------------------------------------------------

    def attempted_call(self, function: NativeFunction, arguments: list[Any], node: ast.AST) -> Value:
        raise NotForRegions

    def emit_return(self, value: Value | None) -> None:
        self.finish(GO_ON)

    def on_cia(self, node: ast.AST, cpu: Any) -> Any:
        return Value(u64, "%cia")

    def on_jump_relative(self, node: ast.AST, cpu: Any, displacement: Any) -> Any:
        self.finish(TAKEN)

    def on_jump(self, node: ast.AST, cpu: Any, target: Any) -> Any:
        address = self.masked(self.coerce(target, u64, node).ref)
        self.put(f"store i64 {address}, ptr {self.in_frame(offset_of('npc'))}")
        self.finish(JUMP)
