"""What the tasks of an entity wait for, as text for people."""

import linecache

import trio

MAX_TASKS = 50
"""Tasks that are named: who has more of them looks elsewhere than into a dead letter."""

MAX_LINE = 300
"""Characters of one line."""

INSIDE = ("trio", "trioqueue")
"""Packages in which a task's innermost line says less than the one that led there."""


def task_tree(task: trio.lowlevel.Task) -> str:
    """Names the tasks in a task's nurseries, and in theirs, and where each waits; "": there are none.

    A line each: the task's name, and the innermost line of code that is neither Trio's nor ours.
    """
    lines: list[str] = []
    unnamed = 0
    left = _children(task, 0)
    while left:
        depth, one = left.pop()
        left += _children(one, depth + 1)
        if len(lines) < MAX_TASKS:
            lines.append(f"{'  ' * depth}{one.name} {_place(one)}"[:MAX_LINE])
        else:
            unnamed += 1
    if unnamed:
        lines.append(f"… and {unnamed} more")
    return "\n".join(lines)


def _children(task: trio.lowlevel.Task, depth: int) -> list[tuple[int, trio.lowlevel.Task]]:
    """Lists a task's children, each with its depth, the first one last."""
    found = [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return [(depth, child) for child in sorted(found, key=lambda one: one.name, reverse=True)]


def _place(task: trio.lowlevel.Task) -> str:
    """Says where a task waits."""
    found = ""
    for frame, line in task.iter_await_frames():
        if not found or str(frame.f_globals.get("__name__")).partition(".")[0] not in INSIDE:
            code = frame.f_code
            text = linecache.getline(code.co_filename, line, frame.f_globals).strip()
            found = f"at {code.co_filename}:{line} in {code.co_name}: {text}"
    return found
