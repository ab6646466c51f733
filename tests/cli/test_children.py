"""The processes of several pods, as their parent keeps them."""

from pathlib import Path

import pytest
import trio
from cli.command_line import PATIENCE
from cli.served import until

from trioqueue.cli import children
from trioqueue.cli.children import Child

SERVES = "#!/bin/sh\necho ready >&0\n"


def write(program: Path, source: str) -> None:
    """Has a program be there, whole from the first moment on."""
    new = program.with_suffix(".new")
    new.write_text(source)
    new.chmod(0o755)
    new.rename(program)


async def test_a_pod_that_cannot_be_started_anew_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The machine may have no room for it at that moment, and the other pods go on."""
    monkeypatch.setattr(children, "PAUSES", (0.01, 0.05))
    program = tmp_path / "pod"
    write(program, f'{SERVES}rm "$0"\nexit 3\n')
    child = Child("shop-1", [str(program)], {})
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: child.keep(until_done=False))
            await until(lambda: "can't be started: " in caplog.text)
            write(program, f"{SERVES}touch {tmp_path}/again\nexec sleep 600\n")
            await until((tmp_path / "again").exists)
            child.end()
    assert not child.failed()


async def test_what_a_pod_said_before_it_died_is_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ended before its parent came to listen."""

    async def come_too_late(_child: Child, _stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(Child, "_listen", come_too_late)
    write(tmp_path / "pod", f"{SERVES}exit 0\n")
    child = Child("shop-1", [str(tmp_path / "pod")], {})
    with trio.fail_after(PATIENCE):
        await child.keep(until_done=True)
    assert child.served


async def test_one_that_could_never_be_started_ends_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    drains = f"trap 'touch {tmp_path}/drained; exit 0' TERM\n"
    write(tmp_path / "pod", f"#!/bin/sh\n{drains}echo ready >&0\nwhile :; do sleep 0.05; done\n")
    pods = [Child("shop-1", [str(tmp_path / "pod")], {}), Child("shop-2", [str(tmp_path / "no")], {})]
    with trio.fail_after(PATIENCE):
        code = await children.keep_all(pods, until_done=False)

    assert code == 1
    assert (tmp_path / "drained").exists()
    assert "pod shop-2 can't be started: " in caplog.text
    assert "Traceback" not in caplog.text
