"""-netdev, -object and -pcap on the command line: help, and one line for each mistake."""

import pytest

from powervisor.cli.main import main


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ("-netdev usr,id=n", 2, "-netdev usr: there is no such type; write user, tap, socket, stream, dgram"),
        ("-netdev user", 2, "-netdev user: id= is missing"),
        ("-netdev tap,id=n,ifnam=x", 2, "-netdev tap: unknown property 'ifnam'; did you mean ifname?"),
        (
            "-object filter-dump,id=f,netdev=n,file=x",
            2,
            "netdev=n: no such netdev; there is none; add -netdev user,id=n",
        ),
        ("-netdev socket,id=n,connect=127.0.0.1:1", 1, "-netdev socket,id=n: cannot connect to 127.0.0.1:1"),
        ("-netdev socket,id=n,listen=127.0.0.1:", 1, "listen=127.0.0.1:: not an address; write HOST:PORT"),
        ("-pcap x", 1, "-pcap x: there is no network; add -netdev user,id=n0"),
        ("-device e1000,netdev=n", 1, "-device e1000: netdev=n: no such netdev; there is none; add -netdev user,id=n"),
        ("-device virtio-net-pci", 1, "-device virtio-net-pci: netdev= is missing"),
    ],
)
def test_mistakes_are_told_in_a_line(capsys, words, status, message):
    assert main(["run", *words.split()]) == status
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("-netdev help", "user    the host's own network"),
        ("-netdev user,help", "hostfwd="),
        ("-object help", "filter-dump           what passes"),
        ("-object filter-dump,help", "maxlen="),
        ("-device e1000,help", "netdev=text"),
    ],
)
def test_help(capsys, words, text):
    assert main(["run", *words.split()]) == 0
    assert text in capsys.readouterr().out
