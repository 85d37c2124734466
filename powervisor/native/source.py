"""The syntax trees of native functions, and what can be told from them without compiling."""

from __future__ import annotations

import ast
import inspect
from functools import cache
from typing import Any

from .lang import NativeFunction


@cache
def functions_in(path: str) -> dict[int, ast.FunctionDef]:
    """Every function of a source file by its first line, decorators included."""
    with open(path, encoding="utf-8") as source:
        tree = ast.parse(source.read(), path)
    found = {}
    waiting: list[ast.AST] = [tree]
    while waiting:  # statements only: walking every expression would take longer than parsing
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef):
            first = node.decorator_list[0] if node.decorator_list else node
            found[first.lineno] = node
        for block in ("body", "orelse", "handlers", "finalbody"):
            waiting += getattr(node, block, ())
    return found


@cache
def syntax(function: NativeFunction) -> tuple[ast.FunctionDef, str]:
    """The function's syntax tree and its file name."""
    code = function.body.__code__
    return functions_in(code.co_filename)[code.co_firstlineno], code.co_filename


@cache
def nodes_of(function: NativeFunction) -> tuple[ast.AST, ...]:
    """Every node of the function's syntax tree."""
    return tuple(ast.walk(syntax(function)[0]))


@cache
def changing_names(function: NativeFunction) -> frozenset[str]:
    """The names that the function assigns more than once."""
    counts: dict[str, int] = {}
    for part in nodes_of(function):
        if isinstance(part, ast.AugAssign) and isinstance(part.target, ast.Name):
            counts[part.target.id] = 2
        elif isinstance(part, ast.Assign):
            for target in part.targets:
                for leaf in ast.walk(target):
                    if isinstance(leaf, ast.Name) and isinstance(leaf.ctx, ast.Store):
                        counts[leaf.id] = counts.get(leaf.id, 0) + 1
    return frozenset(name for name, count in counts.items() if count > 1)


@cache
def names_of(function: NativeFunction) -> dict[str, Any]:
    """Global and closure names the body sees."""
    names = dict(function.body.__globals__)
    names.update(inspect.getclosurevars(function.body).nonlocals)
    return names


@cache
def may_abort(function: NativeFunction) -> bool:
    """Whether the function, or one it calls, can `raise Abort`. A static callee parameter counts as one that can."""
    names = names_of(function)
    parameters = set(function.parameters)
    for node in nodes_of(function):
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
