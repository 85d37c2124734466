"""What the site takes from README.md: sections, with their links bent to the site's pages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SECTION = re.compile(r"^\{\{ README: (.+) \}\}$", re.M)


def section(title: str) -> str:
    """The text below a heading of README.md. Raises KeyError when there is none."""
    parts = re.split(r"^## (.+)$", (ROOT / "README.md").read_text(), flags=re.M)
    text = dict(zip(parts[1::2], parts[2::2], strict=True))[title]
    return text.replace("](docs/", "](").strip()


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by mkdocs for each page: `{{ README: What works }}` stands for that section."""
    return SECTION.sub(lambda found: section(found[1]), markdown)
