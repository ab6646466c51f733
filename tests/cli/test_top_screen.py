"""The picture of `trioqueue top`, as text: that it fits, where things stand, and what it says."""

import pytest
from cli.fleets import handled, lane, lanes, pod, statistics
from rich.cells import cell_len
from rich.text import Text

from trioqueue import CommandDead, CommandFailed, EventsMissed, PodLostLease
from trioqueue.cli.cells import fit, rate, whole
from trioqueue.cli.live import Live, Snapshot
from trioqueue.cli.top_screen import LISTS, View, picture

SIZES = [(80, 24), (200, 50), (170, 24), (100, 30), (80, 60), (70, 18)]

LONG = "550e8400-e29b-41d4-a716-446655440000"


def snapshot(*, many: int = 40, pods: int = 2) -> Snapshot:
    """Makes a fleet in trouble, with `many` entities."""
    live = Live(0.0, every=1.0)
    for number in range(many):
        for _ in range(many - number):
            live.take(handled(f"busy-{number}"), 1.0)
    live.take(CommandFailed("red", "lamp", "failing", "switch", "c-1", 3, 4.0, "OSError"), 1.0)
    live.take(CommandDead("red", "lamp", LONG, "switch", "c-1", 10, "OSError"), 1.0)
    live.take(PodLostLease("pod-1", "no heartbeat was confirmed in time"), 1.5)
    live.take(EventsMissed("", 7), 1.0)
    live.look(
        statistics(pods=pods, owned=1234, with_work=many, ready=1, held=1, dead=12, put_off=3),
        [pod(f"pod-{number}") for number in range(pods)],
        lanes(
            lane("failing", 1_234_567, 90.0),
            lane("paused", 500, 7200.0, "paused", None),
            lane(LONG, 100, 300.0, "ready", None),
            *(lane(f"lane-{number}", number + 1, number / 10) for number in range(many)),
            whole=False,
        ),
        2.0,
    )
    return live.snapshot(2.0, 1_700_000_000.0, most=60)


def lines_of(text: Text) -> list[str]:
    return text.plain.split("\n")


def styles_of(text: Text, word: str) -> set[str]:
    at = text.plain.index(f"\n{word}") + 1
    return {str(span.style) for span in text.spans if span.start <= at < span.end and span.style}


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("chosen", LISTS)
def test_it_fills_the_terminal_and_no_more(chosen: str, width: int, height: int) -> None:
    lines = lines_of(picture(snapshot(), View("redis://there", chosen), width, height))  # type: ignore[arg-type]

    assert len(lines) == height
    assert max(map(cell_len, lines)) <= width
    assert lines[-1].startswith("q quit")


@pytest.mark.parametrize("size", [(1, 1), (20, 5), (69, 17), (3, 60), (400, 3), (180, 1)])
def test_a_tiny_terminal_gets_a_part(size: tuple[int, int]) -> None:
    assert len(lines_of(picture(snapshot(), View(), *size))) <= size[1]


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_an_empty_fleet_has_its_picture_too(width: int, height: int) -> None:
    live = Live(0.0, every=1.0)
    for seen in (live.snapshot(0.0, 0.0), snapshot(many=0, pods=0)):
        text = picture(seen, View(), width, height).plain
        assert "none: nothing is handled until one serves" in text
        assert "nothing is handled\n" in text or "nothing is handled " in text


def test_small_it_shows_all_parts() -> None:
    text = picture(snapshot(), View("redis://there tq"), 80, 24).plain

    for said in (
        "trioqueue redis://there tq",
        "1,234",
        "820 handled, 1 failed, 1 dead",
        "up to 7 events never came",
        ">410 ",
        "lamp/busy-0",
        "deepest of 43 read",
        "lamp/failing",
        "1.2 M",
        "oldest of 43 read",
        "2 h",
        "pod-0",
        "lease lost pod-1 no heartbeat was confirmed in time",
        "dead lamp/550e8400",
    ):
        assert said in text, said


