"""The pytest plugin: machines as fixtures, faults to inject, and what a machine was doing when its test failed.

docs/pytest.md tells how to use it. Nothing of the product is imported before a test asks for a fixture.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ..machine import Machine
    from ..machine.snapshot import Snapshot
    from .faults import Faults
    from .report import LastExits
    from .shell import Shell

_MACHINES = pytest.StashKey[list[tuple[str, "Machine", "LastExits"]]]()
DEFAULT_TIMEOUT = 300.0
_OWN = ("guest", "timeout")
"""Words of the marker that are not `Machine`'s."""
_EACH = ("name", "serial", "chardevs", "pcap", "record", "cache", "progress", "warn")
"""Options that the machine of each test has for itself, not the one that is booted for all."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("powervisor")
    group.addoption(
        "--powervisor-guest", default="k32", metavar="NAME",
        help="guest of booted_linux where its marker names none (default: k32; `powervisor guests` lists them)",
    )  # fmt: skip
    group.addoption(
        "--powervisor-timeout", type=float, default=DEFAULT_TIMEOUT, metavar="SECONDS",
        help="host seconds after which a machine gives up its test unless its marker says (default: %(default)s)",
    )  # fmt: skip
    group.addoption(
        "--powervisor-boot-timeout", type=float, default=DEFAULT_TIMEOUT, metavar="SECONDS",
        help="host seconds that a guest may take to its prompt (default: %(default)s)",
    )  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "machine(guest=..., timeout=..., **options): the fixtures machine and booted_linux have these options of "
        "powervisor.Machine, boot this guest, and give up after so many seconds",
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add what the test's machines were doing to the report of a failure."""
    report = yield
    if report.failed and call.when != "teardown":
        for label, machine, exits in item.stash.get(_MACHINES, []):
            from .report import describe

            try:
                text = describe(machine, exits)
            except Exception as error:  # the test's own failure is what has to be seen
                text = f"nothing can be told of it: {type(error).__name__}: {error}"
            report.sections.append((f"Powervisor {label}", text))
    return report


# ---- the marker --------------------------------------------------------------------------------------------------


