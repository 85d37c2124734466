"""Native functions to LLVM IR text: a walk over the Python syntax tree with types and compile-time values."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Collection
from typing import Any, get_args, get_origin

from .intrinsics import Intrinsics
from .lang import INTRINSICS, NativeFunction, Static
from .source import may_abort, syntax
from .statements import Statements
from .values import CompileError, Const, Frame, Place, TupleType, Value, ir_type, is_int, kind_name
from .vector_intrinsics import VectorIntrinsics
from .vectors import is_vector

__all__ = ["FunctionCompiler", "Module", "may_abort", "syntax"]

INLINE_LIMIT = 24
"""Lines of IR up to which `inline` functions are inlined outside stencils."""


class Module:
    """Native functions compiled together; `require` asks for one and returns its symbol."""

    def __init__(self, compiler: type[FunctionCompiler] | None = None, known: Collection[str] = ()) -> None:
        """`known`: symbols that exist elsewhere, compiled from the same sources, and are not compiled again."""
        self.compiler = compiler or FunctionCompiler
        self.known = known
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
            if symbol in self.known and f"{symbol}'" not in self.known:  # else the name tells not which is meant
                self.declare(function, statics or {}, symbol)
                return symbol
            while symbol in self.known:
                symbol += "'"
            self.symbols[key] = symbol
            self.queue.append((function, tuple((statics or {}).items()), symbol))
        if export:
            self.exported.add(symbol)
        return symbol

    def declare(self, function: NativeFunction, statics: dict[str, Any], symbol: str) -> None:
        """Refer to a function that is compiled already."""
        compiler = self.compiler(self)
        parameters, result = compiler.signature(function, statics)
        kinds = ", ".join(ir_type(kind) for _, kind in parameters)
        self.declarations.add(f'declare {compiler.result_type(result, may_abort(function))} @"{symbol}"({kinds})')

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

    def emit_parts(self, chosen: set[str]) -> tuple[str, str]:
        """Two modules: the functions with the chosen symbols, and the others. Small inlined ones are in both."""
        self.compile_queue()
        parts: tuple[list[str], list[str]] = [], []
        for text in self.text:
            found = _HEADER.match(text)
            assert found is not None
            symbol, result, name, parameters, attribute = found.groups()
            inlined = attribute == "1" and symbol not in self.exported
            defined = _DEFINE.sub("define internal" if inlined else "define", text, count=1)
            kinds = ", ".join(parameter.rsplit(" ", 1)[0] for parameter in parameters.split(", ") if parameter)
            for part, here in zip(parts, (symbol in chosen, symbol not in chosen), strict=True):
                part.append(defined if here or inlined else f'declare {result} @"{name}"({kinds})')
        tail = "\n" + "\n".join(sorted(self.declarations)) + TAIL
        return "\n".join(parts[0]) + tail, "\n".join(parts[1]) + tail


_DEFINE = re.compile(r"define @@(.*?)@@")
_HEADER = re.compile(r'define @@(.*?)@@ (.*?) @"(.*?)"\((.*?)\) #(\d)')

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
    return "".join(
        c if c.isalnum() else "_"
        for c in (getattr(value, "__name__", None) or str(int(value) if isinstance(value, int) else value))
    )


class FunctionCompiler(Statements, Intrinsics, VectorIntrinsics):
    """Emits one function. Subclasses change what calls, returns and aborts become (see translate.stencils)."""

    def __init__(self, module: Module) -> None:
        super().__init__()
        self.module = module
        self.aborts = False

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
        if get_origin(result) is tuple:
            result = TupleType(get_args(result))
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
        values: list[tuple[str, Any]] = []
        for (name, argument), (_, kind) in zip(others, parameters, strict=True):
            keep = isinstance(argument, Value) and argument.hole is not None and argument.kind is kind
            if isinstance(argument, Const) and is_int(kind):  # stays known in the callee
                self.coerce(argument, kind, node)
                values.append((name, Const(kind(argument.value))))
            else:
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
