"""The rooms of the package and the doors between them, as docs/architecture.md draws them; from every module's AST."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import powervisor

PACKAGE = Path(powervisor.__file__).parent
LONGEST = 600
"""Lines that a file may have; tables of names may be longer."""
TABLES = {"isa/registers.py"}

MAY_IMPORT = {
    "errors": set(),
    "properties": set(),
    "buffers": set(),
    "fdsets": set(),
    "cache": set(),
    "snapshots": set(),
    "native": set(),
    "isa": {"native"},
    "vcpu": {"native", "isa"},
    "insns": {"native", "isa", "vcpu"},
    "translate": {"cache", "native", "isa", "vcpu", "insns"},
    "hv": {"native", "isa", "vcpu", "insns", "translate"},
    "memory": set(),
    "block": set(),
    "fsdev": set(),
    "net": set(),
    "devices": {"block", "fsdev", "memory", "native", "net"},
    "paravirt": {"isa", "devices"},
    "boards": {"isa", "memory", "devices", "paravirt"},
    "boot": {"memory", "devices", "boards"},
    "console": set(),
    "guests": {"boot", "cache", "native", "isa", "insns", "memory", "devices", "boards"},
    "machine": {
        "block", "fsdev", "net", "native", "isa", "insns", "hv", "memory", "devices", "paravirt", "boards", "boot",
        "console", "guests", "snapshots",
    },
    "analysis": {"native", "isa", "vcpu", "insns", "hv", "devices", "machine"},
    "debug": {"analysis", "isa", "vcpu", "insns", "hv", "memory", "devices", "boards", "console", "machine"},
    "manage": {
        "block", "boards", "console", "debug", "devices", "hv", "isa", "machine", "memory", "snapshots",
    },
    "libvirt": {"block", "cache", "console", "fsdev", "isa", "machine"},
    "testing": {"native", "isa", "vcpu", "insns", "translate", "hv", "memory", "console", "guests", "machine"},
    "cli": {
        "analysis", "block", "cache", "isa", "insns", "boards", "boot", "console", "debug", "devices", "fsdev",
        "guests", "libvirt", "machine", "manage", "memory", "net",
    },
}  # fmt: skip
"""What each room may import besides itself and what serves everybody: `errors`, `properties`, `buffers`, `fdsets`. The
package itself (`from powervisor import Machine`) is the machine's room, its version nobody's."""
PROGRAMS = {"isa.document": {"insns"}, "testing.snapshots": {"guests", "machine"}, "libvirt.images": set()}
"""Modules that are run (`python -m`) and imported by none, with what they may import besides."""

MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "guests/" not in str(path.relative_to(PACKAGE))) + sorted(
    (PACKAGE / "guests").rglob("*.py")
)


def room_of(module: str) -> str:
    """The room of a dotted name below the package."""
    return module.split(".")[0]


def name_of(path: Path) -> str:
    """A file's dotted name below the package; "" for the package itself."""
    parts = list(path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {name_of(path) for path in MODULES}


def imports(path: Path, everywhere: bool = True) -> Iterator[str]:
    """Dotted names below the package that a file imports; not those for type checkers, and at its top level only or
    `everywhere`."""
    own = name_of(path).split(".") if name_of(path) else []
    package = own if path.name == "__init__.py" else own[:-1]
    body = ast.parse(path.read_text())
    skipped: set[ast.AST] = set()
    for node in ast.walk(body):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            skipped.update(inner for statement in node.body for inner in ast.walk(statement))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not everywhere:
            skipped.update(inner for statement in node.body for inner in ast.walk(statement))
    for node in ast.walk(body):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("powervisor"):
                    yield alias.name.removeprefix("powervisor").removeprefix(".")
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = package[: len(package) - node.level + 1] + (node.module.split(".") if node.module else [])
            elif (node.module or "").split(".")[0] == "powervisor":
                base = (node.module or "").split(".")[1:]
            else:
                continue
            for alias in node.names:
                inner = ".".join([*base, alias.name])
                if inner in NAMES:
                    yield inner
                elif base:
                    yield ".".join(base)
                elif alias.name == "Machine":
                    yield "machine"


def test_every_room_is_on_the_map():
    rooms = {room_of(name) for name in NAMES} - {"", "__main__"}
    assert rooms == set(MAY_IMPORT)


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_go_one_way(room):
    allowed = MAY_IMPORT[room] | {room, "errors", "properties", "buffers", "fdsets"}
    for path in MODULES:
        if room_of(name_of(path)) == room:
            more = PROGRAMS.get(name_of(path), set())
            strays = {name for name in imports(path) if name and room_of(name) not in allowed | more}
            assert not strays, f"{path.relative_to(PACKAGE)} imports {', '.join(sorted(strays))}"


def test_nobody_imports_a_program():
    assert not {name for path in MODULES for name in imports(path)} & PROGRAMS.keys()


def test_the_map_itself_has_no_circle():
    TopologicalSorter(MAY_IMPORT).prepare()


def test_no_module_imports_itself_by_a_detour():
    graph = {
        name_of(path): {name for name in imports(path, everywhere=False) if name in NAMES} - {name_of(path)}
        for path in MODULES
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_can_be_read_in_one_sitting(path):
    if str(path.relative_to(PACKAGE)) not in TABLES:
        assert len(path.read_text().splitlines()) <= LONGEST


def test_every_module_says_what_it_is():
    silent = [str(path.relative_to(PACKAGE)) for path in MODULES if not ast.get_docstring(ast.parse(path.read_text()))]
    assert not silent