def _marked(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The words of all markers `machine` of a test: those nearer to it win."""
    words: dict[str, Any] = {}
    for mark in reversed(list(request.node.iter_markers("machine"))):
        if mark.args:
            raise _refusal(request, f"machine{mark.args!r}: give options as keywords, machine(cpu='e5500')")
        words.update(mark.kwargs)
    return words


def _check(request: pytest.FixtureRequest, words: dict[str, Any]) -> None:
    """Fail the test, in one line, for words that the marker has not."""
    import difflib
    import inspect

    from ..machine import Machine

    known = [*_OWN, *(name for name in inspect.signature(Machine).parameters)]
    for word in words:
        if word not in known:
            near = difflib.get_close_matches(word, known, 3) or known
            raise _refusal(request, f"machine({word}=...): there is no such option; there is {', '.join(near)}")


def _refusal(request: pytest.FixtureRequest, message: str) -> BaseException:
    """What fails the test in one line."""
    return pytest.fail.Exception(f"{request.node.nodeid}: {message}", pytrace=False)


def _options(request: pytest.FixtureRequest, words: dict[str, Any], guest: str | None) -> dict[str, Any]:
    """Keywords of `Machine`; files of a guest that are missing are built."""
    from ..errors import UserError
    from ..guests import catalogue

    given = {name: value for name, value in words.items() if name not in _OWN}
    try:
        if guest is not None:
            given = {**catalogue.machine_arguments(catalogue.get(guest), given), **given}
    except UserError as error:
        raise _refusal(request, str(error)) from None
    return given


# ---- machines ----------------------------------------------------------------------------------------------------


class _Care:
    """What a test's machine has from its beginning to its end: a place in the report, a limit of time, an end."""

    def __init__(self, request: pytest.FixtureRequest, stack: ExitStack, timeout: float) -> None:
        self._request, self._stack, self._timeout = request, stack, timeout

    def take(self, machine: Machine) -> Machine:
        """Care for a machine from now on."""
        from .report import LastExits

        self._stack.callback(machine.close)
        machines = self._request.node.stash.setdefault(_MACHINES, [])
        label = "machine" if not machines else f"machine {len(machines) + 1}"
        machines.append((label, machine, LastExits(machine)))
        timer = threading.Timer(self._timeout, self._give_up, (machine,))
        timer.daemon = True
        timer.start()
        self._stack.callback(timer.cancel)
        return machine

    def _give_up(self, machine: Machine) -> None:
        machine.give_up(TimeoutError(f"the test took more than {self._timeout:g} s (timeout= of its marker)"))


@pytest.fixture
def _powervisor_care(request: pytest.FixtureRequest) -> Iterator[_Care]:
    words = _marked(request)
    timeout = words.get("timeout") or request.config.getoption("--powervisor-timeout")
    with ExitStack() as stack:
        yield _Care(request, stack, float(timeout))
    request.node.stash.get(_MACHINES, []).clear()


@pytest.fixture
def make_machine(request: pytest.FixtureRequest, _powervisor_care: _Care) -> Callable[..., Machine]:
    """Makes machines: `make_machine(cpu="e5500", kernel=...)` takes what the marker takes, and wins over it.

    They are not started; they are closed after the test.
    """
    marked = _marked(request)

    def make(**options: Any) -> Machine:
        from ..errors import UserError
        from ..machine import Machine

        words = {**marked, **options}
        _check(request, words)
        try:
            return _powervisor_care.take(Machine(**_options(request, words, words.get("guest"))))
        except UserError as error:
            raise _refusal(request, str(error)) from None

    return make


@pytest.fixture
def machine(make_machine: Callable[..., Machine]) -> Machine:
    """A machine with the options of the test's marker, not started: `run` or `start` does that."""
    return make_machine()


class _Boots:
    """Guests at their prompt, each booted once in a session: by name and options."""

    def __init__(self) -> None:
        self._kept: dict[str, Snapshot] = {}

    def get(self, guest: str, options: dict[str, Any], timeout: float) -> Snapshot:
        """A snapshot of a guest at its prompt. Raises PowervisorError when it does not come there in time."""
        from ..console import open_chardev
        from ..machine import Machine
        from .shell import PROMPT

        common = {name: value for name, value in options.items() if name not in _EACH}
        common["serial"] = [None for _ in options.get("serial") or (None,)]
        chardevs = sorted(options.get("chardevs") or ())
        key = f"{guest} {sorted(common.items(), key=str)} {chardevs}"
        if key not in self._kept:
            with Machine(**common, chardevs={name: open_chardev("null") for name in chardevs}) as machine:
                machine.run(timeout, until=PROMPT)
                self._kept[key] = machine.snapshot()
        return self._kept[key]


@pytest.fixture(scope="session")
def _powervisor_boots() -> _Boots:
    return _Boots()


@pytest.fixture
def booted_linux(request: pytest.FixtureRequest, _powervisor_care: _Care, _powervisor_boots: _Boots) -> Machine:
    """Linux at its shell's prompt, running; a machine of the test's own, whatever others do.

    It is booted once in a session (in each worker of pytest-xdist); each test has a fork of that moment. The marker
    says which guest and machine: `@pytest.mark.machine(guest="k64", cores=1)`.
    """
    from ..errors import PowervisorError

    words = _marked(request)
    _check(request, words)
    guest = words.get("guest") or request.config.getoption("--powervisor-guest")
    options = _options(request, words, guest)
    try:
        moment = _powervisor_boots.get(guest, options, request.config.getoption("--powervisor-boot-timeout"))
    except PowervisorError as error:
        raise _refusal(request, f"guest {guest}: {error}") from None
    try:
        machine = _powervisor_care.take(moment.fork(**{name: options[name] for name in _EACH if name in options}))
    except PowervisorError as error:
        raise _refusal(request, str(error)) from None
    machine.start()
    return machine


@pytest.fixture
def shell(booted_linux: Machine) -> Shell:
    """The shell of `booted_linux`: `shell.run("uname -m").output`."""
    from .shell import Shell

    return Shell(booted_linux)


@pytest.fixture
def faults(request: pytest.FixtureRequest) -> Iterator[Faults]:
    """Faults for the test's machine, `booted_linux` if it uses that and else `machine`; ended after the test."""
    from .faults import Faults

    name = "booted_linux" if "booted_linux" in request.fixturenames else "machine"
    injected = Faults(request.getfixturevalue(name))
    yield injected
    injected.clear()
