"""powervisor report: a page with plots of a run's statistics."""

import os
from pathlib import Path

from powervisor.cli.options import Parser
from powervisor.errors import UserError


def main(words: list[str]) -> int:
    """Write the page."""
    parser = Parser("report", "Make a page with plots of the statistics that powervisor run -stat FILE has written.")
    parser.add_argument("file", metavar="FILE", help="statistics of run -stat, or of stat -json")
    parser.option("-o", metavar="FILE", help="where the page goes; FILE.html beside the statistics")
    options = parser.parse(words)
    from powervisor.analysis.record import load
    from powervisor.analysis.report import page

    text = page(load(options.file))
    where = Path(options.o if options.o is not None else Path(options.file).with_suffix(".html"))
    if where.exists() and os.path.samefile(where, options.file):
        raise UserError(f"-o {where}: is the file with the statistics; name another one")
    try:
        where.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{'-o ' if options.o else ''}{where}: cannot be written ({error.strerror})") from None
    print(where)
    return 0
