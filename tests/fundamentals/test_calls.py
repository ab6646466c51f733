"""A call carries its caller's patience along, and entities may call each other."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioqueue import (
    CallFailed,
    Command,
    Context,
    DeadlineExceeded,
    Limits,
    ReentrantCall,
    Registry,
    Retry,
    command,
    entity_id,
    open_atomic_queues,
    state,
)


@command("job")
class Work(Command[str]):
    job_id: str = entity_id()
    seconds: float


@command("person")
class Ask(Command[str]):
    name: str = entity_id()
    whom: str


@command("person")
class Chat(Command[str]):
    name: str = entity_id()
    route: list[str]


@state("job")
class Progress:
    done: int = 0


async def test_a_caller_that_runs_out_of_time_cancels_its_handler(autojump_clock: MockClock) -> None:
    registry = Registry()
    ends: list[tuple[str, float]] = []
    began = trio.current_time()

    @registry.handles(Work)
    async def work(command: Work, progress: Progress) -> str:
        progress.done += 1
        try:
            await trio.sleep(command.seconds)
        except trio.Cancelled:
            ends.append(("cancelled", round(trio.current_time() - began, 1)))
            raise
        return "done"

    async with open_atomic_queues("memory://", registry=registry) as queues:
        with pytest.raises(trio.TooSlowError):
            with trio.fail_after(3):
                await queues.call(Work("j", 100))
        await queues.wait_settled()
        assert ends == [("cancelled", 3.0)]
        assert await queues.state(Progress, "j") == Progress(0)
        assert await queues.call(Work("j", 1)) == "done"
        assert (await queues.statistics()).dead == 0


async def test_a_command_whose_deadline_passed_in_the_line_never_starts(autojump_clock: MockClock) -> None:
    registry = Registry()
    starts: list[float] = []

    @registry.handles(Work)
    async def work(command: Work) -> str:
        starts.append(command.seconds)
        with trio.CancelScope(shield=True):
            await trio.sleep(command.seconds)
        return "done"

    async with open_atomic_queues("memory://", registry=registry) as queues:
        await queues.send(Work("j", 10))
        with trio.move_on_after(3):
            await queues.call(Work("j", 1))
        assert await queues.call(Work("j", 2)) == "done"
    assert starts == [10, 2]


async def test_a_cancelled_caller_cancels_its_command_while_it_is_queued(autojump_clock: MockClock) -> None:
    registry = Registry()
    starts: list[float] = []

    @registry.handles(Work)
    async def work(command: Work) -> str:
        starts.append(command.seconds)
        await trio.sleep(command.seconds)
        return "done"

    async with open_atomic_queues("memory://", registry=registry) as queues:
        async with trio.open_nursery() as nursery:
            await queues.send(Work("j", 10))
            nursery.start_soon(queues.call, Work("j", 1))
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert await queues.call(Work("j", 2)) == "done"
    assert starts == [10, 2]


async def test_a_cancelled_caller_cancels_the_scope_of_its_running_handler(autojump_clock: MockClock) -> None:
    registry = Registry()
    cleaned_up: list[str] = []

    @registry.handles(Work)
    async def work(command: Work) -> str:
        try:
            await trio.sleep_forever()
        finally:
            cleaned_up.append(command.job_id)
        raise AssertionError

    async with open_atomic_queues("memory://", registry=registry) as queues:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(queues.call, Work("j", 1))
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        await queues.wait_settled()
        assert cleaned_up == ["j"]
        assert (await queues.statistics()).dead == 0


async def test_a_command_cancelled_while_it_waits_for_a_running_slot_never_starts(
    autojump_clock: MockClock,
) -> None:
    registry = Registry()
    starts: list[str] = []

    @registry.handles(Work)
    async def work(command: Work) -> str:
        starts.append(command.job_id)
        await trio.sleep(command.seconds)
        return "done"

    async with open_atomic_queues("memory://", registry=registry, limits=Limits(running=1)) as queues:
        await queues.send(Work("long", 10))
        with trio.move_on_after(1):
            await queues.call(Work("given-up", 1))
        await queues.wait_settled()
        assert starts == ["long"]


async def test_a_handler_may_call_another_entity(autojump_clock: MockClock) -> None:
    registry = Registry()

    @registry.handles(Ask)
    async def ask(command: Ask, context: Context) -> str:
        if command.whom:
            return f"{command.whom} says: " + await context.call(Ask(command.whom, ""))
        return "hello"

    async with open_atomic_queues("memory://", registry=registry) as queues:
        assert await queues.call(Ask("ann", "bob")) == "bob says: hello"


async def test_a_handler_that_waits_for_an_answer_lets_others_run(autojump_clock: MockClock) -> None:
    registry = Registry()

    @registry.handles(Chat)
    async def chat(command: Chat, context: Context) -> str:
        if not command.route:
            return command.name
        first, *rest = command.route
        return f"{command.name} {await context.call(Chat(first, rest))}"

    async with open_atomic_queues("memory://", registry=registry, limits=Limits(running=1)) as queues:
        with trio.fail_after(5):
            assert await queues.call(Chat("a", ["b", "c", "d"])) == "a b c d"


async def test_a_handler_that_was_cancelled_ends_though_all_running_slots_are_taken(
    autojump_clock: MockClock,
) -> None:
    registry = Registry()
    ended: list[float] = []

    @registry.handles(Ask)
    async def ask(command: Ask, context: Context) -> str:
        try:
            return await context.call(Work("long", 20))
        finally:
            ended.append(trio.current_time())

    @registry.handles(Work)
    async def work(command: Work) -> str:
        with trio.CancelScope(shield=True):
            await trio.sleep(command.seconds)
        return "done"

    async with open_atomic_queues("memory://", registry=registry, limits=Limits(running=1)) as queues:
        began = trio.current_time()
        with trio.move_on_after(3):
            await queues.call(Ask("ann", ""))
        await wait_all_tasks_blocked()
        assert [round(end - began) for end in ended] == [3]
        await queues.wait_settled()


async def test_a_call_that_leads_back_to_a_waiting_entity_is_refused_with_the_path(
    autojump_clock: MockClock,
) -> None:
    registry = Registry()
    refused: list[ReentrantCall] = []

    @registry.handles(Chat)
    async def chat(command: Chat, context: Context) -> str:
        if not command.route:
            return command.name
        first, *rest = command.route
        try:
            return f"{command.name} {await context.call(Chat(first, rest))}"
        except ReentrantCall as error:
            refused.append(error)
            return f"{command.name} refused"

    async with open_atomic_queues("memory://", registry=registry) as queues:
        began = trio.current_time()
        assert await queues.call(Chat("a", ["b", "c", "a"])) == "a b c refused"
        assert trio.current_time() == began
    assert [error.path for error in refused] == [("person/a", "person/b", "person/c", "person/a")]


async def test_an_entity_cannot_call_itself(autojump_clock: MockClock) -> None:
    registry = Registry()

    @registry.handles(Chat, retry=Retry(attempts=1))
    async def chat(command: Chat, context: Context) -> str:
        return await context.call(Chat(command.name, []))

    async with open_atomic_queues("memory://", registry=registry) as queues:
        with pytest.raises(CallFailed, match="person/a → person/a"):
            await queues.call(Chat("a", ["a"]))


async def test_queues_call_inside_a_handler_carries_the_path_like_context_call(
    autojump_clock: MockClock,
) -> None:
    registry = Registry()

    @registry.handles(Chat, retry=Retry(attempts=1))
    async def chat(command: Chat) -> str:
        return await queues.call(Chat(command.name, []))

    async with open_atomic_queues("memory://", registry=registry) as queues:
        with pytest.raises(CallFailed, match="ReentrantCall"):
            await queues.call(Chat("a", ["a"]))


async def test_crossing_calls_end_by_their_deadline_and_name_both_entities(
    autojump_clock: MockClock,
) -> None:
    registry = Registry()
    errors: list[DeadlineExceeded] = []

    @registry.handles(Ask, retry=Retry(attempts=1))
    async def ask(command: Ask, context: Context) -> str:
        await trio.sleep(1)  # so that both have begun
        try:
            return await context.call(Ask(command.whom, command.name))
        except DeadlineExceeded as error:
            errors.append(error)
            raise

    async with open_atomic_queues("memory://", registry=registry) as queues:
        began = trio.current_time()
        await queues.send_many([Ask("ann", "bob"), Ask("bob", "ann")])
        await queues.wait_settled()
        assert trio.current_time() - began < 40
        assert (await queues.statistics()).dead == 2
    assert {(*error.waiting, error.entity) for error in errors} == {
        ("person/ann", "person/bob"),
        ("person/bob", "person/ann"),
    }


async def test_a_call_inside_a_handler_waits_no_longer_than_the_handler_may_take(
    autojump_clock: MockClock,
) -> None:
    registry = Registry()
    ended: list[float] = []

    @registry.handles(Ask, timeout=5, retry=Retry(attempts=1))
    async def ask(command: Ask, context: Context) -> str:
        return await context.call(Work("j", 100))

    @registry.handles(Work)
    async def work(command: Work) -> str:
        began = trio.current_time()
        try:
            await trio.sleep(command.seconds)
        finally:
            ended.append(round(trio.current_time() - began, 1))
        return "done"

    async with open_atomic_queues("memory://", registry=registry) as queues:
        with pytest.raises(CallFailed):
            await queues.call(Ask("ann", ""))
        await queues.wait_settled()
    assert ended == [5.0]


async def test_calls_side_by_side_in_one_handler(autojump_clock: MockClock) -> None:
    registry = Registry()
    running: list[int] = [0, 0]

    @registry.handles(Ask)
    async def ask(command: Ask, context: Context) -> str:
        async with trio.open_nursery() as nursery:
            for n in range(8):
                nursery.start_soon(context.call, Work(f"j{n}", 1))
        return "all"

    @registry.handles(Work)
    async def work(command: Work) -> str:
        running[0] += 1
        running[1] = max(running)
        await trio.sleep(command.seconds)
        running[0] -= 1
        return "done"

    async with open_atomic_queues("memory://", registry=registry, limits=Limits(running=2)) as queues:
        assert await queues.call(Ask("ann", "")) == "all"
    assert running[1] == 2  # the one slot that waiting gave back, and the one that was free
