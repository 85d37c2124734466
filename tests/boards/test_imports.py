"""The machine half stays light: what is heavy comes late."""

import subprocess
import sys


def test_boards_and_boot_need_no_heavy_library():
    code = "import powervisor.boot.loader, powervisor.boards.registry, sys; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"llvmlite", "libfdt", "elftools", "rich", "asyncio", "difflib", "tempfile"} & set(out)
