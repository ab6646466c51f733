"""Draws an entity's modes from the table that the stores run on, as SVG and as a Markdown table.

Where a mode stands on the picture is said here; what leads from where to where is only in the table.  A mode that
has no place here ends the build.
"""

import math
from collections.abc import Iterator
from html import escape
from itertools import groupby
from pathlib import Path

from trioqueue.protocol.lifecycle import TABLE, Event, Mode

WIDTH, HEIGHT = 900, 560
BOX_WIDTH, BOX_HEIGHT = 172, 54
LINE = 15

PLACES: dict[Mode, tuple[float, float]] = {
    Mode.IDLE: (110, 190),
    Mode.PARKED: (440, 190),
    Mode.ACTIVE: (780, 190),
    Mode.READY: (440, 420),
    Mode.PAUSED: (780, 420),
}
WORDS: dict[Mode, str] = {
    Mode.IDLE: "nothing queued, no owner",
    Mode.READY: "work, no owner",
    Mode.PAUSED: "held back, no owner",
    Mode.PARKED: "owner, no handler runs",
    Mode.ACTIVE: "owner and epoch, a worker",
}
# Where the loop of a mode that events leave as it is goes: an angle in degrees, 0 to the right, 90 downwards.
LOOPS: dict[Mode, float] = {Mode.PARKED: -90, Mode.ACTIVE: -90, Mode.READY: 90, Mode.PAUSED: 90}

STYLE = """
  .box { fill: #eef3fb; stroke: #35558c; stroke-width: 1.6 }
  .mode { font: 600 15px sans-serif; fill: #1d2f4f; text-anchor: middle }
  .words { font: 11px sans-serif; fill: #44526b; text-anchor: middle }
  .way { fill: none; stroke: #5b6b86; stroke-width: 1.4; marker-end: url(#arrow) }
  .event, .halo { font: 12px sans-serif; text-anchor: middle }
  .event { fill: #22304a }
  .halo { fill: #fff; stroke: #fff; stroke-width: 5px; stroke-linejoin: round }
"""

ARROW = """
  <marker id="arrow" viewBox="0 0 10 10" refX="5" refY="5" markerWidth="7" markerHeight="7" orient="auto">
    <path d="M0,0 L10,5 L0,10 z" fill="#5b6b86"/>
  </marker>
"""


def ways() -> dict[tuple[Mode, Mode], list[Event]]:
    """Collects, for each pair of modes, the events that lead from one to the other."""
    found: dict[tuple[Mode, Mode], list[Event]] = {}
    for mode, events in TABLE.items():
        for event, following in events.items():
            found.setdefault((mode, following), []).append(event)
    return found


def _box(mode: Mode) -> str:
    x, y = PLACES[mode]
    corner = f'x="{x - BOX_WIDTH / 2}" y="{y - BOX_HEIGHT / 2}"'
    return (
        f'<rect class="box" {corner} width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="9"/>'
        f'<text class="mode" x="{x}" y="{y - 3}">{escape(mode.value)}</text>'
        f'<text class="words" x="{x}" y="{y + 15}">{escape(WORDS[mode])}</text>'
    )


def _edge_of_box(mode: Mode, towards: tuple[float, float], gap: float) -> tuple[float, float]:
    """Finds where a line from the middle of a box leaves it."""
    x, y = PLACES[mode]
    dx, dy = towards[0] - x, towards[1] - y
    scale = min(
        (BOX_WIDTH / 2 + gap) / abs(dx) if dx else math.inf,
        (BOX_HEIGHT / 2 + gap) / abs(dy) if dy else math.inf,
    )
    return x + dx * scale, y + dy * scale


def _label(x: float, y: float, events: list[Event]) -> str:
    top = y - LINE * (len(events) - 1) / 2
    return "".join(
        f'<text class="{layer}" x="{x:.0f}" y="{top + LINE * i + 4:.0f}">{escape(event.value)}</text>'
        for layer in ("halo", "event")  # so that no line crosses a word
        for i, event in enumerate(events)
    )


def _way(source: Mode, target: Mode, events: list[Event], *, both: bool) -> str:
    (x1, y1), (x2, y2) = PLACES[source], PLACES[target]
    length = math.dist((x1, y1), (x2, y2))
    # Always to the same side of its direction, so that there and back are two lines.
    bend = 62
    normal = ((y2 - y1) / length, -(x2 - x1) / length)
    if not both and normal[1] < 0:  # a way that is alone goes round the outside
        normal = (-normal[0], -normal[1])
    control = ((x1 + x2) / 2 + normal[0] * bend, (y1 + y2) / 2 + normal[1] * bend)
    start, end = _edge_of_box(source, control, 1), _edge_of_box(target, control, 8)
    # The middle of the curve lies half way to its control point.
    middle = ((start[0] + end[0]) / 4 + control[0] / 2, (start[1] + end[1]) / 4 + control[1] / 2)
    push = 9 * len(events)
    label = _label(middle[0] + normal[0] * push, middle[1] + normal[1] * push, events)
    path = f"M{start[0]:.0f},{start[1]:.0f} Q{control[0]:.0f},{control[1]:.0f} {end[0]:.0f},{end[1]:.0f}"
    return f'<path class="way" d="{path}"/>{label}'


def _loop(mode: Mode, events: list[Event]) -> str:
    x, y = PLACES[mode]
    angle = math.radians(LOOPS[mode])
    out = (math.cos(angle), math.sin(angle))
    across = (-out[1], out[0])
    foot = (x + out[0] * BOX_HEIGHT / 2, y + out[1] * BOX_HEIGHT / 2)
    far = (foot[0] + out[0] * 60, foot[1] + out[1] * 60)
    path = (
        f"M{foot[0] + across[0] * 20:.0f},{foot[1] + across[1] * 20:.0f} "
        f"C{far[0] + across[0] * 46:.0f},{far[1] + across[1] * 46:.0f} "
        f"{far[0] - across[0] * 46:.0f},{far[1] - across[1] * 46:.0f} "
        f"{foot[0] - across[0] * 20 + out[0] * 7:.0f},{foot[1] - across[1] * 20 + out[1] * 7:.0f}"
    )
    reach = 62 + LINE * (len(events) - 1) / 2
    return f'<path class="way" d="{path}"/>{_label(foot[0] + out[0] * reach, foot[1] + out[1] * reach + 6, events)}'


def svg() -> str:
    """Draws the modes."""
    found = ways()
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        "<title>The modes of an entity</title>",
        f"<style>{STYLE}</style>",
        f"<defs>{ARROW}</defs>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff" rx="10"/>',
    ]
    for (source, target), events in found.items():
        if source is target:
            parts.append(_loop(source, events))
        else:
            parts.append(_way(source, target, events, both=(target, source) in found))
    parts += [_box(mode) for mode in TABLE]
    return "\n".join([*parts, "</svg>", ""])


def _rows() -> Iterator[str]:
    yield "| from | event | to |"
    yield "|---|---|---|"
    for mode, events in TABLE.items():
        for following, same in groupby(
            sorted(events, key=lambda event: events[event]), key=lambda event: events[event]
        ):
            yield f"| {mode.value} | {', '.join(event.value for event in same)} | {following.value} |"


def write(folder: Path) -> None:
    """Writes `lifecycle.svg` and `lifecycle.md` into a folder."""
    assert set(PLACES) == set(WORDS) == set(TABLE), "a mode has no place in the picture"
    folder.mkdir(exist_ok=True)
    (folder / "lifecycle.svg").write_text(svg())
    (folder / "lifecycle.md").write_text("\n".join(_rows()) + "\n")


if __name__ == "__main__":
    print(svg())
