"""Statements of the native subset."""

from __future__ import annotations

import ast
import re
from typing import Any

from .expressions import Expressions
from .ints import Fixed, u32
from .lang import Abort, static
from .source import changing_names
from .struct import PtrType, resolve_target, size_of
from .values import Alias, Conflict, Const, Place, Value, ir_type, is_int, kind_name


class Statements(Expressions):
    """A method per kind of syntax node, named `stmt_<node>`."""

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
            scope[name] = Alias(value)
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
        return name in changing_names(self.frames[-1].function)

    def stmt_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is None or not isinstance(node.target, ast.Name):
            raise self.error(node, "an annotated assignment needs a name and a value")
        kind = self.expr(node.annotation)
        if not isinstance(kind, Const):
            raise self.error(node, "the annotation is not a type")
        self.bind(node.target.id, self.coerce(self.expr(node.value, kind.value), kind.value, node), node)

    def stmt_AugAssign(self, node: ast.AugAssign) -> None:
        load = ast.copy_location(as_load(node.target), node)
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
                    merged[key] = Conflict(key)
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


def as_load(target: ast.expr) -> ast.expr:
    if isinstance(target, ast.Name):
        return ast.Name(target.id, ast.Load())
    if isinstance(target, ast.Attribute):
        return ast.Attribute(target.value, target.attr, ast.Load())
    if isinstance(target, ast.Subscript):
        return ast.Subscript(target.value, target.slice, ast.Load())
    raise TypeError("cannot assign to this")
