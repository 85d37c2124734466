"""Plots as inline SVG. Colours are the page's CSS variables, so that they suit light and dark."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

from ..native.histogram import SUBS, bucket_of, bucket_start
from .distribution import Distribution

WIDTH, HEIGHT = 640, 220
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 12, 26
MARKS = 36
"""Room above histograms for what percentiles are."""
WIDE = 1130
SERIES = 8
"""Colours there are; what is more is shown together."""
OTHER = "other"


def nice(largest: float, steps: int = 4) -> list[float]:
    """Round numbers from 0 past `largest`, for an axis."""
    if largest <= 0:
        return [0.0, 1.0]
    rough = largest / steps
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    return [step * n for n in range(math.ceil(largest / step * 0.999) + 1)]


def short(value: float) -> str:
    """A number of at most four digits: 12.5k, 3M."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.3g}"


def duration(ns: float) -> str:
    """A time with its unit."""
    for limit, unit in ((1e9, "s"), (1e6, "ms"), (1e3, "µs")):
        if ns >= limit:
            return f"{ns / limit:.3g} {unit}"
    return f"{ns:.0f} ns"


def largest_first(series: Mapping[str, Sequence[float]], most: int = SERIES) -> dict[str, list[float]]:
    """Series by how much they come to, the smallest of too many summed up as `OTHER`."""
    order = sorted((name for name in series if sum(series[name]) > 0), key=lambda name: -sum(series[name]))
    shown = order if len(order) <= most else order[: most - 1]
    found = {name: list(series[name]) for name in shown}
    if rest := order[len(shown) :]:
        found[OTHER] = [sum(values) for values in zip(*(series[name] for name in rest), strict=True)]
    return found


def legend(names: Sequence[str], colours: Sequence[str]) -> str:
    """Names beside their colours."""
    items = (
        f'<span><i style="background:{colour}"></i>{escape(name)}</span>'
        for name, colour in zip(names, colours, strict=True)
    )
    return f'<div class="legend">{"".join(items)}</div>'


def colours(count: int) -> list[str]:
    """So many colours that are told apart."""
    return [f"var(--s{n % SERIES + 1})" for n in range(count)]


def stacked(
    seconds: Sequence[float], series: Mapping[str, Sequence[float]], unit: Callable[[float], str],
    paint: Sequence[str] | None = None, limit: float | None = None,
) -> str:  # fmt: skip
    """Areas on top of each other over time: `seconds` has the ends of the intervals, and one more at the beginning."""
    names = list(series)
    if len(seconds) < 2 or not any(map(sum, series.values())):
        return '<p class="none">too short a run for a curve: samples are a second apart</p>'
    paint = paint or colours(len(names))
    begin, end = seconds[0], seconds[-1]
    totals = [sum(values) for values in zip(*series.values(), strict=True)]
    ticks = nice(limit if limit is not None else max(totals))
    top = ticks[-1]

    def x(second: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (second - begin) / (end - begin or 1)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(value / top, 1)

    parts = [_horizontal(tick, y(tick), unit(tick)) for tick in ticks]
    parts += [_below(x(begin + tick), f"{short(tick)} s") for tick in nice(end - begin, 6) if begin + tick <= end]
    below = [0.0] * len(totals)
    for name, colour in zip(names, paint, strict=True):
        above = [low + value for low, value in zip(below, series[name], strict=True)]
        outline = _steps(seconds, above, x, y) + _steps(seconds, below, x, y)[::-1]
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in outline)
        parts.append(f'<polygon points="{points}" fill="{colour}"><title>{escape(name)}</title></polygon>')
        below = above
    for n, (start, stop) in enumerate(zip(seconds, seconds[1:], strict=False)):
        told = "\n".join(f"{name}: {unit(series[name][n])}" for name in names if series[name][n])
        told = f"{start - begin:.0f} to {stop - begin:.0f} s\n{told}"
        parts.append(_box(x(start), TOP, x(stop) - x(start), HEIGHT - TOP - BOTTOM, 'class="hover"', told))
    return legend(names, paint) + _svg(parts)


