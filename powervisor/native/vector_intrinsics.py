"""The IR of vector operations and of the words in `vectors`.

Guest lane n is LLVM's lane count-1-n: lane 0 holds the most significant bits in both, so that a reinterpretation is
a bitcast.
"""

from __future__ import annotations

import ast
from functools import cache
from typing import TYPE_CHECKING, Any

from .ints import u128
from .values import CompileError, Const, Value, kind_name
from .vectors import Vector, i32x4, is_vector, splat, u8x16, u32x4

_OPERATORS = {
    ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.BitAnd: "and", ast.BitOr: "or", ast.BitXor: "xor",
}  # fmt: skip
_FLOATS = "<4 x float>"


@cache
def host_fuses() -> bool:
    """Whether the host multiplies and adds with one rounding; LLVM would call libm otherwise."""
    import llvmlite.binding as llvm

    return bool(llvm.get_host_cpu_features().get("fma"))


class VectorIntrinsics:
    """Mixed into the compiler; a method per word, named `word_<name>`."""

    if TYPE_CHECKING:

        def temp(self, text: str) -> str: ...
        def error(self, node: Any, reason: str) -> CompileError: ...
        def coerce(self, value: Any, kind: Any, node: Any) -> Value: ...
        def unify(self, a: Any, b: Any, node: ast.AST) -> tuple[Value, Value]: ...
        def declare(self, text: str) -> None: ...

    # ---- operators -------------------------------------------------------------------------------------------------

    def vector_constant(self, constant: Any, kind: Any, node: Any) -> Value:
        """A vector constant, or a bare literal in every lane."""
        if type(constant) is int:
            constant = splat(kind, constant)
        if type(constant) is not kind:
            raise self.error(node, f"{constant!r} given, {kind_name(kind)} needed: convert it")
        lane = kind.lane.ir
        return Value(kind, "<" + ", ".join(f"{lane} {value}" for value in reversed(constant.lanes)) + ">")

    def vector_binary(self, op: Any, a: Value, b: Value, node: ast.AST) -> Value:
        """An operator on two vectors of a kind."""
        shifts = {ast.LShift: "shl", ast.RShift: "ashr" if a.kind.lane.signed else "lshr"}
        name = {**_OPERATORS, **shifts}.get(op)
        if name is None:
            raise self.error(node, f"{kind_name(a.kind)} has no {op.__name__}")
        return Value(a.kind, self.temp(f"{name} {a.kind.ir} {a.ref}, {b.ref}"))

    def vector_convert(self, arguments: list[Any], kind: Any, node: ast.AST) -> Any:
        """`kind(value)` where one of the two is a vector type."""
        if len(arguments) != 1:
            raise self.error(node, "a conversion takes one argument")
        value = arguments[0]
        if isinstance(value, Const):
            return Const(kind(value.value))
        if value.kind is kind:
            return value
        for side in (kind, value.kind):
            if side is not u128 and not is_vector(side):
                raise self.error(node, f"{kind_name(side)} is not 128 bits wide")
        return Value(kind, self.temp(f"bitcast {value.kind.ir} {value.ref} to {kind.ir}"))

    # ---- making and taking apart -----------------------------------------------------------------------------------

    def vector_kind(self, node: ast.AST, kind: Any) -> Any:
        if not isinstance(kind, Const) or not is_vector(kind.value):
            raise self.error(node, "a vector type is needed")
        return kind.value

    def vector_operand(self, node: ast.AST, value: Any) -> Value:
        if isinstance(value, Const) and isinstance(value.value, Vector):
            return self.vector_constant(value.value, type(value.value), node)
        if not isinstance(value, Value) or not is_vector(value.kind):
            raise self.error(node, "a vector is needed")
        return value

    def word_splat(self, node: ast.AST, kind: Any, value: Any) -> Any:
        what = self.vector_kind(node, kind)
        if isinstance(value, Const):
            return Const(splat(what, value.value))
        lane, count = what.lane, what.count
        one = self.coerce(value, lane, node)
        first = self.temp(f"insertelement {what.ir} poison, {lane.ir} {one.ref}, i32 0")
        text = f"shufflevector {what.ir} {first}, {what.ir} poison, <{count} x i32> zeroinitializer"
        return Value(what, self.temp(text))

    def word_lane(self, node: ast.AST, vector: Any, index: Any) -> Value:
        value = self.vector_operand(node, vector)
        if not isinstance(index, Const) or not 0 <= index.value < value.kind.count:
            raise self.error(node, f"a lane number 0..{value.kind.count - 1}, known when compiling, is needed")
        at = value.kind.count - 1 - int(index.value)
        return Value(value.kind.lane, self.temp(f"extractelement {value.kind.ir} {value.ref}, i32 {at}"))

    def word_lanes(self, node: ast.AST, kind: Any, *values: Any) -> Value:
        what = self.vector_kind(node, kind)
        if len(values) != what.count:
            raise self.error(node, f"{kind_name(what)} has {what.count} lanes")
        whole = "poison"
        for index, value in enumerate(values):
            one = self.coerce(value, what.lane, node)
            at = what.count - 1 - index
            whole = self.temp(f"insertelement {what.ir} {whole}, {what.lane.ir} {one.ref}, i32 {at}")
        return Value(what, whole)

    def word_shuffle(self, node: ast.AST, a: Any, b: Any, indices: Any) -> Value:
        x, y = self.unify(self.vector_operand(node, a), self.vector_operand(node, b), node)
        count = x.kind.count
        if not isinstance(indices, Const) or len(indices.value) != count:
            raise self.error(node, f"{count} lane numbers, known when compiling, are needed")
        picks = [count - 1 - i if i < count else 3 * count - 1 - i for i in reversed(indices.value)]
        mask = ", ".join(f"i32 {pick}" for pick in picks)
        ir = x.kind.ir
        return Value(x.kind, self.temp(f"shufflevector {ir} {x.ref}, {ir} {y.ref}, <{count} x i32> <{mask}>"))

    def word_lookup(self, node: ast.AST, table: Any, index: Any) -> Value:
        # In this shape LLVM finds the byte shuffle of the host (pshufb) where there is one.
        data, chosen = self.coerce(table, u8x16, node), self.coerce(index, u8x16, node)
        ir = u8x16.ir
        flipped = self.temp(f"xor {ir} {chosen.ref}, splat (i8 15)")
        bounded = self.temp(f"and {ir} {flipped}, splat (i8 15)")
        whole = "poison"
        for at in range(16):
            number = self.temp(f"extractelement {ir} {bounded}, i32 {at}")
            byte = self.temp(f"extractelement {ir} {data.ref}, i8 {number}")
            whole = self.temp(f"insertelement {ir} {whole}, i8 {byte}, i32 {at}")
        return Value(u8x16, whole)

    # ---- lane by lane ----------------------------------------------------------------------------------------------

    def two_vectors(self, node: ast.AST, a: Any, b: Any) -> tuple[Value, Value]:
        x, y = self.unify(a, b, node)
        return self.vector_operand(node, x), y

    def lane_compare(self, node: ast.AST, name: str, a: Any, b: Any) -> Value:
        x, y = self.two_vectors(node, a, b)
        if name == "gt":
            name = ("s" if x.kind.lane.signed else "u") + name
        bits = self.temp(f"icmp {name} {x.kind.ir} {x.ref}, {y.ref}")
        return Value(x.kind, self.temp(f"sext <{x.kind.count} x i1> {bits} to {x.kind.ir}"))

    def word_lanes_eq(self, node: ast.AST, a: Any, b: Any) -> Value:
        return self.lane_compare(node, "eq", a, b)

    def word_lanes_gt(self, node: ast.AST, a: Any, b: Any) -> Value:
        return self.lane_compare(node, "gt", a, b)

    def lane_call(self, node: ast.AST, name: str, a: Any, b: Any, signs: tuple[str, str] = ("u", "s")) -> Value:
        x, y = self.two_vectors(node, a, b)
        kind = x.kind
        count, lane = kind.count, kind.lane
        symbol = f"@llvm.{signs[lane.signed]}{name}.v{count}{lane.ir}"
        self.declare(f"{kind.ir} {symbol}({kind.ir}, {kind.ir})")
        return Value(kind, self.temp(f"call {kind.ir} {symbol}({kind.ir} {x.ref}, {kind.ir} {y.ref})"))

    def word_lanes_min(self, node: ast.AST, a: Any, b: Any) -> Value:
        return self.lane_call(node, "min", a, b)

    def word_lanes_max(self, node: ast.AST, a: Any, b: Any) -> Value:
        return self.lane_call(node, "max", a, b)

    def word_add_saturated(self, node: ast.AST, a: Any, b: Any) -> Value:
        return self.lane_call(node, "add.sat", a, b)

    def word_sub_saturated(self, node: ast.AST, a: Any, b: Any) -> Value:
        return self.lane_call(node, "sub.sat", a, b)

    def word_lanes_rotl(self, node: ast.AST, a: Any, amount: Any) -> Value:
        x, n = self.two_vectors(node, a, amount)
        kind = x.kind
        symbol = f"@llvm.fshl.v{kind.count}{kind.lane.ir}"
        self.declare(f"{kind.ir} {symbol}({kind.ir}, {kind.ir}, {kind.ir})")
        operands = ", ".join(f"{kind.ir} {ref}" for ref in (x.ref, x.ref, n.ref))
        return Value(kind, self.temp(f"call {kind.ir} {symbol}({operands})"))

    # ---- single precision ------------------------------------------------------------------------------------------

    def singles(self, node: ast.AST, value: Any) -> str:
        return self.temp(f"bitcast {u32x4.ir} {self.coerce(value, u32x4, node).ref} to {_FLOATS}")

    def single_pattern(self, value: str) -> Value:
        return Value(u32x4, self.temp(f"bitcast {_FLOATS} {value} to {u32x4.ir}"))

    def single_binary(self, node: ast.AST, op: str, a: Any, b: Any) -> Value:
        x, y = self.singles(node, a), self.singles(node, b)
        return self.single_pattern(self.temp(f"{op} {_FLOATS} {x}, {y}"))

    def word_host_add4(self, node: ast.AST, a: Any, b: Any) -> Value:
        return self.single_binary(node, "fadd", a, b)

    def word_host_sub4(self, node: ast.AST, a: Any, b: Any) -> Value:
        return self.single_binary(node, "fsub", a, b)

    def word_host_mul4(self, node: ast.AST, a: Any, b: Any) -> Value:
        return self.single_binary(node, "fmul", a, b)

    def word_host_div4(self, node: ast.AST, a: Any, b: Any) -> Value:
        return self.single_binary(node, "fdiv", a, b)

    def single_call(self, node: ast.AST, name: str, *values: Any) -> Value:
        symbol = f"@llvm.{name}.v4f32"
        self.declare(f"{_FLOATS} {symbol}({', '.join([_FLOATS] * len(values))})")
        operands = ", ".join(f"{_FLOATS} {self.singles(node, value)}" for value in values)
        return self.single_pattern(self.temp(f"call {_FLOATS} {symbol}({operands})"))

    def word_host_fma4(self, node: ast.AST, a: Any, b: Any, c: Any) -> Value:
        return self.single_call(node, "fma", a, b, c) if host_fuses() else self.fused_by_doubles(node, a, b, c)

    def fused_by_doubles(self, node: ast.AST, a: Any, b: Any, c: Any) -> Value:
        """a * b + c where the host has no such instruction.

        The product is exact in doubles; the sum is rounded to odd with the help of its error (Knuth's two-sum), after
        which rounding it again to single is the only rounding that counts.
        """
        doubles, bits = "<4 x double>", "<4 x i64>"

        def put(op: str, x: str, y: str, kind: str = doubles) -> str:
            return self.temp(f"{op} {kind} {x}, {y}")

        x, y, z = (self.temp(f"fpext {_FLOATS} {self.singles(node, value)} to {doubles}") for value in (a, b, c))
        product = put("fmul", x, y)
        total = put("fadd", product, z)
        part = put("fsub", total, product)
        error = put("fadd", put("fsub", product, put("fsub", total, part)), put("fsub", z, part))
        pattern, sign = (self.temp(f"bitcast {doubles} {value} to {bits}") for value in (total, error))
        inexact = put("fcmp one", error, "zeroinitializer")
        even = put("icmp eq", put("and", pattern, "splat (i64 1)", bits), "zeroinitializer", bits)
        away = put("icmp sge", put("xor", pattern, sign, bits), "zeroinitializer", bits)
        step = self.temp(f"select <4 x i1> {away}, {bits} splat (i64 1), {bits} splat (i64 -1)")
        change = put("and", inexact, even, "<4 x i1>")
        odd = self.temp(f"select <4 x i1> {change}, {bits} {put('add', pattern, step, bits)}, {bits} {pattern}")
        result = self.temp(f"bitcast {bits} {odd} to {doubles}")
        return self.single_pattern(self.temp(f"fptrunc {doubles} {result} to {_FLOATS}"))

    def word_host_sqrt4(self, node: ast.AST, a: Any) -> Value:
        return self.single_call(node, "sqrt", a)

    def word_host_from_signed4(self, node: ast.AST, a: Any) -> Value:
        value = self.coerce(a, i32x4, node)
        return self.single_pattern(self.temp(f"sitofp {i32x4.ir} {value.ref} to {_FLOATS}"))

    def word_host_from_unsigned4(self, node: ast.AST, a: Any) -> Value:
        value = self.coerce(a, u32x4, node)
        return self.single_pattern(self.temp(f"uitofp {u32x4.ir} {value.ref} to {_FLOATS}"))

    def word_host_to_signed4(self, node: ast.AST, a: Any) -> Value:
        # The host's conversion gives -2^31 for all it cannot express: turned over where too large, cleared for NaNs.
        x, ir = self.singles(node, a), i32x4.ir
        self.declare(f"{ir} @llvm.x86.sse2.cvttps2dq({_FLOATS})")
        value = self.temp(f"call {ir} @llvm.x86.sse2.cvttps2dq({_FLOATS} {x})")
        large = self.temp(f"fcmp oge {_FLOATS} {x}, splat (float 0x41E0000000000000)")
        number = self.temp(f"fcmp ord {_FLOATS} {x}, {x}")
        turned = self.temp(f"xor {ir} {value}, {self.temp(f'sext <4 x i1> {large} to {ir}')}")
        return Value(i32x4, self.temp(f"and {ir} {turned}, {self.temp(f'sext <4 x i1> {number} to {ir}')}"))

    def word_host_to_unsigned4(self, node: ast.AST, a: Any) -> Value:
        symbol = "@llvm.fptoui.sat.v4i32.v4f32"
        self.declare(f"{u32x4.ir} {symbol}({_FLOATS})")
        return Value(u32x4, self.temp(f"call {u32x4.ir} {symbol}({_FLOATS} {self.singles(node, a)})"))

    def single_compare(self, node: ast.AST, name: str, a: Any, b: Any) -> Value:
        x, y = self.singles(node, a), self.singles(node, b)
        bits = self.temp(f"fcmp {name} {_FLOATS} {x}, {y}")
        return Value(u32x4, self.temp(f"sext <4 x i1> {bits} to {u32x4.ir}"))

    def word_host_gt4(self, node: ast.AST, a: Any, b: Any) -> Value:
        return self.single_compare(node, "ogt", a, b)

    def word_host_ge4(self, node: ast.AST, a: Any, b: Any) -> Value:
        return self.single_compare(node, "oge", a, b)

    def word_host_eq4(self, node: ast.AST, a: Any, b: Any) -> Value:
        return self.single_compare(node, "oeq", a, b)
