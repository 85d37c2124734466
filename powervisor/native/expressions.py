"""Expressions of the native subset: values, places in memory, types."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from .emitter import Emitter
from .ints import Fixed, u64
from .source import names_of
from .struct import ArrayType, PtrType, resolve_target, size_of
from .values import Alias, Conflict, Const, Place, TupleType, Value, ir_type, is_int, is_struct, kind_name
from .vectors import is_vector

_BINARY: dict[type, str] = {
    ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.BitAnd: "and", ast.BitOr: "or", ast.BitXor: "xor",
}  # fmt: skip
_COMPARE: dict[type, str] = {ast.Eq: "eq", ast.NotEq: "ne", ast.Lt: "lt", ast.LtE: "le", ast.Gt: "gt", ast.GtE: "ge"}
_PYTHON_BINARY: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: lambda a, b: a + b, ast.Sub: lambda a, b: a - b, ast.Mult: lambda a, b: a * b,
    ast.BitAnd: lambda a, b: a & b, ast.BitOr: lambda a, b: a | b, ast.BitXor: lambda a, b: a ^ b,
    ast.LShift: lambda a, b: a << b, ast.RShift: lambda a, b: a >> b, ast.FloorDiv: lambda a, b: a // b,
    ast.Mod: lambda a, b: a % b, ast.Pow: lambda a, b: a**b,
    ast.Eq: lambda a, b: a == b, ast.NotEq: lambda a, b: a != b, ast.Lt: lambda a, b: a < b,
    ast.LtE: lambda a, b: a <= b, ast.Gt: lambda a, b: a > b, ast.GtE: lambda a, b: a >= b,
    ast.In: lambda a, b: a in b, ast.NotIn: lambda a, b: a not in b,
    ast.Is: lambda a, b: a is b, ast.IsNot: lambda a, b: a is not b,
}  # fmt: skip


class Expressions(Emitter):
    """A method per kind of syntax node, named `expr_<node>`; each returns a Value, a Const or a Place."""

    def expr(self, node: ast.expr, hint: Any = None, statement: bool = False) -> Any:
        """Value or Const of an expression; `hint` is the type wanted of a bare literal."""
        method = getattr(self, "expr_" + type(node).__name__, None)
        if method is None:
            raise self.error(node, f"{type(node).__name__} is not in the native subset")
        if type(node) in (ast.IfExp, ast.BinOp):
            value = method(node, hint)
        else:
            value = method(node)
        if value is None and not statement:
            raise self.error(node, "this has no value")
        return self.read(value)

    def read(self, value: Any) -> Any:
        """Load a place when it holds a scalar or a pointer."""
        if isinstance(value, Alias):
            value = value.place
        if isinstance(value, Place):
            if isinstance(value.kind, PtrType):
                return Value(resolve_target(value.kind), self.temp(f"load ptr, ptr {value.ref}"))
            if isinstance(value.kind, ArrayType):
                return value
            if is_struct(value.kind):
                return Value(value.kind, value.ref)
            return Value(value.kind, self.temp(f"load {ir_type(value.kind)}, ptr {value.ref}"))
        return value

    def unpack(self, value: Any, count: int, node: ast.AST) -> list[Any]:
        if isinstance(value, Const):
            return [Const(item) for item in value.value]
        if not isinstance(value.kind, TupleType) or len(value.kind.items) != count:
            raise self.error(node, f"cannot unpack {kind_name(value.kind)} into {count} names")
        return [
            Value(kind, self.temp(f"extractvalue {ir_type(value.kind)} {value.ref}, {index}"))
            for index, kind in enumerate(value.kind.items)
        ]

    def lookup(self, name: str, node: ast.AST) -> Any:
        frame = self.frames[-1]
        if name in frame.scope:
            found = frame.scope[name]
            if isinstance(found, Conflict):
                raise self.error(node, f"{name} has different types or values on two paths")
            if isinstance(found, Place) and is_struct(found.kind):
                return Value(found.kind, self.temp(f"load ptr, ptr {found.ref}"))
            return found
        names = names_of(frame.function)
        if name in names:
            return Const(names[name])
        builtins = names["__builtins__"]
        builtins = builtins if isinstance(builtins, dict) else vars(builtins)
        if name in builtins:
            return Const(builtins[name])
        raise self.error(node, f"{name} is not defined on every path here")

    def expr_Name(self, node: ast.Name) -> Any:
        return self.lookup(node.id, node)

    def expr_Constant(self, node: ast.Constant) -> Any:
        return Const(node.value)

    def expr_Tuple(self, node: ast.Tuple) -> Any:
        items = [self.expr(item) for item in node.elts]
        if all(isinstance(item, Const) for item in items):
            return Const(tuple(item.value for item in items))
        return items

    def place(self, node: ast.expr) -> Place:
        """Where an attribute or element lives."""
        if isinstance(node, ast.Attribute):
            base = self.expr(node.value)
            if isinstance(base, Const) or not is_struct(base.kind):
                raise self.error(node, f"{kind_name(getattr(base, 'kind', base))} has no fields to assign")
            return self.field_place(base, node.attr, node)
        assert isinstance(node, ast.Subscript)
        base = self.expr(node.value)
        if not isinstance(base, Place):
            raise self.error(node, "only arrays have elements")
        return self.element(base, self.expr(node.slice), node)

    def field_place(self, base: Value, name: str, node: ast.AST) -> Place:
        field = base.kind.fields.get(name)
        if field is None:
            raise self.error(node, f"{kind_name(base.kind)} has no field {name}")
        return Place(field.type, self.temp(f"getelementptr i8, ptr {base.ref}, i64 {field.offset}"))

    def element(self, base: Place, index: Any, node: ast.AST) -> Place:
        step = size_of(base.kind.element)
        if isinstance(index, Const):
            if not 0 <= index.value < base.kind.count:
                raise self.error(node, f"index {index.value} of an array of {base.kind.count}")
            return Place(base.kind.element, self.temp(f"getelementptr i8, ptr {base.ref}, i64 {index.value * step}"))
        offset = self.scaled(index, step, node)
        return Place(base.kind.element, self.temp(f"getelementptr i8, ptr {base.ref}, i64 {offset}"))

    def scaled(self, index: Value, step: int, node: ast.AST) -> str:
        """Byte offset of an element, as an i64 operand."""
        wide = self.convert(index, u64 if not index.kind.signed else u64)
        return self.temp(f"mul i64 {wide.ref}, {step}") if step != 1 else wide.ref

    def expr_Attribute(self, node: ast.Attribute) -> Any:
        base = self.expr(node.value)
        if isinstance(base, Const):
            try:
                return Const(getattr(base.value, node.attr))
            except AttributeError as problem:
                raise self.error(node, str(problem)) from None
        if isinstance(base, Place) or not is_struct(base.kind):
            raise self.error(node, f"{kind_name(base.kind)} has no field {node.attr}")
        return self.field_place(base, node.attr, node)

    def expr_Subscript(self, node: ast.Subscript) -> Any:
        base = self.expr(node.value)
        index = self.expr(node.slice)
        if isinstance(base, Const):
            if isinstance(index, Const):
                return Const(base.value[index.value])
            raise self.error(node, "a compile-time table needs a compile-time index")
        if isinstance(base, Value) and isinstance(base.kind, TupleType) and isinstance(index, Const):
            return self.unpack(base, len(base.kind.items), node)[index.value]
        if not isinstance(base, Place):
            raise self.error(node, "only arrays have elements")
        return self.element(base, index, node)

    def expr_IfExp(self, node: ast.IfExp, hint: Any = None) -> Any:
        test = self.expr(node.test)
        if isinstance(test, Const):
            return self.expr(node.body if test.value else node.orelse, hint)
        test = self.truth(test, node)
        yes, no, end = self.new_label("then"), self.new_label("else"), self.new_label("fi")
        self.branch(test, yes, no)
        self.lines.append(f"{yes}:")
        self.terminated = False
        a = self.expr(node.body, hint)
        split = len(self.lines)
        self.lines.append("")
        self.lines.append(f"{no}:")
        b = self.expr(node.orelse, hint)
        kind = hint
        for value in (a, b):
            if isinstance(value, Value):
                kind = value.kind
            elif isinstance(value.value, (Fixed, bool)) and kind is None:
                kind = type(value.value)
        if kind is None:
            raise self.error(node, "both arms are bare literals: give one a type")
        slot = self.alloca(kind, "if")
        tail, self.lines = self.lines[split + 1 :], self.lines[:split]
        a = self.coerce(a, kind, node)
        self.put(f"store {ir_type(kind)} {a.ref}, ptr {slot}")
        self.put(f"br label %{end}")
        self.lines += tail
        b = self.coerce(b, kind, node)
        self.put(f"store {ir_type(kind)} {b.ref}, ptr {slot}")
        self.put(f"br label %{end}")
        self.lines.append(f"{end}:")
        self.terminated = False
        if is_struct(kind):
            return Value(kind, self.temp(f"load ptr, ptr {slot}"))
        return Place(kind, slot)

    def expr_BoolOp(self, node: ast.BoolOp) -> Any:
        is_and = isinstance(node.op, ast.And)
        value = self.expr(node.values[0])
        for other in node.values[1:]:
            if isinstance(value, Const):
                if bool(value.value) != is_and:
                    return value
                value = self.expr(other)
                continue
            slot = self.alloca(bool, "bool")
            test = self.truth(value, node)
            self.put(f"store i1 {test.ref}, ptr {slot}")
            more, end = self.new_label("more"), self.new_label("end")
            self.branch(test, more if is_and else end, end if is_and else more)
            self.lines.append(f"{more}:")
            self.terminated = False
            right = self.expr(other)
            if isinstance(right, Const):
                right = Value(bool, "true" if right.value else "false")
            right = self.truth(right, node)
            self.put(f"store i1 {right.ref}, ptr {slot}")
            self.put(f"br label %{end}")
            self.lines.append(f"{end}:")
            self.terminated = False
            value = Value(bool, self.temp(f"load i1, ptr {slot}"))
        return value

    def expr_UnaryOp(self, node: ast.UnaryOp) -> Any:
        value = self.expr(node.operand)
        if isinstance(value, Const):
            ops: dict[type, Callable[[Any], Any]] = {
                ast.Not: lambda v: not v,
                ast.USub: lambda v: -v,
                ast.Invert: lambda v: ~v,
                ast.UAdd: lambda v: +v,
            }
            return Const(ops[type(node.op)](value.value))
        if isinstance(node.op, ast.Not):
            return Value(bool, self.temp(f"xor i1 {self.truth(value, node).ref}, true"))
        if is_vector(value.kind) and isinstance(node.op, ast.Invert):
            return Value(value.kind, self.temp(f"xor {value.kind.ir} {value.ref}, splat ({value.kind.lane.ir} -1)"))
        if not is_int(value.kind):
            raise self.error(node, f"no such operation on {kind_name(value.kind)}")
        if isinstance(node.op, ast.USub):
            return Value(value.kind, self.temp(f"sub {value.kind.ir} 0, {value.ref}"))
        return Value(value.kind, self.temp(f"xor {value.kind.ir} {value.ref}, -1"))

    def expr_BinOp(self, node: ast.BinOp, hint: Any = None) -> Any:
        a, b = self.expr(node.left, hint), self.expr(node.right, hint)
        if isinstance(a, Const) and isinstance(b, Const):
            return Const(_PYTHON_BINARY[type(node.op)](a.value, b.value))
        return self.binary(type(node.op), a, b, node)

    def binary(self, op: type, a: Any, b: Any, node: ast.AST) -> Value:
        if is_vector(a.kind if isinstance(a, Value) else type(getattr(a, "value", None))):
            return self.vector_binary(op, *self.unify(a, b, node), node)
        if op in (ast.LShift, ast.RShift):
            if isinstance(a, Const):
                if not isinstance(a.value, Fixed):
                    raise self.error(node, "a shifted literal needs a type")
                a = self.coerce(a, type(a.value), node)
            if isinstance(b, Const):
                if not 0 <= b.value < a.kind.bits:
                    raise self.error(node, f"shift of {kind_name(a.kind)} by {b.value}")
                amount = str(int(b.value))
            else:
                amount = self.convert(b, a.kind).ref
            name = "shl" if op is ast.LShift else "ashr" if a.kind.signed else "lshr"
            return Value(a.kind, self.temp(f"{name} {a.kind.ir} {a.ref}, {amount}"))
        a, b = self.unify(a, b, node)
        if a.kind is bool:
            if op not in (ast.BitAnd, ast.BitOr, ast.BitXor):
                raise self.error(node, "bool has only & | ^")
        elif not is_int(a.kind):
            raise self.error(node, f"no such operation on {kind_name(a.kind)}")
        if op in (ast.FloorDiv, ast.Mod):
            name = ("s" if a.kind.signed else "u") + ("div" if op is ast.FloorDiv else "rem")
        else:
            name = _BINARY.get(op, "")
            if not name:
                raise self.error(node, f"{op.__name__} is not in the native subset")
        return Value(a.kind, self.temp(f"{name} {ir_type(a.kind)} {a.ref}, {b.ref}"))

    def expr_Compare(self, node: ast.Compare) -> Any:
        left = self.expr(node.left)
        result: Any = None
        for op, right_node in zip(node.ops, node.comparators, strict=True):
            right = self.expr(right_node)
            if isinstance(left, Const) and isinstance(right, Const):
                one: Any = Const(_PYTHON_BINARY[type(op)](left.value, right.value))
            else:
                one = self.compare(_COMPARE.get(type(op), ""), left, right, node)
            if result is None:
                result = one
            elif isinstance(result, Const):
                result = one if result.value else result
            elif isinstance(one, Const):
                result = result if one.value else one
            else:
                result = Value(bool, self.temp(f"and i1 {result.ref}, {one.ref}"))
            left = right
        return result

    def compare(self, name: str, a: Any, b: Any, node: ast.AST) -> Any:
        if not name:
            raise self.error(node, "this comparison is not in the native subset")
        a, b = self.unify(a, b, node)
        if is_vector(a.kind):
            raise self.error(node, "vectors are compared with lanes_eq and lanes_gt")
        if name not in ("eq", "ne"):
            if not is_int(a.kind):
                raise self.error(node, f"{kind_name(a.kind)} has no order")
            name = ("s" if a.kind.signed else "u") + name
        return Value(bool, self.temp(f"icmp {name} {ir_type(a.kind)} {a.ref}, {b.ref}"))

    def truth(self, value: Any, node: ast.AST) -> Value:
        if isinstance(value, Value):
            if value.kind is bool:
                return value
            if is_int(value.kind):
                test: Value = self.compare("ne", value, Const(0), node)
                if isinstance(test, Const):
                    return Value(bool, "true" if test.value else "false")
                return test
        raise self.error(node, "not a condition")

    # ---- types -----------------------------------------------------------------------------------------------------

    def unify(self, a: Any, b: Any, node: ast.AST) -> tuple[Value, Value]:
        if isinstance(a, Const) and isinstance(b, Const) and isinstance(a.value, Fixed):
            a = self.coerce(a, type(a.value), node)
        if isinstance(a, Const):
            a = self.coerce(a, b.kind, node)
        elif isinstance(b, Const):
            b = self.coerce(b, a.kind, node)
        if isinstance(a, Place) or isinstance(b, Place) or a.kind is not b.kind:
            raise self.error(node, f"{kind_name(a.kind)} mixed with {kind_name(b.kind)}: convert one of them")
        return a, b

    def coerce(self, value: Any, kind: Any, node: Any) -> Value:
        """Check that a value has a type; bare literals take it."""
        if isinstance(value, list) and isinstance(kind, TupleType):
            whole = "zeroinitializer"
            for index, (item, want) in enumerate(zip(value, kind.items, strict=True)):
                part = self.coerce(item, want, node)
                whole = self.temp(f"insertvalue {ir_type(kind)} {whole}, {ir_type(want)} {part.ref}, {index}")
            return Value(kind, whole)
        if isinstance(value, Const):
            constant = value.value
            if is_vector(kind):
                return self.vector_constant(constant, kind, node)
            if kind is bool and isinstance(constant, bool):
                return Value(bool, "true" if constant else "false")
            if is_int(kind) and isinstance(constant, int) and not isinstance(constant, bool):
                if isinstance(constant, Fixed) and type(constant) is not kind:
                    raise self.error(node, f"{type(constant).__name__} given, {kind_name(kind)} needed: convert it")
                if not isinstance(constant, Fixed) and not -(1 << kind.bits - 1) <= constant < 1 << kind.bits:
                    raise self.error(node, f"{constant} does not fit {kind_name(kind)}")
                return Value(kind, str(int(kind(constant))))
            if isinstance(constant, tuple) and isinstance(kind, TupleType):
                return self.coerce([Const(item) for item in constant], kind, node)
            raise self.error(node, f"{constant!r} given, {kind_name(kind)} needed")
        if isinstance(value, Place) or value.kind is not kind:
            if not (isinstance(value, Value) and value.kind == kind):
                raise self.error(node, f"{kind_name(value.kind)} given, {kind_name(kind)} needed: convert it")
        return value

    def convert(self, value: Any, kind: Any) -> Value:
        """Change an integer's or a bool's type as `kind(value)` does in Python."""
        if isinstance(value, Const):
            return Value(kind, str(int(kind(value.value))))
        if value.kind is kind:
            return value
        if value.kind is bool:
            return Value(kind, self.temp(f"zext i1 {value.ref} to {kind.ir}"))
        if value.kind.bits == kind.bits:
            return Value(kind, value.ref)
        if value.kind.bits > kind.bits:
            return Value(kind, self.temp(f"trunc {value.kind.ir} {value.ref} to {kind.ir}"))
        how = "sext" if value.kind.signed else "zext"
        return Value(kind, self.temp(f"{how} {value.kind.ir} {value.ref} to {kind.ir}"))
