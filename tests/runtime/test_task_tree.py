"""What a task's children wait for, in words that lead to the line."""

import inspect

import trio
from trio.testing import wait_all_tasks_blocked

from trioqueue.runtime.task_tree import MAX_LINE, MAX_TASKS, task_tree


async def wait_for(event: trio.Event) -> None:
    await event.wait()


async def with_children(event: trio.Event) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_for, event, name="grandchild")
        await wait_for(event)


def tree() -> list[str]:
    return task_tree(trio.lowlevel.current_task()).splitlines()


def line_of(function: object, text: str) -> int:
    lines, first = inspect.getsourcelines(function)  # type: ignore[arg-type]
    return first + next(at for at, line in enumerate(lines) if text in line)


async def test_each_task_is_named_with_the_line_that_it_waits_at() -> None:
    event = trio.Event()
    assert tree() == []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(with_children, event, name="child")
        nursery.start_soon(trio.sleep_forever)
        await wait_all_tasks_blocked()
        place = f"at {__file__}:{line_of(wait_for, 'await')} in wait_for: await event.wait()"
        child, grandchild, other = tree()
        assert child == f"child {place}"
        assert grandchild == f"  grandchild {place}"
        assert other.startswith("trio.sleep_forever at "), "Trio's own line, where there is no other"
        nursery.cancel_scope.cancel()
    assert tree() == []


async def test_a_task_that_has_not_begun_has_its_first_line() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_for, trio.Event())
        (line,) = tree()
        assert line.endswith("in wait_for: async def wait_for(event: trio.Event) -> None:")
        nursery.cancel_scope.cancel()


async def test_many_tasks_are_counted_and_a_long_name_is_cut() -> None:
    async with trio.open_nursery() as nursery:
        for number in range(3 * MAX_TASKS):
            nursery.start_soon(trio.sleep_forever, name=f"{number:03} {'x' * 1000}")
        lines = tree()
        assert len(lines) == MAX_TASKS + 1
        assert lines[-1] == f"… and {2 * MAX_TASKS} more"
        assert max(map(len, lines)) == MAX_LINE
        nursery.cancel_scope.cancel()


async def test_a_deep_tree_is_no_matter() -> None:
    async def deeper(left: int) -> None:
        async with trio.open_nursery() as nursery:
            if left:
                nursery.start_soon(deeper, left - 1)
            else:
                deep.extend(task_tree(root).splitlines())

    root, deep = trio.lowlevel.current_task(), list[str]()
    await deeper(2000)
    assert len(deep) == MAX_TASKS + 1
