"""Python on the live machine, which stands still meanwhile."""

from __future__ import annotations

import code
import contextlib
import io
import rlcompleter
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ...console.prompt import Prompt, Talk
from ...errors import PowervisorError
from ...hv.vcpu import Vcpu
from ...insns import disassemble

if TYPE_CHECKING:
    from ...machine.cpu import Cpu
    from .monitor import Monitor

BANNER = """Python {version}; the machine is stopped until you leave with Ctrl-D or exit().
machine, cpus, cpu, regs, mem; read(ea, n), write(ea, data), dis(ea, n), step(n), translate(ea), monitor("info tlb")
"""


class _Writer(io.TextIOBase):
    """Standard output of what is typed."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show

    def write(self, text: str) -> int:
        self._show(text)
        return len(text)

    def writable(self) -> bool:
        return True


class _Reader(io.TextIOBase):
    """Standard input of what is typed: help() and input() ask there."""

    def __init__(self, read: Callable[[], str]) -> None:
        self._read = read

    def readline(self, size: int | None = -1) -> str:  # type: ignore[override]
        try:
            return f"{self._read()}\n"
        except EOFError:
            return ""

    def readable(self) -> bool:
        return True


class PythonShell(code.InteractiveConsole):
    """An interactive console at a monitor's prompt."""

    def __init__(self, monitor: Monitor, prompt: Prompt) -> None:
        self._monitor, self._prompt = monitor, prompt
        super().__init__(self._names(), "<monitor>")
        self._completer = rlcompleter.Completer(self.locals)
        self._talk = Talk("python", self._complete, " \t()[]{}=+-*/%&|^~<>,:;!\"'")

    def _names(self) -> dict[str, Any]:
        monitor, control = self._monitor, self._monitor.control
        machine = monitor.machine

        def vcpu_of(cpu: Cpu | None) -> Vcpu:
            return monitor.vcpu if cpu is None else machine.vcpus[cpu.index]

        def read(ea: int, length: int = 4, cpu: Cpu | None = None) -> bytes:
            """Memory as a vCPU sees it."""
            return control.read(vcpu_of(cpu), ea, length)

        def write(ea: int, data: bytes, cpu: Cpu | None = None) -> None:
            """Change memory as a vCPU sees it, permissions aside."""
            control.write(vcpu_of(cpu), ea, data)

        def translate(ea: int, cpu: Cpu | None = None) -> int | None:
            """The physical address behind an effective one, None where there is none."""
            return vcpu_of(cpu).translate(ea)

        def dis(ea: int | None = None, count: int = 8) -> None:
            """Print instructions, from pc when nothing is said."""
            at = monitor.vcpu.regs["pc"] if ea is None else ea
            data = control.read(monitor.vcpu, at, 4 * count)
            for n in range(0, len(data) - 3, 4):
                print(f"0x{at + n:x}: {disassemble(int.from_bytes(data[n : n + 4], 'big'), at + n)}")

        def step(count: int = 1, cpu: Cpu | None = None) -> int:
            """Execute instructions of one vCPU; answers its pc."""
            chosen = vcpu_of(cpu)
            for _ in range(count):
                control.step(chosen)
            return chosen.regs["pc"]

        def command(line: str) -> None:
            """Print what the monitor answers."""
            print(monitor.execute(line), end="")

        cpu = machine.cpus[monitor.vcpu.index]
        return {
            "__name__": "__console__", "machine": machine, "cpus": machine.cpus,
            "cpu": cpu, "regs": cpu.regs, "mem": machine.memory,
            "control": control, "read": read, "write": write, "translate": translate, "dis": dis, "step": step,
            "monitor": command,
        }  # fmt: skip

    def talk(self) -> None:
        """Read and execute until the end of input or exit()."""
        with contextlib.suppress(SystemExit):
            self.interact(BANNER.format(version=sys.version.split()[0]), "")

    def raw_input(self, prompt: str = "") -> str:
        """A line from the prompt. Raises EOFError at its end."""
        return self._prompt.read(prompt, self._talk)

    def showtraceback(self) -> None:
        """What is wrong with a line; of Powervisor's own errors, which say it in a line, no traceback."""
        error = sys.exc_info()[1]
        if isinstance(error, PowervisorError):
            self.write(f"{type(error).__name__}: {error}\n")
        else:
            super().showtraceback()

    def write(self, data: str) -> None:
        """Tracebacks and the banner."""
        self._prompt.write(data)

    def runcode(self, code: Any) -> None:
        """Execute with standard input and output at the prompt."""
        out, keyboard = _Writer(self._prompt.write), _Reader(lambda: self._prompt.read("", Talk("")))
        before, sys.stdin = sys.stdin, keyboard
        try:
            lent = self._monitor.machine.hooks.lent()
            with contextlib.redirect_stdout(out), self._prompt.interruptible(), lent:
                super().runcode(code)
        finally:
            sys.stdin = before

    def _complete(self, line: str) -> list[str]:
        word = line[self._talk.begin(line) :]
        found: list[str] = []
        if word:
            while (candidate := self._completer.complete(word, len(found))) is not None:
                found.append(candidate)
        return sorted({candidate.rstrip("() ") for candidate in found})
