"""A document as a short run leaves it, and a directory for control sockets."""

from __future__ import annotations

import json
import tempfile

import pytest

from powervisor.analysis.record import document
from powervisor.analysis.timing import measure
from tests.system.bare import bare_machine

BUSY = """
    devices
    load32 r4, DEVICES + 0xE00A4    # GUTS SVR
again:
    lwz   r8, 0(r4)
    b     again
"""


@pytest.fixture(scope="session")
def recorded() -> str:
    """JSON of a run with accesses, a name that has to be quoted, and some samples."""
    with bare_machine(BUSY, cores=2, name="<b>lab & co</b>") as machine, measure(machine):
        machine.run(seconds=2.3)
        return json.dumps(document(machine, ended=True))


@pytest.fixture
def sound(recorded):
    """The same, as a document of one's own."""
    return json.loads(recorded)


@pytest.fixture
def runtime(monkeypatch):
    """A runtime directory of the test's own; short, for sockets have short names."""
    with tempfile.TemporaryDirectory(prefix="pv-") as place:
        monkeypatch.setenv("XDG_RUNTIME_DIR", place)
        yield place
