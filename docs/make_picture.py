"""Draws the picture at the head of README.md: `python docs/make_picture.py` writes `docs/picture.svg`.

It moves: commands of three accounts arrive, wait in line, and are handled one by one in each line and side by side
between them.  When they do what is worked out from arrivals and durations, so the picture keeps the rule that it shows.
Whoever wants no motion, or has a viewer that knows none, sees one moment of it.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

WIDTH, HEIGHT = 880, 296
PERIOD = 10.0
"""Seconds after which it begins again."""
MOMENT = 4.0
"""What is seen first, and where nothing moves: seconds from the beginning."""
MOVE = 0.35
"""Seconds for a step from one place to the next."""

LANES = (76, 146, 216)
"""The middle of each account's line."""
CHIP = (74, 26)
SENDER, TAIL, STEP, WORKER = 66, 330, 84, 640
"""Where a command begins, the last place in a mailbox and the distance to the next one, and where it is handled."""
PLACES = 3
"""Places in a mailbox."""


class Sent(NamedTuple):
    """A command: what is written on it, when it is sent, and how long its handler takes."""

    text: str
    at: float
    takes: float


ACCOUNTS: tuple[tuple[str, Sequence[Sent]], ...] = (
    (
        "account/ann",
        (Sent("+100", 0.2, 2.2), Sent("-80", 0.8, 1.8), Sent("+5", 1.5, 1.6), Sent("-20", 3.4, 1.8)),
    ),
    ("account/bob", (Sent("+5", 0.5, 1.2), Sent("+20", 2.2, 2.2), Sent("-3", 2.7, 1.4))),
    ("account/cleo", (Sent("+7", 1.1, 1.6), Sent("-2", 1.8, 2.4), Sent("+40", 6.0, 1.6))),
)
PODS = (("pod A", LANES[0], LANES[1]), ("pod B", LANES[2], LANES[2]))

TOLD = (
    "Commands wait in the mailbox of their account, in Redis. Each account has one worker, on one of the pods, "
    "which handles them one by one; accounts are served side by side."
)
BELOW = "one line: in order, one at a time, each committed as a whole  ·  different lines: side by side  ·  no locks"
ARROW = (
    '<marker id="to" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
    '<path class="tip" d="M0 0 L10 5 L0 10 z"/></marker>'
)

STYLE = """
  .card { fill: #ffffff; stroke: #d5dbe6 }
  .box { fill: #f1f5fb; stroke: #9fb0cc }
  .pod { fill: none; stroke: #9fb0cc; stroke-dasharray: 4 4 }
  .worker { fill: #e4f3ea; stroke: #4d9a6c }
  .chip rect { fill: #35558c }
  .chip text { fill: #ffffff; font: 600 13px sans-serif; text-anchor: middle }
  .head { font: 600 14px sans-serif; fill: #26334d; text-anchor: middle }
  .name { font: 13px ui-monospace, monospace; fill: #4b5a75 }
  .note { font: 12.5px sans-serif; fill: #5a6985; text-anchor: middle }
  .way { stroke: #9fb0cc; fill: none; marker-end: url(#to) }
  .tip { fill: #9fb0cc }
  @media (prefers-color-scheme: dark) {
    .card { fill: #12161f; stroke: #2c3547 }
    .box { fill: #1a2130; stroke: #47587a }
    .pod { stroke: #47587a }
    .worker { fill: #16291f; stroke: #4d9a6c }
    .chip rect { fill: #6f94d6 }
    .chip text { fill: #0d1420 }
    .head { fill: #d9e1f0 } .name { fill: #a9b6cf } .note { fill: #93a1bb }
    .way { stroke: #47587a } .tip { fill: #47587a }
  }
  @media (prefers-reduced-motion: reduce) { .chip { animation: none !important } }
"""


class Stay(NamedTuple):
    """From when on a command is where, and whether it can be seen."""

    since: float
    x: float
    seen: bool


def stays(sent: Sequence[Sent]) -> list[list[Stay]]:
    """Works out where each command of an account is, from the rule: in order, and one at a time."""
    starts: list[float] = []
    free = 0.0
    for one in sent:
        starts.append(max(one.at + 2 * MOVE, free))
        free = starts[-1] + one.takes + MOVE
    found: list[list[Stay]] = []
    for number, one in enumerate(sent):
        before = [start for start in starts[:number] if start > one.at]  # who is still in line when it comes
        found.append(
            [
                Stay(0.0, SENDER, seen=False),
                Stay(one.at, place(len(before)), seen=True),
                *(Stay(start, place(len(before) - 1 - gone), seen=True) for gone, start in enumerate(before)),
                Stay(starts[number], WORKER, seen=True),
                Stay(starts[number] + one.takes, WORKER, seen=False),
            ]
        )
    return found


