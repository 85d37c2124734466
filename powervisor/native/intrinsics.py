"""The IR of the words in `lang`."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from .ints import u32, u64
from .struct import ArrayType, size_of
from .values import CompileError, Const, Value, ir_type, is_int, is_struct, kind_name

FP_BINARY = {"host_fadd": "fadd", "host_fsub": "fsub", "host_fmul": "fmul", "host_fdiv": "fdiv"}


class Intrinsics:
    """Mixed into the compiler; a method per word, named `word_<name>`."""

    if TYPE_CHECKING:

        def temp(self, text: str) -> str: ...
        def put(self, text: str) -> None: ...
        def error(self, node: Any, reason: str) -> CompileError: ...
        def coerce(self, value: Any, kind: Any, node: Any) -> Value: ...
        def truth(self, value: Any, node: ast.AST) -> Value: ...
        def unify(self, a: Any, b: Any, node: ast.AST) -> tuple[Value, Value]: ...
        def alloca(self, kind: Any, hint: str) -> str: ...
        def state_written(self) -> None: ...
        def attempted_call(self, function: Any, arguments: list[Any], node: ast.AST) -> Value: ...

        module: Any

    def declare(self, text: str) -> None:
        self.module.declarations.add(f"declare {text}")

    # ---- control ---------------------------------------------------------------------------------------------------

    def weighted(self, node: ast.AST, test: Any, weight: int) -> Any:
        if isinstance(test, Const):
            return test
        value = self.truth(test, node)
        marked = Value(bool, value.ref)
        marked.weight = weight  # type: ignore[attr-defined]
        return marked

    def word_attempt(self, node: ast.AST, function: Any, *arguments: Any) -> Value:
        if not isinstance(function, Const):
            raise self.error(node, "attempt() needs a native function")
        return self.attempted_call(function.value, list(arguments), node)

    def word_likely(self, node: ast.AST, test: Any) -> Any:
        return self.weighted(node, test, 0)

    def word_unlikely(self, node: ast.AST, test: Any) -> Any:
        return self.weighted(node, test, 1)

    def word_select(self, node: ast.AST, test: Any, a: Any, b: Any) -> Any:
        if isinstance(test, Const):
            return a if test.value else b
        a, b = self.unify(a, b, node)
        kind = ir_type(a.kind)
        return Value(a.kind, self.temp(f"select i1 {self.truth(test, node).ref}, {kind} {a.ref}, {kind} {b.ref}"))

    # ---- host memory -----------------------------------------------------------------------------------------------

    def pointer(self, node: ast.AST, address: Any) -> str:
        value = self.coerce(address, u64, node)
        return self.temp(f"inttoptr i64 {value.ref} to ptr")

    def kind_argument(self, node: ast.AST, kind: Any) -> Any:
        if not isinstance(kind, Const) or not is_int(kind.value):
            raise self.error(node, "an integer type is needed")
        return kind.value

    def word_load(self, node: ast.AST, kind: Any, address: Any) -> Value:
        what = self.kind_argument(node, kind)
        return Value(what, self.temp(f"load {what.ir}, ptr {self.pointer(node, address)}, align 1"))

    def word_store(self, node: ast.AST, kind: Any, address: Any, value: Any) -> None:
        what = self.kind_argument(node, kind)
        pointer, data = self.pointer(node, address), self.coerce(value, what, node)
        self.put(f"store {what.ir} {data.ref}, ptr {pointer}, align 1")
        self.state_written()

    def word_field_addr(self, node: ast.AST, view: Any, name: Any, index: Any = None) -> Value:
        field = view.kind.fields.get(name.value)
        if field is None:
            raise self.error(node, f"{kind_name(view.kind)} has no field {name.value}")
        place = self.temp(f"getelementptr i8, ptr {view.ref}, i64 {field.offset}")
        if index is not None:
            if not isinstance(field.type, ArrayType):
                raise self.error(node, f"{name.value} is not an array")
            step = size_of(field.type.element)
            if isinstance(index, Const):
                offset = str(index.value * step)
            else:
                offset = self.scaled(index, step, node)  # type: ignore[attr-defined]
            place = self.temp(f"getelementptr i8, ptr {place}, i64 {offset}")
        return Value(u64, self.temp(f"ptrtoint ptr {place} to i64"))

    def word_address_of(self, node: ast.AST, view: Any) -> Value:
        return Value(u64, self.temp(f"ptrtoint ptr {view.ref} to i64"))

    def word_at(self, node: ast.AST, kind: Any, address: Any) -> Value:
        if not isinstance(kind, Const) or not is_struct(kind.value):
            raise self.error(node, "a Struct class is needed")
        return Value(kind.value, self.pointer(node, address))

    def word_fill(self, node: ast.AST, address: Any, byte: Any, length: Any) -> None:
        self.declare("void @llvm.memset.p0.i64(ptr, i8, i64, i1)")
        from .ints import u8

        pointer, value, size = self.pointer(node, address), self.coerce(byte, u8, node), self.coerce(length, u64, node)
        self.put(f"call void @llvm.memset.p0.i64(ptr {pointer}, i8 {value.ref}, i64 {size.ref}, i1 false)")
        self.state_written()

    def word_copy(self, node: ast.AST, to: Any, source: Any, length: Any) -> None:
        self.declare("void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)")
        target, origin = self.pointer(node, to), self.pointer(node, source)
        size = self.coerce(length, u64, node)
        self.put(f"call void @llvm.memcpy.p0.p0.i64(ptr {target}, ptr {origin}, i64 {size.ref}, i1 false)")
        self.state_written()

    # ---- atomics ---------------------------------------------------------------------------------------------------

    def word_atomic_load(self, node: ast.AST, kind: Any, address: Any) -> Value:
        what = self.kind_argument(node, kind)
        text = f"load atomic {what.ir}, ptr {self.pointer(node, address)} seq_cst, align {what.size}"
        return Value(what, self.temp(text))

    def word_atomic_store(self, node: ast.AST, kind: Any, address: Any, value: Any) -> None:
        what = self.kind_argument(node, kind)
        pointer, data = self.pointer(node, address), self.coerce(value, what, node)
        self.put(f"store atomic {what.ir} {data.ref}, ptr {pointer} seq_cst, align {what.size}")
        self.state_written()

    def atomic(self, node: ast.AST, op: str, kind: Any, address: Any, value: Any) -> Value:
        what = self.kind_argument(node, kind)
        pointer, data = self.pointer(node, address), self.coerce(value, what, node)
        self.state_written()
        return Value(what, self.temp(f"atomicrmw {op} ptr {pointer}, {what.ir} {data.ref} seq_cst"))

    def word_atomic_xchg(self, node: ast.AST, kind: Any, address: Any, value: Any) -> Value:
        return self.atomic(node, "xchg", kind, address, value)

    def word_atomic_or(self, node: ast.AST, kind: Any, address: Any, value: Any) -> Value:
        return self.atomic(node, "or", kind, address, value)

    def word_atomic_and(self, node: ast.AST, kind: Any, address: Any, value: Any) -> Value:
        return self.atomic(node, "and", kind, address, value)

    def word_atomic_add(self, node: ast.AST, kind: Any, address: Any, value: Any) -> Value:
        return self.atomic(node, "add", kind, address, value)

    def word_atomic_cas(self, node: ast.AST, kind: Any, address: Any, expected: Any, new: Any) -> Value:
        what = self.kind_argument(node, kind)
        pointer = self.pointer(node, address)
        old, value = self.coerce(expected, what, node), self.coerce(new, what, node)
        both = self.temp(
            f"cmpxchg ptr {pointer}, {what.ir} {old.ref}, {what.ir} {value.ref} seq_cst seq_cst, align {what.size}"
        )
        self.state_written()
        return Value(what, self.temp(f"extractvalue {{ {what.ir}, i1 }} {both}, 0"))

    def word_fence(self, node: ast.AST) -> None:
        self.put("fence seq_cst")

    def word_light_fence(self, node: ast.AST) -> None:
        self.put("fence acq_rel")

    def word_relax(self, node: ast.AST) -> None:
        self.declare("void @llvm.x86.sse2.pause()")
        self.put("call void @llvm.x86.sse2.pause()")

    # ---- bits ------------------------------------------------------------------------------------------------------

    def unary(self, name: str, value: Any, extra: str = "") -> Value:
        kind = value.kind.ir
        self.declare(f"{kind} @llvm.{name}.{kind}({kind}{', i1' if extra else ''})")
        return Value(value.kind, self.temp(f"call {kind} @llvm.{name}.{kind}({kind} {value.ref}{extra})"))

    def folded(self, body: Any, *values: Any) -> Const | None:
        return Const(body(*(v.value for v in values))) if all(isinstance(v, Const) for v in values) else None

    def word_clz(self, node: ast.AST, value: Any) -> Any:
        return self.unary("ctlz", value, ", i1 false")

    def word_ctz(self, node: ast.AST, value: Any) -> Any:
        return self.unary("cttz", value, ", i1 false")

    def word_popcount(self, node: ast.AST, value: Any) -> Any:
        return self.unary("ctpop", value)

    def word_bswap(self, node: ast.AST, value: Any) -> Any:
        return value if value.kind.bits == 8 else self.unary("bswap", value)

    def word_rotl(self, node: ast.AST, value: Any, amount: Any) -> Value:
        kind = value.kind.ir
        if isinstance(amount, Const):
            count = str(int(amount.value) % value.kind.bits)
        else:
            count = self.convert(amount, value.kind).ref  # type: ignore[attr-defined]
        self.declare(f"{kind} @llvm.fshl.{kind}({kind}, {kind}, {kind})")
        text = f"call {kind} @llvm.fshl.{kind}({kind} {value.ref}, {kind} {value.ref}, {kind} {count})"
        return Value(value.kind, self.temp(text))

    # ---- host floating point ---------------------------------------------------------------------------------------

    def double(self, node: ast.AST, value: Any) -> str:
        return self.temp(f"bitcast i64 {self.coerce(value, u64, node).ref} to double")

    def pattern(self, value: str) -> Value:
        return Value(u64, self.temp(f"bitcast double {value} to i64"))

    def fp_binary(self, node: ast.AST, op: str, a: Any, b: Any) -> Value:
        x, y = self.double(node, a), self.double(node, b)
        return self.pattern(self.temp(f"{op} double {x}, {y}"))

    def word_host_fadd(self, node: ast.AST, a: Any, b: Any) -> Value:
        return self.fp_binary(node, "fadd", a, b)

    def word_host_fsub(self, node: ast.AST, a: Any, b: Any) -> Value:
        return self.fp_binary(node, "fsub", a, b)

    def word_host_fmul(self, node: ast.AST, a: Any, b: Any) -> Value:
        return self.fp_binary(node, "fmul", a, b)

    def word_host_fdiv(self, node: ast.AST, a: Any, b: Any) -> Value:
        return self.fp_binary(node, "fdiv", a, b)

    def word_host_fma(self, node: ast.AST, a: Any, b: Any, c: Any) -> Value:
        self.declare("double @llvm.fma.f64(double, double, double)")
        x, y, z = self.double(node, a), self.double(node, b), self.double(node, c)
        return self.pattern(self.temp(f"call double @llvm.fma.f64(double {x}, double {y}, double {z})"))

    def word_host_f64_to_f32(self, node: ast.AST, a: Any) -> Value:
        single = self.temp(f"fptrunc double {self.double(node, a)} to float")
        return Value(u32, self.temp(f"bitcast float {single} to i32"))

    def word_host_f32_to_f64(self, node: ast.AST, a: Any) -> Value:
        single = self.temp(f"bitcast i32 {self.coerce(a, u32, node).ref} to float")
        return self.pattern(self.temp(f"fpext float {single} to double"))

    def word_host_i64_to_f64(self, node: ast.AST, a: Any) -> Value:
        return self.pattern(self.temp(f"sitofp i64 {a.ref} to double"))

    def word_host_f64_to_i64(self, node: ast.AST, a: Any) -> Value:
        from .ints import i64

        return Value(i64, self.temp(f"fptosi double {self.double(node, a)} to i64"))

    def fp_compare(self, node: ast.AST, name: str, a: Any, b: Any) -> Value:
        x, y = self.double(node, a), self.double(node, b)
        return Value(bool, self.temp(f"fcmp {name} double {x}, {y}"))

    def word_host_flt(self, node: ast.AST, a: Any, b: Any) -> Value:
        return self.fp_compare(node, "olt", a, b)

    def word_host_feq(self, node: ast.AST, a: Any, b: Any) -> Value:
        return self.fp_compare(node, "oeq", a, b)

    def word_host_funordered(self, node: ast.AST, a: Any, b: Any) -> Value:
        return self.fp_compare(node, "uno", a, b)

    def word_host_fp_flags(self, node: ast.AST) -> Value:
        self.declare("void @llvm.x86.sse.stmxcsr(ptr)")
        slot = self.alloca(u32, "mxcsr")
        self.put(f"call void @llvm.x86.sse.stmxcsr(ptr {slot})")
        return Value(u32, self.temp(f"and i32 {self.temp(f'load i32, ptr {slot}')}, 63"))

    def word_host_fp_clear(self, node: ast.AST) -> None:
        self.declare("void @llvm.x86.sse.ldmxcsr(ptr)")
        slot = self.alloca(u32, "mxcsr")
        self.put(f"store i32 8064, ptr {slot}")
        self.put(f"call void @llvm.x86.sse.ldmxcsr(ptr {slot})")

    # ---- calls out -------------------------------------------------------------------------------------------------

    def word_call_host(self, node: ast.AST, result: Any, function: Any, *arguments: Any) -> Value | None:
        pointer = self.pointer(node, function)
        texts = []
        for argument in arguments:
            if isinstance(argument, Const):
                argument = self.coerce(argument, type(argument.value), node)
            texts.append(f"{ir_type(argument.kind)} {argument.ref}")
        if result.value is None:
            self.put(f"call void {pointer}({', '.join(texts)})")
            return None
        return Value(result.value, self.temp(f"call {ir_type(result.value)} {pointer}({', '.join(texts)})"))