def test_large_it_shows_commands_and_how_entities_fail() -> None:
    text = picture(snapshot(pods=12), View(), 200, 50).plain

    assert "OSError in 3.0 s" in text
    assert "switch" in text
    assert f"lamp/{LONG[:20]}" in text
    assert "pod-11" in text
    assert text.count("lane-") >= 14


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_chosen_list_has_most_room(width: int, height: int) -> None:
    for chosen, entity in (("busiest", "lamp/busy-"), ("deepest", "lamp/lane-")):
        shown = {
            name: picture(snapshot(), View(chosen=name), width, height).plain.count(entity) for name in LISTS
        }
        assert shown[chosen] > max(count for name, count in shown.items() if name != chosen) or (  # type: ignore[index]
            chosen == "deepest"
        )


def test_choosing_goes_round() -> None:
    view = View()

    assert [view.chosen, view.moved(1).chosen, view.moved(2).chosen, view.moved(3).chosen] == [
        *LISTS,
        LISTS[0],
    ]
    assert view.moved(-1).chosen == LISTS[-1]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 50)])
def test_columns_stay_where_they_are(width: int, height: int) -> None:
    lines = lines_of(picture(snapshot(), View(), width, height))
    (heading,) = [line for line in lines if line.startswith("busiest")]
    ends = heading.index("pending") + len("pending")
    rows = [line for line in lines if line.startswith("lamp/")]

    assert len(rows) > 8
    for row in rows:
        assert row[ends - 1] in "0123456789?M", row
        assert row[ends] == " ", row
        assert row[heading.index("state") - 1] == " ", row
        assert row[heading.index("state")] != " " or "?" in row, row


def test_colours_mark_what_fails_and_what_is_paused() -> None:
    text = picture(snapshot(), View(chosen="oldest"), 200, 50)

    assert "red" in styles_of(text, "lamp/failing")
    assert "yellow" in styles_of(text, "lamp/paused")
    assert "cyan" in styles_of(text, "lamp/550e8400")


def test_pods_that_have_no_room_are_counted() -> None:
    text = picture(snapshot(pods=9), View(), 80, 24).plain

    assert "and 7 more" in text


def test_it_says_that_the_store_does_not_answer_or_that_it_is_frozen() -> None:
    live = Live(0.0, every=1.0)
    live.look(statistics(), [], lanes(), 1.0)
    live.snapshot(1.0, 1_700_000_000.0)
    lines = lines_of(picture(live.snapshot(13.0, 1_700_000_012.0), View("redis://there"), 80, 24))
    assert "no answer for 12 s: this is of " in lines[0]

    lines = lines_of(picture(live.snapshot(1.0, 1_700_000_000.0), View("redis://there", frozen=True), 80, 24))
    assert "frozen at " in lines[0]
    assert "p go on" in lines[-1]


def test_nothing_in_it_is_obeyed_by_the_terminal() -> None:
    live = Live(0.0, every=1.0)
    live.take(PodLostLease("red", "\x1b[2J\nboo\r\a"), 1.0)
    live.take(CommandFailed("red", "lamp", "a\u202eb", "sw\x1bitch", "c", 1, 1.0, "OS\x9bError"), 1.0)
    live.look(statistics(), [pod("red")], lanes(lane("a\u202eb")), 1.0)
    text = picture(live.snapshot(1.0, 0.0), View("red\x1b[0mis"), 200, 50).plain

    assert text.replace("\n", "").isprintable()
    assert "boo" in text


# ------------------------------------------------------------------------ cells
def test_what_is_too_long_loses_its_middle_or_its_end() -> None:
    assert fit("lamp/hall", 12) == "lamp/hall   "
    assert fit("12", 5, right=True) == "   12"
    assert fit("lamp/hall", 6) == "lamp/…"
    assert fit(f"lamp/{LONG}", 16, middle=True) == "lamp/550e…440000"
    assert fit("abc", 1) == "…"
    assert fit("abc", 0) == ""


@pytest.mark.parametrize("width", range(12))
def test_wide_characters_are_counted_as_they_are_shown(width: int) -> None:
    for middle in (False, True):
        assert cell_len(fit("口座/四十二番", width, middle=middle)) == width


def test_numbers_are_short() -> None:
    assert [whole(0), whole(99_999), whole(999_999), whole(1_234_567)] == ["0", "99,999", "999 k", "1.2 M"]
    assert [rate(0.0), rate(0.25), rate(99.94), rate(1234.5)] == ["0", "0.2", "99.9", "1,234"]
    assert rate(12_345_678.0) == "12.3 M"
    assert whole(5_000_000_000) == "5.0 G"
