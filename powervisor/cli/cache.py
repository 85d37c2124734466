"""powervisor cache: what is kept on disk between runs, and removing it."""

import time

from powervisor.cli.options import Parser, table
from powervisor.errors import UserError

KINDS = ("images", "regions")


def main(words: list[str]) -> int:
    """Show the cache, or clear it."""
    parser = Parser("cache", "Show what is kept on disk to make the next start and run faster, or remove it.")
    parser.add_argument("action", nargs="?", choices=("show", "clear"), default="show", help="show (default) or clear")
    parser.add_argument(
        "kinds", nargs="*", metavar="KIND", help=f"what to clear: {' or '.join(KINDS)}; without it both, never guests"
    )
    options = parser.parse(words)
    if options.action == "show":
        if options.kinds:
            raise UserError("cache show takes nothing more; to remove: powervisor cache clear")
        print(_listing())
        return 0
    for kind in options.kinds:
        if kind not in KINDS:
            raise UserError(f"cache clear {kind}: there is no such kind; write {' or '.join(KINDS)}")
    for kind in options.kinds or KINDS:
        print(_clear(kind))
    return 0


def _listing() -> str:
    from powervisor.cache import images, regions
    from powervisor.cache.place import root
    from powervisor.guests import catalogue

    try:
        found, rows = images.entries(), regions.summary()
        guests = [path.stat().st_size for path in catalogue.cache().glob("*") if path.is_file()]
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror}); set POWERVISOR_CACHE") from None
    lines = []
    for core in sorted({entry.core for entry in found}):
        mine = [entry for entry in found if entry.core == core]
        age = _age(time.time() - max(entry.used for entry in mine))
        lines.append(("images", core, str(len(mine)), _size(sum(e.size for e in mine)), f"used {age} ago"))
    if rows.rows is None:
        lines.append(("regions", "", "", _size(rows.size), "damaged, or in use"))
    else:
        lines += [("regions", core, str(n), _size(size), "") for core, (n, size) in sorted(rows.rows.items())]
    if guests:
        lines.append(("guests", "", str(len(guests)), _size(sum(guests)), "stay when the cache is cleared"))
    total = sum(entry.size for entry in found) + rows.size + sum(guests)
    bound = f"images: {images.KEPT} at most; regions: {_size(regions.MOST_BYTES)} at most"
    return "\n".join([str(root()), *([table(lines)] if lines else []), f"total {_size(total)} ({bound})"])


def _clear(kind: str) -> str:
    from powervisor.cache import images, regions

    try:
        count, size = {"images": images.clear, "regions": regions.clear}[kind]()
    except OSError as error:
        raise UserError(f"cache clear {kind}: {error.filename}: cannot be cleared ({error.strerror})") from None
    return f"{kind}: {count} removed, {_size(size)}"


def _size(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB" if size >= 1 << 20 else f"{-(-size // 1024)} KiB"


def _age(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{int(seconds // length)} {unit}"
    return f"{max(int(seconds), 0)} s"
