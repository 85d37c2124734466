"""Native functions to LLVM IR text: a walk over the Python syntax tree with types and compile-time values."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable
from functools import cache
from typing import Any, get_type_hints

from .ints import Fixed, u32, u64
from .intrinsics import Intrinsics
from .lang import INTRINSICS, Abort, NativeFunction, Static, static
from .struct import ArrayType, PtrType, resolve_target, size_of
from .values import CompileError, Const, Frame, Place, TupleType, Value, ir_type, is_int, is_struct, kind_name
from .vector_intrinsics import VectorIntrinsics
from .vectors import is_vector

__all__ = ["FunctionCompiler", "Module", "may_abort"]

_BINARY = {
    ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.BitAnd: "and", ast.BitOr: "or", ast.BitXor: "xor",
}  # fmt: skip
_COMPARE = {ast.Eq: "eq", ast.NotEq: "ne", ast.Lt: "lt", ast.LtE: "le", ast.Gt: "gt", ast.GtE: "ge"}
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


INLINE_LIMIT = 24
"""Lines of IR up to which `inline` functions are inlined outside stencils."""


@cache
def functions_in(path: str) -> dict[int, ast.FunctionDef]:
    """Every function of a source file by its first line, decorators included."""
    with open(path, encoding="utf-8") as source:
        tree = ast.parse(source.read(), path)
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            first = node.decorator_list[0] if node.decorator_list else node
            found[first.lineno] = node
    return found


@cache
def syntax(function: NativeFunction) -> tuple[ast.FunctionDef, str]:
    """The function's syntax tree and its file name."""
    code = function.body.__code__
    return functions_in(code.co_filename)[code.co_firstlineno], code.co_filename


@cache
def names_of(function: NativeFunction) -> dict[str, Any]:
    """Global and closure names the body sees."""
    names = dict(function.body.__globals__)
    names.update(inspect.getclosurevars(function.body).nonlocals)
    return names


@cache
def may_abort(function: NativeFunction) -> bool:
    """Whether the function, or one it calls, can `raise Abort`. A static callee parameter counts as one that can."""
    tree, _ = syntax(function)
    names = names_of(function)
    parameters = set(function.parameters)
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise):
            return True
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in parameters:
                if node.func.id.startswith("abort"):
                    return True
                continue
            callee = _static_name(node.func, names)
            if isinstance(callee, NativeFunction) and callee is not function and may_abort(callee):
                return True
    return False


def _static_name(node: ast.expr, names: dict[str, Any]) -> Any:
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute):
        return getattr(_static_name(node.value, names), node.attr, None)
    return None


class Module:
    """Native functions compiled together; `require` asks for one and returns its symbol."""

    def __init__(self, compiler: type[FunctionCompiler] | None = None) -> None:
        self.compiler = compiler or FunctionCompiler
        self.symbols: dict[Any, str] = {}
        self.exported: set[str] = set()
        self.queue: list[tuple[NativeFunction, tuple[tuple[str, Any], ...], str]] = []
        self.text: list[str] = []
        self.declarations: set[str] = set()

    def require(self, function: NativeFunction, statics: dict[str, Any] | None = None, export: bool = False) -> str:
        """Symbol of a function specialised for its static arguments; compiled when the module is emitted."""
        key = (function, tuple(sorted((k, _key(v)) for k, v in (statics or {}).items())))
        symbol = self.symbols.get(key)
        if symbol is None:
            suffix = "".join(f".{_label(v)}" for v in (statics or {}).values())
            symbol = f"{function.name}{suffix}"
            while symbol in self.symbols.values():
                symbol += "'"
            self.symbols[key] = symbol
            self.queue.append((function, tuple((statics or {}).items()), symbol))
        if export:
            self.exported.add(symbol)
        return symbol

    def compile_queue(self) -> None:
        """Compile everything required so far, and what that requires."""
        while self.queue:
            function, statics, symbol = self.queue.pop()
            self.text.append(self.compiler(self).function(function, dict(statics), symbol))

    def emit(self) -> str:
        """The module's IR."""
        self.compile_queue()
        body = _DEFINE.sub(lambda m: "define" if m[1] in self.exported else "define internal", "\n".join(self.text))
        return body + "\n" + "\n".join(sorted(self.declarations)) + TAIL


