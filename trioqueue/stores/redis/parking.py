"""How tasks wait for the connection without an `Event` each: half a microsecond a request."""

import trio


class Bench:
    """Where one task of the transport sits until there is something for it to do."""

    __slots__ = ("_task",)

    def __init__(self) -> None:
        # Set exactly while a task sits here and nobody has woken it.
        self._task: trio.lowlevel.Task | None = None

    def is_taken(self) -> bool:
        """Says whether a task sits here."""
        return self._task is not None

    def wake(self) -> None:
        """Wakes the task that sits here; without one it does nothing, and nothing is remembered."""
        task = self._task
        if task is not None:
            self._task = None
            trio.lowlevel.reschedule(task)

    async def sit(self) -> None:
        """Waits for `wake`.  One task only."""
        assert self._task is None
        self._task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._leave)

    def _leave(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED


class Caller:
    """A task that waits for one reply.  That task makes it and then waits in it, without an await between the two."""

    __slots__ = ("_reply", "_task")

    def __init__(self) -> None:
        # None once it was rescheduled or has left: whoever sets it to None owns the wake-up.
        self._task: trio.lowlevel.Task | None = trio.lowlevel.current_task()
        self._reply: object = None

    def deliver(self, reply: object) -> None:
        """Wakes the task with its reply; drops the reply if the task has been cancelled."""
        task = self._task
        if task is not None:
            self._task = None
            self._reply = reply
            trio.lowlevel.reschedule(task)

    async def wait(self) -> object:
        """Waits for `deliver` and returns the reply."""
        await trio.lowlevel.wait_task_rescheduled(self._leave)
        return self._reply

    def _leave(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED


class Waiter:
    """A task that waits for its section's answer, which may come before it waits."""

    __slots__ = ("_answered", "_result", "_task")

    def __init__(self) -> None:
        # Not None exactly while the task waits: whoever sets it to None owns the wake-up.
        self._task: trio.lowlevel.Task | None = None
        self._answered = False
        self._result: object = None

    def answer(self, result: object) -> None:
        """Wakes the task with its answer; drops the answer if the task has been cancelled."""
        self._answered, self._result = True, result
        task, self._task = self._task, None
        if task is not None:
            trio.lowlevel.reschedule(task)

    async def wait(self) -> object:
        """Waits for `answer` and returns what it was given."""
        if not self._answered:  # a closed transport answers at once
            self._task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._leave)
        return self._result

    def _leave(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED
