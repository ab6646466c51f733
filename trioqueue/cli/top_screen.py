"""The picture of `trioqueue top`: a snapshot, as text of exactly the size of the terminal.

    80 columns               170 and more
    ┌──────────────┐         ┌──────────────────────────┐
    │ the fleet    │         │ the fleet                │
    │ three lists  │         │ three lists   │ pods     │
    │ pods         │         │               │ trouble  │
    │ trouble      │         │ keys                     │
    │ keys         │         └──────────────────────────┘
    └──────────────┘

How many rows a part has follows from the size alone, and every column has its width, so nothing moves when numbers
change.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from textwrap import wrap
from typing import Literal, get_args

import attrs
from rich.text import Text

from trioqueue.cli.cells import fit, flat, rate, whole
from trioqueue.cli.live import LATE, EntityRow, PodRow, Snapshot, Trouble
from trioqueue.cli.tables import span

List = Literal["busiest", "deepest", "oldest"]

LISTS: tuple[List, ...] = get_args(List)

WIDE = 170
"""Columns from which on pods and trouble stand beside the lists."""

NARROWEST, SHORTEST = 70, 18
"""Columns and lines below which the picture is cut."""

NUMBERS, STATE = (8, 9, 8), 10
"""Columns of a list: a rate, commands, seconds; and the state, two further on."""

FOLDS = 3
"""Lines of one trouble at most, on a large terminal."""

FEW = 2
"""Rows of a list that was not chosen, on a small terminal."""

STYLES = {
    "failing": "red",
    "paused": "yellow",
    "ready": "cyan",
    "silent": "bold red",
    "leaving": "yellow",
    "dead": "red",
    "lease lost": "bold red",
    "pod gone": "bold red",
    "warning": "yellow",
}


@attrs.frozen
class View:
    """How somebody wants to see it.

    Attributes:
        store: Where it is from.
        chosen: The list that has most room.
        frozen: Whether it stands still.
        keys: Whether keys are read, and named.
    """

    store: str = ""
    chosen: List = "busiest"
    frozen: bool = False
    keys: bool = True

    def moved(self, by: int) -> "View":
        """Chooses another list, going round."""
        return attrs.evolve(self, chosen=LISTS[(LISTS.index(self.chosen) + by) % len(LISTS)])


def picture(snapshot: Snapshot, view: View, width: int, height: int) -> Text:
    """Draws a snapshot: `height` lines, none wider than `width`; what a tiny terminal has no room for is cut."""
    cut, width, height = height, max(width, NARROWEST), max(height, SHORTEST)
    lines = _head(snapshot, view, width)
    foot = [_keys(view)] if view.keys else []
    room = height - len(lines) - len(foot)
    if width >= WIDE:
        left = width * 5 // 8
        lines += _beside(
            _lists(snapshot, view, left, room), _side(snapshot, width - left - 2, room), left, room
        )
    else:
        lines += _below(snapshot, view, width, room)
    lines = [*_filled(lines, height - len(foot)), *foot]
    for line in lines:
        line.truncate(width)
    return Text("\n", no_wrap=True, overflow="crop").join(lines[:cut])


# ------------------------------------------------------------------------------------ where things stand
def _below(snapshot: Snapshot, view: View, width: int, room: int) -> list[Text]:
    """Stands pods and trouble below the lists."""
    pods = min(max(len(snapshot.pods), 1), max(3, room // 5))
    troubles = max(2, room // 6) if room > 12 else 1
    gap = 1 if room > 28 else 0
    lists = _lists(snapshot, view, width, room - (1 + pods) - troubles - 2 * gap)
    return [
        *lists,
        *_blank(gap),
        *_pods(snapshot.pods, width, pods),
        *_blank(gap),
        *_troubles(snapshot.trouble, width, troubles),
    ]


def _side(snapshot: Snapshot, width: int, room: int) -> list[Text]:
    """Stands pods above trouble."""
    pods = min(max(len(snapshot.pods), 1), room // 2)
    troubles = room - (1 + pods) - 2
    return [
        *_pods(snapshot.pods, width, pods),
        Text(),
        Text("trouble", "bold"),
        *_troubles(snapshot.trouble, width, troubles, lines_each=FOLDS),
    ]


def _lists(snapshot: Snapshot, view: View, width: int, room: int) -> list[Text]:
    """Stands the lists above one another, the chosen one with as much room as both others or more."""
    gap = 1 if room > 28 else 0
    rows = max(room - len(LISTS) - gap * (len(LISTS) - 1), len(LISTS))
    others = max(min(FEW, rows // len(LISTS)), rows // 4)
    lines = list[Text]()
    for name in LISTS:
        lines += _blank(gap) if lines else []
        chosen = name == view.chosen
        lines += _list(snapshot, name, width, rows - 2 * others if chosen else others, chosen=chosen)
    return lines


def _beside(left: Sequence[Text], right: Sequence[Text], width: int, room: int) -> list[Text]:
    lines = list[Text]()
    for one, other in zip(_filled(left, room), _filled(right, room), strict=True):
        line = one.copy()
        line.truncate(width, pad=True)
        lines.append(Text.assemble(line, "  ", other))
    return lines


def _filled(lines: Sequence[Text], height: int) -> list[Text]:
    return [*lines[:height], *_blank(height - len(lines))]


def _blank(count: int) -> list[Text]:
    return [Text() for _ in range(count)]


# ------------------------------------------------------------------------------------ the parts
def _head(snapshot: Snapshot, view: View, width: int) -> list[Text]:
    """Says how the whole fleet is."""
    clock = _clock(snapshot.at)
    if snapshot.silent_for is not None:
        state = (f"no answer for {span(snapshot.silent_for)}: this is of {clock}", "bold white on red")
    elif view.frozen:
        state = (f"frozen at {clock}", "reverse")
    else:
        state = (clock, "")
    title = Text.assemble(
        ("trioqueue", "bold"), f" {fit(view.store, max(width - len(state[0]) - 11, 0))} ", state
    )
    fleet = snapshot.fleet
    above, doubted = (">", "yellow") if snapshot.missed_per_second else ("", "")
    figures: list[tuple[str, int, str, str]] = [
        ("handled/s", 9, above + rate(snapshot.handled_per_second), doubted),
        (
            "failed/s",
            9,
            above + rate(snapshot.failed_per_second),
            "red" if snapshot.failed_per_second else doubted,
        ),
        ("failing", 8, whole(snapshot.failing), "red" * bool(snapshot.failing)),
    ]
    for name, size, style in (
        ("pods", 5, ""),
        ("owned", 8, ""),
        ("with work", 10, ""),
        ("ready", 8, "cyan"),
        ("held", 7, "yellow"),
        ("dead", 7, "red"),
        ("put off", 8, ""),
    ):
        count = None if fleet is None else fleet[name.replace(" ", "_")]
        figures.append((name, size, "" if count is None else whole(count), style if count else ""))
    names, numbers = Text(), Text()
    for name, size, number, style in figures:
        names.append(fit(name, size, right=True), "dim")
        numbers.append(fit(number, size, right=True), style or "bold")
    since = (
        f"In {span(snapshot.watched_for)}: {snapshot.handled:,} handled, "
        f"{snapshot.failed:,} failed, {snapshot.dead:,} dead"
    )
    counted = Text(since)
    if snapshot.missed:
        counted.append(f"; up to {snapshot.missed:,} events never came", "yellow")
    return [title, names, numbers, counted]


def _keys(view: View) -> Text:
    line = Text()
    line.append("q quit  p " + ("go on " if view.frozen else "freeze") + "  tab or arrows: ", "dim")
    for name in LISTS:
        line.append(f" {name} ", "reverse" if name == view.chosen else "dim")
    return line


@attrs.frozen
class _Columns:
    """How wide the columns of a list are that have not the same width on each terminal; 0: there is none."""

    entity: int
    pod: int
    command: int
    failure: int

    @classmethod
    def of(cls, width: int) -> "_Columns":
        """Says so for a list that is so wide."""
        pod, command, failure = (14, 15, 20) if width >= 118 else (14, 16, 0) if width >= 100 else (13, 0, 0)
        return cls(width - sum(NUMBERS) - 2 - STATE - pod - command - failure, pod, command, failure)


def _list(snapshot: Snapshot, name: List, width: int, room: int, *, chosen: bool) -> list[Text]:
    """Draws one list under its headings."""
    columns = _Columns.of(width)
    read = f" of {snapshot.read:,} read" if name != "busiest" and not snapshot.whole else ""
    numbers = "".join(
        fit(one, size, right=True) for one, size in zip(("per s", "pending", "waited"), NUMBERS, strict=True)
    )
    others = fit("state", STATE) + fit("pod", columns.pod) + fit("command", columns.command)
    lines = [
        Text.assemble(
            (fit(name + read, columns.entity), "bold reverse" if chosen else "bold"),
            (f"{numbers}  {others}", "dim"),
        )
    ]
    rows: tuple[EntityRow, ...] = getattr(snapshot, name)
    lines += [_entity(row, columns) for row in rows[:room]]
    if not rows:
        lines.append(Text("  nothing is handled" if name == "busiest" else "  nothing waits", "dim"))
    return _filled(lines, room + 1)


def _entity(row: EntityRow, columns: _Columns) -> Text:
    per_second, pending, waited = NUMBERS
    state = _state(row)
    style = STYLES.get(state.split(" ")[0], "")
    line = Text()
    line.append(fit(row.entity, columns.entity, middle=True), style)
    line.append(fit(rate(row.per_second), per_second, right=True), "" if row.per_second else "dim")
    line.append(fit("?" if row.pending is None else whole(row.pending), pending, right=True))
    line.append(fit("" if row.waited is None else span(row.waited), waited, right=True))
    line.append("  " + fit(state, STATE), style)
    line.append(fit(row.pod or "", columns.pod - 1) + " ")
    if columns.command:
        line.append(fit(row.command, columns.command - 1) + " ")
    if columns.failure and row.failing:
        again = f" in {span(row.failing.again_in)}" if row.failing.again_in else ""
        line.append(fit(row.failing.error + again, columns.failure), style)
    return line


def _state(row: EntityRow) -> str:
    if row.mode == "paused":
        return "paused"
    if row.failing is not None:
        return f"failing {row.failing.attempt}"
    return row.mode or ""


def _pods(pods: Sequence[PodRow], width: int, room: int) -> list[Text]:
    """Draws pods under their headings; of too many, the last row says how many there are more."""
    name = 16 if width < 100 else 24
    headings = (
        " "
        + fit("state", 8)
        + "".join(fit(one, 7, right=True) for one in ("per s", "owned", "work", "heard"))
    )
    lines = [Text.assemble((fit("pods", name), "bold"), (headings + "  types", "dim"))]
    shown = pods if len(pods) <= room else pods[: room - 1]
    for pod in shown:
        style = STYLES.get(pod.state, "")
        line = Text()
        line.append(fit(pod.name, name, middle=True) + " " + fit(pod.state, 8), style)
        for number in (rate(pod.per_second), whole(pod.owned), whole(pod.with_work)):
            line.append(fit(number, 7, right=True))
        late = "yellow" if pod.heard is not None and pod.heard >= LATE else ""
        line.append(fit("" if pod.heard is None else span(pod.heard), 7, right=True), style or late)
        line.append("  " + fit(" ".join(pod.types), max(width - name - 39, 0)))
        lines.append(line)
    if len(pods) > len(shown):
        lines.append(Text(f"and {len(pods) - len(shown)} more", "dim"))
    if not pods:
        lines.append(Text("  none: nothing is handled until one serves", "red"))
    return _filled(lines, room + 1)


def _troubles(troubles: Iterable[Trouble], width: int, room: int, *, lines_each: int = 1) -> list[Text]:
    """Draws the newest trouble."""
    lines = list[Text]()
    for one in troubles:
        clock, times = f"{_clock(one.at)} ", f"{one.times:,} times " if one.times > 1 else ""
        begun = " " * len(clock + one.what + " ")
        first, *others = wrap(
            flat(f"{times}{one.who} {one.text}"),
            width,
            initial_indent=begun,
            subsequent_indent=" " * len(clock),
            max_lines=lines_each,
            placeholder="…",
        ) or [begun]
        said = (f"{one.what} ", STYLES.get(one.what, ""))
        lines.append(Text.assemble((clock, "dim"), said, first[len(begun) :]))
        lines += map(Text, others)
    if not lines:
        lines.append(Text("no trouble since this began", "dim"))
    return _filled(lines, room)


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().strftime("%H:%M:%S")
