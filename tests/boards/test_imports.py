"""The machine half stays its own half: imports go one way, and what is heavy comes late."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import powervisor

PACKAGE = Path(powervisor.__file__).parent
ALLOWED = {
    "memory": {"errors", "memory"},
    "devices": {"errors", "memory", "devices", "native"},
    "boards": {"errors", "memory", "devices", "boards"},
    "boot": {"errors", "memory", "devices", "boards", "boot"},
}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for name in names:
            if name.startswith("powervisor."):
                yield name.split(".")[1]


@pytest.mark.parametrize("room", ALLOWED)
def test_imports_go_one_way(room):
    for path in (PACKAGE / room).rglob("*.py"):
        assert set(imports(path)) <= ALLOWED[room], path.name


def test_boards_and_boot_need_no_heavy_library():
    code = "import powervisor.boot.loader, powervisor.boards.registry, sys; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"llvmlite", "libfdt", "elftools", "rich", "asyncio", "difflib", "tempfile"} & set(out)