_DEFINE = re.compile(r"define @@(.*?)@@")

TAIL = """
attributes #0 = { nounwind "no-builtins" "no-jump-tables"="true" }
attributes #1 = { nounwind alwaysinline "no-builtins" }
attributes #2 = { nounwind noinline cold "no-builtins" "no-jump-tables"="true" }
!0 = !{!"branch_weights", i32 2000, i32 1}
!1 = !{!"branch_weights", i32 1, i32 2000}
"""


def _key(value: Any) -> Any:
    return value if isinstance(value, (type, NativeFunction)) else (type(value).__name__, value)


def _label(value: Any) -> str:
    if isinstance(value, NativeFunction):
        return value.body.__name__
    return "".join(c if c.isalnum() else "_" for c in (getattr(value, "__name__", None) or str(int(value)
                   if isinstance(value, int) else value)))


class FunctionCompiler(Intrinsics, VectorIntrinsics):
    """Emits one function. Subclasses change what calls, returns and aborts become (see translate.stencils)."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.lines: list[str] = []
        self.allocas: list[str] = []
        self.counter = 0
        self.frames: list[Frame] = []
        self.terminated = False
        self.aborts = False
        self.line = 0
        self.file = ""

    # ---- text ----------------------------------------------------------------------------------------------------

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
        return CompileError(f"{self.file}:{getattr(node, 'lineno', 1)}: in {self.frames[-1].function.name if self.frames else '?'}: {reason}")

    # ---- functions -------------------------------------------------------------------------------------------------

    def signature(self, function: NativeFunction, statics: dict[str, Any]) -> tuple[list[tuple[str, Any]], Any]:
        """Run-time parameters (name, kind) and the result kind."""
        parameters = []
        for name, parameter in function.signature.parameters.items():
            if name in statics:
                continue
            kind = function.annotation(parameter.annotation, statics)
            parameters.append((name, bool if kind is bool else kind))
        note = function.signature.return_annotation
        result = None if note is inspect.Signature.empty else function.annotation(note, statics)
        if hasattr(result, "__origin__") and result.__origin__ is tuple:
            result = TupleType(tuple(result.__args__))
        return parameters, result

    def enter(self, function: NativeFunction) -> None:
        _, self.file = syntax(function)

    def function(self, function: NativeFunction, statics: dict[str, Any], symbol: str) -> str:
        """The IR of one function under a symbol name."""
        parameters, result = self.signature(function, statics)
        self.aborts = may_abort(function)
        frame = Frame(function, {name: Const(value) for name, value in statics.items()}, result)
        self.frames.append(frame)
        self.enter(function)
        arguments = []
        for index, (name, kind) in enumerate(parameters):
            arguments.append(f"{ir_type(kind)} %a{index}")
            self.bind(name, Value(kind, f"%a{index}"), None)
        self.body(syntax(function)[0].body)
        if not self.terminated:
            if result is not None:
                raise self.error(syntax(function)[0], f"may end without returning its {kind_name(result)}")
            self.emit_return(None)
        small = len(self.lines) < INLINE_LIMIT  # larger ones LLVM judges itself: compile time matters more here
        attributes = 1 if function.inline and small else 2 if function.cold else 0
        text = f'define @@{symbol}@@ {self.result_type(result, self.aborts)} @"{symbol}"({", ".join(arguments)}) '
        return text + f"#{attributes} {{\nentry:\n" + "\n".join(self.allocas + self.lines) + "\n}\n"

    @staticmethod
    def result_type(result: Any, aborts: bool) -> str:
        if not aborts:
            return ir_type(result)
        return "i1" if result is None else f"{{ {ir_type(result)}, i1 }}"

    def emit_return(self, value: Value | None) -> None:
        """Return from the outermost function."""
        if not self.aborts:
            self.put("ret void" if value is None else f"ret {ir_type(value.kind)} {value.ref}")
        elif value is None:
            self.put("ret i1 false")
        else:
            kind = self.result_type(value.kind, True)
            whole = self.temp(f"insertvalue {kind} zeroinitializer, {ir_type(value.kind)} {value.ref}, 0")
            self.put(f"ret {kind} {whole}")
        self.terminated = True

    def emit_abort(self) -> None:
        """Leave the function because an instruction is abandoned."""
        result = self.frames[0].result
        if result is None:
            self.put("ret i1 true")
        else:
            kind = self.result_type(result, True)
            self.put(f"ret {kind} {self.temp(f'insertvalue {kind} zeroinitializer, i1 true, 1')}")
        self.terminated = True

    # ---- statements ------------------------------------------------------------------------------------------------

    def body(self, statements: list[ast.stmt]) -> None:
        for statement in statements:
            if self.terminated:
                return
            method = getattr(self, "stmt_" + type(statement).__name__, None)
            if method is None:
                raise self.error(statement, f"{type(statement).__name__} is not in the native subset")
            method(statement)

    def stmt_Pass(self, node: ast.Pass) -> None:
        pass

    def stmt_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):
            self.expr(node.value, statement=True)

    def stmt_Raise(self, node: ast.Raise) -> None:
        raised = self.lookup(node.exc.id, node) if isinstance(node.exc, ast.Name) else None
        if not isinstance(raised, Const) or raised.value is not Abort:
            raise self.error(node, "only `raise Abort` is possible")
        self.emit_abort()

    def stmt_Return(self, node: ast.Return) -> None:
        frame = self.frames[-1]
        value = None
        if node.value is not None and frame.result is not None:
            value = self.coerce(self.expr(node.value, frame.result), frame.result, node)
        elif node.value is not None and not (isinstance(node.value, ast.Constant) and node.value.value is None):
            self.expr(node.value, statement=True)
        if frame.end is None:
            self.emit_return(value)
            return
        if value is not None:
            self.put(f"store {ir_type(value.kind)} {value.ref}, ptr {frame.slot}")
        self.jump(frame.end)

    def stmt_Assign(self, node: ast.Assign) -> None:
        if len(node.targets) != 1:
            raise self.error(node, "one target an assignment")
        target = node.targets[0]
        if isinstance(target, ast.Tuple):
            if isinstance(node.value, ast.Tuple):
                values = [self.expr(item) for item in node.value.elts]
            else:
                values = self.unpack(self.expr(node.value), len(target.elts), node)
            for part, value in zip(target.elts, values, strict=True):
                self.assign(part, value, node)
            return
        hint = self.target_kind(target)
        self.assign(target, self.expr(node.value, hint), node)

    def unpack(self, value: Any, count: int, node: ast.AST) -> list[Any]:
        if isinstance(value, Const):
            return [Const(item) for item in value.value]
        if not isinstance(value.kind, TupleType) or len(value.kind.items) != count:
            raise self.error(node, f"cannot unpack {kind_name(value.kind)} into {count} names")
        return [
            Value(kind, self.temp(f"extractvalue {ir_type(value.kind)} {value.ref}, {index}"))
            for index, kind in enumerate(value.kind.items)
        ]

    def target_kind(self, target: ast.expr) -> Any:
        """The type a target already has, to give a bare literal its type."""
        if isinstance(target, ast.Name):
            known = self.frames[-1].scope.get(target.id)
            return known.kind if isinstance(known, Place) else None
        return None

    def assign(self, target: ast.expr, value: Any, node: ast.AST) -> None:
        if isinstance(target, ast.Name):
            self.bind(target.id, value, node)
        elif isinstance(target, (ast.Attribute, ast.Subscript)):
            place = self.place(target)
            if not is_int(place.kind) and not isinstance(place.kind, PtrType):
                raise self.error(node, f"cannot assign to {kind_name(place.kind)}")
            self.write(place, value, node)
        else:
            raise self.error(node, "cannot assign to this")

    def write(self, place: Place, value: Any, node: ast.AST) -> None:
        if isinstance(place.kind, PtrType):
            if isinstance(value, Const) or value.kind is not resolve_target(place.kind):
                raise self.error(node, f"a {kind_name(resolve_target(place.kind))} is needed")
            self.put(f"store ptr {value.ref}, ptr {place.ref}")
            return
        value = self.coerce(value, place.kind, node)
        self.put(f"store {ir_type(value.kind)} {value.ref}, ptr {place.ref}, align {min(size_of(place.kind), 8)}")
        self.state_written()

    def state_written(self) -> None:
        """Called after a store to a struct; stencils keep track of it."""

    def bind(self, name: str, value: Any, node: Any) -> None:
        scope = self.frames[-1].scope
        known = scope.get(name)
        if isinstance(value, Const) or (isinstance(value, Value) and value.hole is not None):
            if isinstance(known, Place):
                value = self.coerce(value, known.kind, node)
            else:
                if known is not None and not self.same_const(known, value):
                    raise self.error(node, f"{name}: compile-time values are bound once; give the literal a type")
                if isinstance(value, Const) and isinstance(value.value, (int, Fixed)) and self.varies(name, node):
                    if not isinstance(value.value, (Fixed, bool)):
                        raise self.error(node, f"{name} changes later: give the literal a type")
                    value = self.coerce(value, bool if isinstance(value.value, bool) else type(value.value), node)
                else:
                    scope[name] = value
                    return
        if isinstance(value, Place):
            scope[name] = value if not isinstance(value.kind, PtrType) else value
            scope[name] = _Alias(value)
            return
        if known is None:
            known = Place(value.kind, self.alloca(value.kind, name))
            scope[name] = known
        elif not isinstance(known, Place) or known.kind is not value.kind:
            what = kind_name(known.kind) if isinstance(known, Place) else "a compile-time value"
            raise self.error(node, f"{name} is {what}, cannot become {kind_name(value.kind)}")
        self.put(f"store {ir_type(value.kind)} {value.ref}, ptr {known.ref}")

    @staticmethod
    def same_const(known: Any, value: Any) -> bool:
        if isinstance(known, Const) and isinstance(value, Const):
            return type(known.value) is type(value.value) and bool(known.value == value.value)
        return False

    def varies(self, name: str, node: Any) -> bool:
        """Whether the function assigns this name more than once."""
        tree = syntax(self.frames[-1].function)[0]
        count = 0
        for part in ast.walk(tree):
            if isinstance(part, ast.AugAssign) and isinstance(part.target, ast.Name) and part.target.id == name:
                return True
            if isinstance(part, ast.Assign):
                for target in part.targets:
                    for leaf in ast.walk(target):
                        count += isinstance(leaf, ast.Name) and leaf.id == name
        return count > 1

    def stmt_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is None or not isinstance(node.target, ast.Name):
            raise self.error(node, "an annotated assignment needs a name and a value")
        kind = self.expr(node.annotation)
        if not isinstance(kind, Const):
            raise self.error(node, "the annotation is not a type")
        self.bind(node.target.id, self.coerce(self.expr(node.value, kind.value), kind.value, node), node)

    def stmt_AugAssign(self, node: ast.AugAssign) -> None:
        load = ast.copy_location(_as_load(node.target), node)
        value = self.expr(ast.copy_location(ast.BinOp(load, node.op, node.value), node))
        self.assign(node.target, value, node)

    def stmt_If(self, node: ast.If) -> None:
        test = self.expr(node.test)
        if isinstance(test, Const):
            self.body(node.body if test.value else node.orelse)
            return
        test = self.truth(test, node)
        yes, no, end = self.new_label("then"), self.new_label("else"), self.new_label("fi")
        self.branch(test, yes, no if node.orelse else end)
        self.arms([(yes, node.body)] + ([(no, node.orelse)] if node.orelse else []), end, bool(node.orelse))

    def arms(self, arms: list[tuple[str, list[ast.stmt]]], end: str, complete: bool) -> None:
        """Emit alternatives that meet at `end`; names bound in one arm only stay unknown after it."""
        open_end = not complete
        before = dict(self.frames[-1].scope)
        scopes = []
        for name, statements in arms:
            self.frames[-1].scope = dict(before)
            self.lines.append(f"{name}:")
            self.terminated = False
            self.body(statements)
            if not self.terminated:
                scopes.append(self.frames[-1].scope)
                open_end = True
                self.jump(end)
        merged = dict(before)
        for scope in scopes:
            for key, value in scope.items():
                if key in merged and merged[key] is not value and not self.same_const(merged[key], value):
                    known = merged[key]
                    if isinstance(known, Place) and isinstance(value, Place) and known.kind is value.kind:
                        # bound first in two arms: give both the first arm's slot
                        slot = re.compile(re.escape(value.ref) + r"(?!\d)")
                        self.lines = [slot.sub(known.ref, line) for line in self.lines]
                        continue
                    merged[key] = _Conflict(key)
                else:
                    merged[key] = value
        self.frames[-1].scope = merged
        if open_end:
            self.lines.append(f"{end}:")
            self.terminated = False
        else:
            self.terminated = True

    def stmt_While(self, node: ast.While) -> None:
        if node.orelse:
            raise self.error(node, "while .. else is not in the native subset")
        head, inside, end = self.new_label("while"), self.new_label("do"), self.new_label("done")
        self.label(head)
        test = self.expr(node.test)
        if isinstance(test, Const):
            if not test.value:
                self.jump(end)
            else:
                self.jump(inside)
        else:
            self.branch(self.truth(test, node), inside, end)
        self.lines.append(f"{inside}:")
        self.terminated = False
        self.frames[-1].loops.append((head, end))
        before = dict(self.frames[-1].scope)
        self.body(node.body)
        self.frames[-1].scope = before
        self.frames[-1].loops.pop()
        self.jump(head)
        # an endless loop goes on only where a break leads
        if isinstance(test, Const) and test.value and not any(f"label %{end}" in line for line in self.lines):
            return
        self.lines.append(f"{end}:")
        self.terminated = False

    def stmt_Break(self, node: ast.Break) -> None:
        self.jump(self.frames[-1].loops[-1][1])

    def stmt_Continue(self, node: ast.Continue) -> None:
        self.jump(self.frames[-1].loops[-1][0])

    def stmt_For(self, node: ast.For) -> None:
        if not isinstance(node.iter, ast.Call) or node.orelse:
            raise self.error(node, "for .. in range(...) or static(...)")
        callee = self.expr(node.iter.func)
        if isinstance(callee, Const) and callee.value is static:
            self.unrolled(node)
            return
        if not isinstance(callee, Const) or callee.value is not range or not isinstance(node.target, ast.Name):
            raise self.error(node, "for .. in range(...) or static(...)")
        arguments = [self.expr(argument) for argument in node.iter.args]
        kinds = [a.kind for a in arguments if isinstance(a, Value)]
        kinds += [type(a.value) for a in arguments if isinstance(a, Const) and isinstance(a.value, Fixed)]
        kind = kinds[0] if kinds else u32
        first = self.coerce(arguments[0] if len(arguments) > 1 else Const(0), kind, node)
        last = self.coerce(arguments[1] if len(arguments) > 1 else arguments[0], kind, node)
        step = arguments[2].value if len(arguments) > 2 else 1
        variable = Place(kind, self.alloca(kind, node.target.id))
        scope = self.frames[-1].scope
        scope[node.target.id] = variable
        self.put(f"store {kind.ir} {first.ref}, ptr {variable.ref}")
        head, inside, more, end = (self.new_label(hint) for hint in ("for", "do", "next", "done"))
        self.label(head)
        now = self.temp(f"load {kind.ir}, ptr {variable.ref}")
        sign = "s" if kind.signed else "u"
        test = self.temp(f"icmp {sign}{'lt' if step > 0 else 'gt'} {kind.ir} {now}, {last.ref}")
        self.branch(Value(bool, test), inside, end)
        self.lines.append(f"{inside}:")
        self.terminated = False
        self.frames[-1].loops.append((more, end))
        before = dict(scope)
        self.body(node.body)
        self.frames[-1].scope = before
        self.frames[-1].loops.pop()
        self.label(more)
        now = self.temp(f"load {kind.ir}, ptr {variable.ref}")
        after = self.temp(f"add {kind.ir} {now}, {step}")
        self.put(f"store {kind.ir} {after}, ptr {variable.ref}")
        self.jump(head)
        self.lines.append(f"{end}:")
        self.terminated = False

    def unrolled(self, node: ast.For) -> None:
        assert isinstance(node.iter, ast.Call)
        items = self.expr(node.iter.args[0])
        if not isinstance(items, Const):
            raise self.error(node, "static() needs compile-time items")
        for item in items.value:
            names = [n.id for n in ast.walk(node.target) if isinstance(n, ast.Name)]
            for name in names:
                self.frames[-1].scope.pop(name, None)
            values = [item] if isinstance(node.target, ast.Name) else list(item)
            for name, value in zip(names, values, strict=True):
                self.frames[-1].scope[name] = Const(value)
            self.body(node.body)
            if self.terminated:
                return

    # ---- expressions -----------------------------------------------------------------------------------------------

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
        if isinstance(value, _Alias):
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

    def lookup(self, name: str, node: ast.AST) -> Any:
        frame = self.frames[-1]
        if name in frame.scope:
            found = frame.scope[name]
            if isinstance(found, _Conflict):
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
        for index, other in enumerate(node.values[1:]):
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
                ast.Not: lambda v: not v, ast.USub: lambda v: -v, ast.Invert: lambda v: ~v, ast.UAdd: lambda v: +v}
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

    # ---- calls -----------------------------------------------------------------------------------------------------

    def expr_Call(self, node: ast.Call) -> Any:
        callee = self.expr(node.func)
        if not isinstance(callee, Const):
            raise self.error(node, "only functions known when compiling can be called")
        if node.keywords:
            raise self.error(node, "arguments by name are not in the native subset")
        target = callee.value
        if isinstance(target, NativeFunction):
            return self.call(target, [self.expr(a) for a in node.args], node)
        try:
            method = INTRINSICS.get(target)
        except TypeError:
            method = None
        arguments = [self.expr(a) for a in node.args]
        if method is not None:
            return getattr(self, method)(node, *arguments)
        if is_vector(target) or (arguments and isinstance(arguments[0], Value) and is_vector(arguments[0].kind)):
            return self.vector_convert(arguments, target, node)
        if is_int(target):
            if len(arguments) != 1:
                raise self.error(node, "a conversion takes one argument")
            if isinstance(arguments[0], Const):
                return Const(target(arguments[0].value))
            if isinstance(arguments[0], Place) or not (arguments[0].kind is bool or is_int(arguments[0].kind)):
                raise self.error(node, f"{kind_name(arguments[0].kind)} is not a number")
            return self.convert(arguments[0], target)
        if target is bool and len(arguments) == 1 and isinstance(arguments[0], Value):
            return self.truth(arguments[0], node)
        if all(isinstance(a, Const) for a in arguments):
            return Const(target(*(a.value for a in arguments)))
        raise self.error(node, f"{getattr(target, '__name__', target)} is not native")

    def split_arguments(
        self, function: NativeFunction, arguments: list[Any], node: ast.AST
    ) -> tuple[dict[str, Any], list[tuple[str, Any]]]:
        """Static arguments by name, and the others in order."""
        statics, others = {}, []
        parameters = list(function.signature.parameters.values())
        if len(arguments) != len(parameters):
            raise self.error(node, f"{function.name} takes {len(parameters)} arguments, {len(arguments)} given")
        for parameter, argument in zip(parameters, arguments, strict=True):
            if parameter.annotation in ("Static", Static):
                if not isinstance(argument, Const):
                    raise self.error(node, f"{function.name}: {parameter.name} must be known when compiling")
                statics[parameter.name] = argument.value
            else:
                others.append((parameter.name, argument))
        return statics, others

    def call_text(self, function: NativeFunction, arguments: list[Any], node: ast.AST) -> tuple[str, Any, bool]:
        """The IR of a call, its result kind, and whether it may abort."""
        statics, others = self.split_arguments(function, arguments, node)
        parameters, result = self.signature(function, statics)
        symbol = self.module.require(function, statics)
        texts = []
        for (name, argument), (_, kind) in zip(others, parameters, strict=True):
            try:
                texts.append(f"{ir_type(kind)} {self.coerce(argument, kind, node).ref}")
            except CompileError as problem:
                raise CompileError(f"{problem} (argument {name} of {function.name})") from None
        aborts = may_abort(function)
        return f'call {self.result_type(result, aborts)} @"{symbol}"({", ".join(texts)})', result, aborts

    def attempted_call(self, function: NativeFunction, arguments: list[Any], node: ast.AST) -> Value:
        """Call a function without a result; true when it was abandoned."""
        text, result, aborts = self.call_text(function, arguments, node)
        if result is not None or not aborts:
            raise self.error(node, f"attempt() is for functions that may abort and return nothing, not {function.name}")
        return Value(bool, self.temp(text))

    def call(self, function: NativeFunction, arguments: list[Any], node: ast.AST) -> Any:
        text, result, aborts = self.call_text(function, arguments, node)
        if not aborts:
            if result is None:
                self.put(text)
                return None
            return Value(result, self.temp(text))
        whole = self.temp(text)
        flag = whole if result is None else self.temp(f"extractvalue {self.result_type(result, True)} {whole}, 1")
        gone, stay = self.new_label("gone"), self.new_label("stay")
        self.put(f"br i1 {flag}, label %{gone}, label %{stay}, !prof !1")
        self.lines.append(f"{gone}:")
        self.emit_abort()
        self.lines.append(f"{stay}:")
        self.terminated = False
        if result is None:
            return None
        return Value(result, self.temp(f"extractvalue {self.result_type(result, True)} {whole}, 0"))

    def inline_call(self, function: NativeFunction, arguments: list[Any], node: ast.AST) -> Any:
        """Emit the callee's body in place."""
        statics, others = self.split_arguments(function, arguments, node)
        parameters, result = self.signature(function, statics)
        frame = Frame(function, {name: Const(value) for name, value in statics.items()}, result)
        values = []
        for (name, argument), (_, kind) in zip(others, parameters, strict=True):
            keep = isinstance(argument, Value) and argument.hole is not None and argument.kind is kind
            values.append((name, argument if keep else self.coerce(argument, kind, node)))
        where = self.file
        frame.end = self.new_label("ret")
        frame.slot = self.alloca(result, "ret") if result is not None else None
        self.frames.append(frame)
        self.enter(function)
        for name, value in values:
            self.bind(name, value, node)
        self.body(syntax(function)[0].body)
        if not self.terminated:
            if result is not None:
                raise self.error(syntax(function)[0], f"may end without returning its {kind_name(result)}")
            self.jump(frame.end)
        self.frames.pop()
        self.file = where
        reached = any(f"label %{frame.end}" in line for line in self.lines)
        if not reached:
            self.terminated = True
            return Value(result, "poison") if result is not None else None
        self.lines.append(f"{frame.end}:")
        self.terminated = False
        if result is None:
            return None
        return Value(result, self.temp(f"load {ir_type(result)}, ptr {frame.slot}"))


class _Conflict:
    def __init__(self, name: str) -> None:
        self.name = name


class _Alias:
    """A local name for an array in memory."""

    def __init__(self, place: Place) -> None:
        self.place = place


def _as_load(target: ast.expr) -> ast.expr:
    if isinstance(target, ast.Name):
        return ast.Name(target.id, ast.Load())
    if isinstance(target, ast.Attribute):
        return ast.Attribute(target.value, target.attr, ast.Load())
    if isinstance(target, ast.Subscript):
        return ast.Subscript(target.value, target.slice, ast.Load())
    raise TypeError("cannot assign to this")
