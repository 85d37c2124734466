"""The page: whole, sound, from any sound document, and refused in one line from any other."""

from __future__ import annotations

import json
import random
from html.parser import HTMLParser

import pytest

from powervisor.analysis.plots import nice
from powervisor.analysis.record import VERSION
from powervisor.analysis.report import page
from powervisor.cli.main import main

VOID = {"meta", "br"}


class Sound(HTMLParser):
    """Refuses elements that do not nest, and anything that comes from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attributes):
        self.seen.append(tag)
        assert tag not in ("script", "link", "img", "iframe")
        assert not {"href", "src", "xlink:href"} & {name for name, _ in attributes}
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.seen.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def read(text: str) -> Sound:
    parser = Sound()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    return parser


def test_the_page_is_whole_and_quotes_what_it_shows(sound):
    text = page(sound)
    seen = read(text)
    assert seen.seen.count("svg") >= 5
    assert "<b>lab" not in text and "<b>lab & co</b>" in seen.text
    assert "prefers-color-scheme: dark" in text and "http" not in text and "url(" not in text
    for word in ("MMIO", "TIMEINGUEST", "guts", "svr", "p99", "sum_squared", "Interrupt latency"):
        assert word in seen.text


def test_numbers_on_the_page_are_those_of_the_document(sound):
    text = page(sound)
    count = sum(vcpu["timing"]["MMIO"]["count"] for vcpu in sound["vcpus"] if "MMIO" in vcpu["timing"])
    assert f"MMIO: {count}" in text


@pytest.mark.parametrize("seconds", [[], [0.0], [0.0, 0.0]])
def test_a_run_too_short_for_curves_has_a_page_all_the_same(sound, seconds):
    sound["samples"] = {"seconds": seconds, "exits": {"mmio": [0] * len(seconds)}}
    read(page(sound))


def test_a_run_in_which_nothing_happened_has_a_page(sound):
    for vcpu in sound["vcpus"]:
        vcpu |= {"exits": {}, "interrupts": {}, "timing": {}, "latency": {}, "time": dict.fromkeys(vcpu["time"], 0)}
    sound |= {"registers": [], "sources": [], "measured": 0}
    assert "nothing was counted" in read(page(sound)).text


def test_counts_that_begin_anew_after_a_reset_are_no_negative_rates(sound):
    sound["samples"] = {
        "seconds": [0, 1, 2], "exits": {"mmio": [0, 100, 5]}, "interrupts": {"dec": [9, 1, 2]},
        "time": {"guest": [0, 1, 2]}, "counts": {"instructions": [10**9, 5, 6]},
    }  # fmt: skip
    assert 'height="-' not in page(sound)


def test_axes_have_round_numbers_past_the_largest():
    for largest in (0, 0.3, 1, 7, 99, 100, 101, 12_345, 9e9):
        ticks = nice(largest)
        assert ticks[0] == 0 and ticks[-1] >= largest * 0.999 and 2 <= len(ticks) <= 6


# ---- the command ---------------------------------------------------------------------------------------------------


def report(tmp_path, capsys, content, *words):
    path = tmp_path / "run.json"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    status = main(["report", str(path), *words])
    return status, *capsys.readouterr()


def test_the_page_goes_beside_the_statistics_or_where_one_wants_it(sound, tmp_path, capsys):
    assert report(tmp_path, capsys, sound) == (0, f"{tmp_path}/run.html\n", "")
    assert report(tmp_path, capsys, sound, "-o", str(tmp_path / "x.html")) == (0, f"{tmp_path}/x.html\n", "")
    assert (tmp_path / "run.html").read_text() == (tmp_path / "x.html").read_text()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is no JSON"),
        ("{", "is no JSON"),
        (b"\xff\xfe\0", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("[]", "holds no statistics"),
        ('{"bench": 1}', "holds no statistics"),
        (json.dumps({"format": "powervisor-statistics", "version": VERSION + 1}), "is of version 2"),
        (json.dumps({"format": "powervisor-statistics", "version": VERSION}), "is damaged: powervisor"),
    ],
)
def test_what_is_no_statistics_is_refused_in_one_line(content, said, tmp_path, capsys):
    status, out, err = report(tmp_path, capsys, content)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.startswith(f"powervisor report: {tmp_path}/run.json: ") and said in err


def places(value, where=()):
    """Every place in a document."""
    yield where
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*where, key))


@pytest.mark.parametrize("seed", range(6))
def test_whatever_is_damaged_there_is_a_page_or_one_line(sound, seed, tmp_path, capsys):
    rng = random.Random(seed)
    everywhere = [where for where in places(sound) if where]
    text = json.dumps(sound)
    refused = 0
    for _ in range(60):
        document = json.loads(text)
        where = rng.choice(everywhere)
        holder = document
        for key in where[:-1]:
            holder = holder[key]
        if rng.random() < 0.4:
            del holder[where[-1]]
        else:
            wrong = (None, -1, 1e308, 10**40, float("nan"), "x", [], {}, [[]], {"count": 3}, True, 0, "</svg><script>")
            holder[where[-1]] = rng.choice(wrong)
        status, out, err = report(tmp_path, capsys, document)
        if status == 0:
            read((tmp_path / "run.html").read_text())
        else:
            refused += 1
            assert (status, out, err.count("\n")) == (1, "", 1), (where, err)
    assert refused > 5


def test_the_statistics_are_not_overwritten_by_the_page(sound, tmp_path, capsys):
    path = tmp_path / "run.json"
    status, _, err = report(tmp_path, capsys, sound, "-o", str(path))
    assert status == 1 and "name another one" in err
    assert json.loads(path.read_text()) == sound


def test_files_that_cannot_be_read_or_written_are_named(sound, tmp_path, capsys):
    assert main(["report", str(tmp_path / "none.json")]) == 1
    assert "cannot be read (No such file or directory)" in capsys.readouterr().err
    status, _, err = report(tmp_path, capsys, sound, "-o", str(tmp_path / "none" / "x.html"))
    assert status == 1 and "cannot be written (No such file or directory)" in err
