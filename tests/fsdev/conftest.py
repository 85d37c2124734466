"""A directory of the host, served."""

import pytest

from powervisor.fsdev.server import Server
from powervisor.fsdev.tree import Tree
from tests.support.ninep_client import Client


@pytest.fixture
def directory(tmp_path):
    """The directory that is given to the guest; beside it is what it must not see."""
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "secret").write_text("of the host")
    return inside


@pytest.fixture
def server(directory):
    server = Server(Tree(str(directory)), False)
    yield server
    server.reset()
    server.tree.close()


@pytest.fixture
def client(server):
    return Client(server)
