"""Flame graphs: stacks of a profile as one self-contained SVG. Width is samples, what was called lies above its caller.

A click on a frame shows it and what it called over the whole width, one on the lowest frame everything again.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from zlib import crc32

WIDTH, ROW, MARGIN, TITLE = 1200, 18, 10, 36
"""Pixels."""
NARROWEST = 0.3
"""Pixels of a frame that is drawn."""
CHARACTER = 6.6

_STYLE = """
svg { font: 11px ui-monospace, monospace; background: #fff; }
text { fill: #111; pointer-events: none; }
rect { stroke: #fff; stroke-width: .5; cursor: pointer; }
.title { font-size: 14px; }
@media (prefers-color-scheme: dark) {
  svg { background: #16181c; } rect { stroke: #16181c; } .title { fill: #ddd; }
}
"""
_SCRIPT = """
const frames = [...document.querySelectorAll('g.f')], W = %(width)d, M = %(margin)d, C = %(character)s;
function show(at, width) {
  for (const g of frames) {
    const [x, w] = [+g.dataset.x, +g.dataset.w], r = g.children[1], t = g.children[2];
    const left = Math.max((x - at) / width, 0), right = Math.min((x + w - at) / width, 1);
    const visible = right > left;
    g.style.display = visible ? '' : 'none';
    if (!visible) continue;
    const pixels = (right - left) * W, room = Math.floor((pixels - 4) / C), name = g.dataset.n;
    r.setAttribute('x', M + left * W); r.setAttribute('width', pixels);
    t.setAttribute('x', M + left * W + 3);
    t.textContent = room < 3 ? '' : name.length <= room ? name : name.slice(0, room - 2) + '..';
  }
}
for (const g of frames) g.addEventListener('click', () => show(+g.dataset.x, +g.dataset.w));
"""


class _Node:
    """A frame with what it called."""

    def __init__(self) -> None:
        self.samples = 0
        self.callees: dict[str, _Node] = {}

    def depth(self) -> int:
        return 1 + max((node.depth() for node in self.callees.values()), default=0)


def flame_graph(stacks: Mapping[tuple[str, ...], int], title: str) -> str:
    """The SVG of samples by stack, the outermost frame first."""
    root = _Node()
    for stack, samples in stacks.items():
        node = root
        node.samples += samples
        for name in stack:
            node = node.callees.setdefault(name, _Node())
            node.samples += samples
    total = max(root.samples, 1)
    height = TITLE + root.depth() * ROW + MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH + 2 * MARGIN}" height="{height}" '
        f'viewBox="0 0 {WIDTH + 2 * MARGIN} {height}">',
        f"<style>{_STYLE}</style>",
        f'<text class="title" x="{MARGIN}" y="22">{escape(title)}</text>',
    ]
    _draw(parts, "all", root, 0, height - MARGIN - ROW, total)
    script = _SCRIPT % {"width": WIDTH, "margin": MARGIN, "character": CHARACTER}
    parts += [f"<script><![CDATA[{script}]]></script>", "</svg>"]
    return "\n".join(parts) + "\n"


def _draw(parts: list[str], name: str, node: _Node, before: int, y: int, total: int) -> None:
    """A frame whose samples come after so many others, and what lies on it."""
    width = node.samples / total * WIDTH
    if width < NARROWEST:
        return
    x = MARGIN + before / total * WIDTH
    room = int((width - 4) / CHARACTER)
    shown = "" if room < 3 else name if len(name) <= room else name[: room - 2] + ".."
    share = f"{name}: {node.samples} samples, {100 * node.samples / total:.1f} %"
    parts.append(
        f'<g class="f" data-x="{before}" data-w="{node.samples}" data-n="{escape(name)}"><title>{escape(share)}</title>'
        f'<rect x="{x:.2f}" y="{y}" width="{width:.2f}" height="{ROW}" fill="{_colour(name)}"/>'
        f'<text x="{x + 3:.2f}" y="{y + 13}">{escape(shown)}</text></g>'
    )
    for callee, below in sorted(node.callees.items()):
        _draw(parts, callee, below, before, y - ROW, total)
        before += below.samples


def _colour(name: str) -> str:
    """Warm, and always the same for one name; what is no function is grey."""
    if name.startswith("[") or name == "all":
        return "#b9bcc2"
    number = crc32(name.encode())
    return f"hsl({10 + number % 40} {70 + number // 40 % 20}% {58 + number // 800 % 12}%)"
