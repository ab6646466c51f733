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

WIDTH, HEIGHT = 1080, 780
BOX_WIDTH, BOX_HEIGHT = 186, 56
LINE = 16

# Nearly every mode leads to every other one.  No two ways cross, as active lies in the triangle of parked, ready and
# paused, and parked in that of idle, ready and paused.
PLACES: dict[Mode, tuple[float, float]] = {
    Mode.IDLE: (540, 40),
    Mode.PARKED: (540, 215),
    Mode.ACTIVE: (540, 440),
    Mode.READY: (110, 650),
    Mode.PAUSED: (970, 650),
}
WORDS: dict[Mode, str] = {
    Mode.IDLE: "nothing queued, no owner",
    Mode.READY: "work, no owner",
    Mode.PAUSED: "held back, no owner",
    Mode.PARKED: "owner, no handler runs",
    Mode.ACTIVE: "owner and epoch, a worker",
}
# Where the loop of a mode that events leave as it is goes: an angle in degrees, 0 to the right, 90 downwards.
LOOPS: dict[Mode, float] = {Mode.PARKED: 0, Mode.ACTIVE: 90, Mode.READY: 90, Mode.PAUSED: 90}
# How far a way bends to the left of its direction, where not by `BEND`; below 0: to the right.
BENDS: dict[tuple[Mode, Mode], float] = {
    (Mode.READY, Mode.IDLE): 350,
    (Mode.IDLE, Mode.READY): -230,
    (Mode.READY, Mode.PARKED): 180,
    (Mode.PARKED, Mode.READY): -65,
    (Mode.PARKED, Mode.PAUSED): 180,
    (Mode.PAUSED, Mode.PARKED): -65,
    (Mode.PAUSED, Mode.IDLE): -230,
    (Mode.IDLE, Mode.PAUSED): 350,
}
BEND = 54
ASIDE = 0.12
"""How far aside of the middle of their boxes ways lead, for each step that they bend: so arrows do not meet."""

LOOP = 42
"""How far a loop reaches out."""

STYLE = """
  .box { fill: #eef3fb; stroke: #35558c; stroke-width: 1.6 }
  .mode { font: 600 17px sans-serif; fill: #1d2f4f; text-anchor: middle }
  .words { font: 13px sans-serif; fill: #44526b; text-anchor: middle }
  .way { fill: none; stroke: #5b6b86; stroke-width: 1.4; marker-end: url(#arrow) }
  .event { font: 14px sans-serif; fill: #22304a }
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


def _edge_of_box(mode: Mode, towards: tuple[float, float], aside: float, gap: float) -> tuple[float, float]:
    """Finds where a line leaves a box that begins so far to the right of its middle."""
    (x, y), width, height = PLACES[mode], BOX_WIDTH / 2, BOX_HEIGHT / 2
    x0 = x + max(-width / 2, min(width / 2, aside))
    dx, dy = towards[0] - x0, towards[1] - y
    scale = min(
        (x + math.copysign(width + gap, dx) - x0) / dx if dx else math.inf,
        (height + gap) / abs(dy) if dy else math.inf,
    )
    return x0 + dx * scale, y + dy * scale


def _label(x: float, y: float, side: tuple[float, float], events: list[Event]) -> str:
    """Writes events beside a point of a line, on the side that the vector points to."""
    anchor = "middle" if abs(side[0]) < 0.3 else "start" if side[0] > 0 else "end"
    x, y = x + side[0] * 8, y + side[1] * (8 + LINE * len(events) / 2)
    top = y - LINE * (len(events) - 1) / 2
    return "".join(
        f'<text class="event" text-anchor="{anchor}" x="{x:.0f}" y="{top + LINE * i + 5:.0f}">'
        f"{escape(event.value)}</text>"
        for i, event in enumerate(events)
    )


def _way(source: Mode, target: Mode, events: list[Event], *, both: bool) -> str:
    (x1, y1), (x2, y2) = PLACES[source], PLACES[target]
    length = math.dist((x1, y1), (x2, y2))
    left = ((y2 - y1) / length, -(x2 - x1) / length)
    bend = BENDS.get((source, target), BEND if both else 0)
    control = ((x1 + x2) / 2 + left[0] * bend, (y1 + y2) / 2 + left[1] * bend)
    aside = left[0] * bend * ASIDE
    start, end = _edge_of_box(source, control, aside, 1), _edge_of_box(target, control, aside, 8)
    # The middle of the curve lies half way to its control point.
    middle = ((start[0] + end[0]) / 4 + control[0] / 2, (start[1] + end[1]) / 4 + control[1] / 2)
    # Outside of the bend, and of a straight line below it.
    turn = bend or (1 if left[1] > 0 else -1)
    side = (math.copysign(left[0], left[0] * turn), math.copysign(left[1], left[1] * turn))
    path = f"M{start[0]:.0f},{start[1]:.0f} Q{control[0]:.0f},{control[1]:.0f} {end[0]:.0f},{end[1]:.0f}"
    return f'<path class="way" d="{path}"/>{_label(*middle, side, events)}'


def _loop(mode: Mode, events: list[Event]) -> str:
    x, y = PLACES[mode]
    angle = math.radians(LOOPS[mode])
    out = (math.cos(angle), math.sin(angle))
    across = (-out[1], out[0])
    half = BOX_WIDTH / 2 if abs(out[0]) > abs(out[1]) else BOX_HEIGHT / 2

    def at(along: float, aside: float) -> str:
        away = half + along
        return f"{x + out[0] * away + across[0] * aside:.0f},{y + out[1] * away + across[1] * aside:.0f}"

    # A curve of this kind reaches three quarters of the way to its control points.
    path = f"M{at(0, 16)} C{at(LOOP / 0.75, 44)} {at(LOOP / 0.75, -44)} {at(7, -16)}"
    top = (x + out[0] * (half + LOOP), y + out[1] * (half + LOOP))
    return f'<path class="way" d="{path}"/>{_label(*top, out, events)}'


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