def place(ahead: int) -> float:
    """Gives the place in a mailbox of a command that has so many others ahead of it."""
    return TAIL + (PLACES - 1 - ahead) * STEP


def frames(path: Sequence[Stay]) -> Iterator[str]:
    """Writes the key frames of a command."""
    yield f"0% {{ transform: translateX({SENDER}px); opacity: 0 }}"
    for last, stay in pairwise(path):
        yield f"{share(stay.since)} {{ transform: translateX({last.x:g}px); opacity: {int(last.seen)} }}"
        yield f"{share(stay.since + MOVE)} {{ transform: translateX({stay.x:g}px); opacity: {int(stay.seen)} }}"
    yield f"100% {{ transform: translateX({path[-1].x:g}px); opacity: 0 }}"


def share(seconds: float) -> str:
    """Writes a moment as CSS has it."""
    return f"{100 * seconds / PERIOD:.2f}%"


def at_rest(path: Sequence[Stay]) -> Stay:
    """Tells where a command is at the moment that is shown without motion."""
    return [stay for stay in path if stay.since <= MOMENT][-1]


def draw() -> str:
    """Draws it."""
    rules, chips = list[str](), list[str]()
    for lane, (_, sent) in enumerate(ACCOUNTS):
        for number, (one, path) in enumerate(zip(sent, stays(sent), strict=True)):
            name, rest = f"c{lane}{number}", at_rest(path)
            rules.append(f"@keyframes {name} {{ {' '.join(frames(path))} }}")
            chips.append(
                f'<g class="chip" style="animation: {name} {PERIOD:g}s -{MOMENT:g}s infinite; '
                f'transform: translateX({rest.x:g}px); opacity: {int(rest.seen)}">'
                f'<rect x="0" y="{LANES[lane] - CHIP[1] / 2:g}" width="{CHIP[0]}" height="{CHIP[1]}" rx="5"/>'
                f'<text x="{CHIP[0] / 2:g}" y="{LANES[lane] + 4.5:g}">{one.text.replace("-", "−")}</text></g>'
            )
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{TOLD}">',
        f"<style>{STYLE}  {' '.join(rules)}\n</style>",
        f"<defs>{ARROW}</defs>",
        f'<rect class="card" x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="10"/>',
        '<text class="head" x="103" y="32">senders</text>',
        '<text class="head" x="451" y="32">mailboxes, in Redis</text>',
        '<text class="head" x="730" y="32">workers, on your pods</text>',
        f'<rect class="box" x="30" y="50" width="146" height="{LANES[-1] - LANES[0] + 52}" rx="8"/>',
        f'<text class="note" x="103" y="{LANES[1] - 6}">any process:</text>',
        f'<text class="note" x="103" y="{LANES[1] + 12}">send, call</text>',
        *(
            f'<rect class="pod" x="616" y="{first - 27}" width="234" height="{last - first + 54}" rx="8"/>'
            f'<text class="name" x="798" y="{(first + last) / 2 + 4.5:g}">{pod}</text>'
            for pod, first, last in PODS
        ),
    ]
    for (account, _), middle in zip(ACCOUNTS, LANES, strict=True):
        lines += [
            f'<path class="way" d="M180 {middle} H204"/>',
            f'<text class="name" x="216" y="{middle + 4.5:g}">{account}</text>',
            f'<rect class="box" x="322" y="{middle - 20}" width="{PLACES * STEP + 6}" height="40" rx="6"/>',
            f'<path class="way" d="M584 {middle} H612"/>',
            f'<rect class="worker" x="632" y="{middle - 20}" width="{CHIP[0] + 16}" height="40" rx="6"/>',
            f'<text class="name" x="730" y="{middle + 4.5:g}">✓</text>',
        ]
    lines += [
        *chips,
        f'<text class="note" x="{WIDTH / 2:g}" y="{HEIGHT - 17}">{BELOW}</text>',
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    Path(__file__).with_name("picture.svg").write_text(draw())