def _steps(
    seconds: Sequence[float], values: Sequence[float], x: Callable[[float], float], y: Callable[[float], float]
) -> list[tuple[float, float]]:
    """Corners of a staircase."""
    found = []
    for n, value in enumerate(values):
        found += [(x(seconds[n]), y(value)), (x(seconds[n + 1]), y(value))]
    return found


def histogram(distribution: Distribution, marks: Sequence[float] = (50, 90, 99)) -> str:
    """Times along a logarithmic axis, with percentiles."""
    if not distribution.buckets:
        return '<p class="none">nothing was counted</p>'
    groups: dict[int, int] = {}  # four bars an octave are enough to see
    for n, count in distribution.buckets.items():
        groups[n // _JOINED] = groups.get(n // _JOINED, 0) + count
    low, high = (
        math.log2(max(bucket_start(min(groups) * _JOINED), 1)),
        math.log2(bucket_start((max(groups) + 1) * _JOINED)),
    )
    middle = (low + high) / 2
    low, high = min(low, middle - 2), max(high, middle + 2)
    ticks = nice(max(groups.values()))

    def x(ns: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (math.log2(max(ns, 1)) - low) / (high - low)

    def y(count: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM - MARKS) * count / ticks[-1]

    parts = [_horizontal(tick, y(tick), short(tick)) for tick in ticks]
    decades = [10.0**n for n in range(12) if low <= math.log2(10.0**n) <= high]
    parts += [_below(x(ns), duration(ns)) for ns in decades or [2**middle]]
    for group, count in sorted(groups.items()):
        begin, end = bucket_start(group * _JOINED), bucket_start((group + 1) * _JOINED)
        told = f"{duration(begin)} to {duration(end)}: {count}"
        wide = max(x(end) - x(begin) - 1, 1)
        parts.append(_box(x(begin) + 0.5, y(count), wide, HEIGHT - BOTTOM - y(count), 'class="bar"', told))
    for n, (share, ns) in enumerate(zip(marks, distribution.percentiles(*marks), strict=True)):
        place = x(ns)
        anchor = "end" if place > WIDTH - 90 else "start"
        shift = -4 if anchor == "end" else 4
        parts.append(
            f'<line class="mark" x1="{place:.1f}" x2="{place:.1f}" y1="{TOP + 4 + 11 * n}" y2="{HEIGHT - BOTTOM}"/>'
            f'<text class="marked" x="{place + shift:.1f}" y="{TOP + 10 + 11 * n}" text-anchor="{anchor}">'
            f"p{share:g} {duration(ns)}</text>"
        )
    return _svg(parts)


_JOINED = SUBS // 4
assert bucket_of(bucket_start(SUBS * 3)) == SUBS * 3


def bars(rows: Sequence[tuple[str, Mapping[str, float]]], paint: Mapping[str, str]) -> str:
    """A bar of shares in percent for each row."""
    height = 22 * len(rows) + 4
    parts = []
    for n, (name, times) in enumerate(rows):
        place, above = float(LEFT), 22 * n + 3
        parts.append(f'<text x="{LEFT - 8}" y="{above + 12}" text-anchor="end">{escape(name)}</text>')
        for share, percent in times.items():
            width = (WIDE - LEFT - RIGHT) * percent / 100
            told = f"{name} {share}: {percent:.1f} %"
            parts.append(_box(place, above, max(width - 1, 0), 16, f'rx="2" fill="{paint[share]}"', told))
            place += width
    return legend(list(paint), list(paint.values())) + _svg(parts, WIDE, height)


def _svg(parts: Sequence[str], width: int = WIDTH, height: int = HEIGHT) -> str:
    return f'<svg viewBox="0 0 {width} {height}" role="img">{"".join(parts)}</svg>'


def _box(x: float, y: float, width: float, height: float, look: str, told: str) -> str:
    """A rectangle that tells something when it is pointed at."""
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f"<rect {look} {place}><title>{escape(told)}</title></rect>"


def _horizontal(tick: float, y: float, label: str) -> str:
    kind = "axis" if tick == 0 else "rule"
    return (
        f'<line class="{kind}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{escape(label)}</text>'
    )


def _below(x: float, label: str) -> str:
    return f'<text x="{x:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{escape(label)}</text>'
