"""The examples of the documentation are executed."""

from __future__ import annotations

import doctest
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_examples_of_the_library_page_are_true():
    found = doctest.testfile(
        str(DOCS / "library.md"), module_relative=False, optionflags=doctest.ELLIPSIS, encoding="utf-8"
    )
    assert found.attempted > 40 and found.failed == 0
