"""`trioqueue dev`: a pod for whoever writes its handlers."""

import os
from functools import partial
from typing import Any

import click
import trio

from trioqueue import (
    AtomicQueues,
    CommandDead,
    CommandFailed,
    CommandHandled,
    EntityAsleep,
    EntityAwake,
    EntityPaused,
    Event,
    EventsMissed,
    Pod,
    PodLostLease,
)
from trioqueue._open import default_pod_name
from trioqueue.cli.dev_prompt import USAGE, can_be_typed, take_lines
from trioqueue.cli.errors import one_line
from trioqueue.cli.logs import Logs, log_level_option
from trioqueue.cli.options import prefix_option
from trioqueue.cli.pod_end import Ending
from trioqueue.cli.serve import target_argument, types_of, types_option
from trioqueue.cli.serving import MEMORY, Plan, serve_here

OUTCOMES: dict[str, dict[str, Any]] = {
    "done": {"fg": "green"},
    "rejected": {"fg": "yellow"},
    "dead": {"fg": "red", "bold": True},
}
"""How it looks how a command has left its mailbox; the others look like text."""


@click.command()
@target_argument
@click.option("--url", envvar="TRIOQUEUE_URL", metavar="URL", help="A Redis.  [default: memory://]")
@prefix_option
@types_option
@click.option("--top", is_flag=True, help="Show the live screen of `trioqueue top` instead of events.")
@log_level_option
def dev(
    target: str, *, url: str | None, prefix: str, types: str | None, top: bool, log_level: str | None
) -> None:
    """Serves while you write handlers, and prints what happens.

    MODULE:REGISTRY is as for `trioqueue serve`.  When a source file changes that was imported from below the working
    directory, it drains and begins anew; where that can't be imported, it says why and waits for the next change.

    Without a Redis, all is in this process: no other one can send to it, and what it holds is gone when it begins anew.

    On a terminal it takes lines: send and call with an entity, a command and its fields, as `trioqueue send` takes them
    with --app; why with an entity, which explains what it waits for; and ls, which lists the entities with work.

    Warnings are logged to stderr; --log-level says what else is.
    """
    plan = Plan(
        target=target,
        url=url or MEMORY,
        prefix=prefix,
        name=default_pod_name(),
        logs=Logs(log_level, default="warning"),
        types=types_of(types),
        reload=True,
    )

    async def watch(queues: AtomicQueues, pod: Pod) -> Ending:
        if top:
            # Only when it is asked for: a screen is much to load.
            from trioqueue.cli.top import show_top  # noqa: PLC0415

            await show_top(queues, store=plan.store())
            return Ending("its screen was left")
        return await show_events(queues, pod, plan)

    serve_here(plan, watch)


async def show_events(queues: AtomicQueues, pod: Pod, plan: Plan) -> Ending:
    """Prints what happens in the fleet, an event a line, for ever."""
    # Whether there is a terminal, click sees itself.
    show = partial(click.echo, color=False if os.environ.get("NO_COLOR") else None)
    async with queues.open_events() as events, trio.open_nursery() as nursery:
        show(f"{plan.target} serves {', '.join(pod.types)}, on {_where(plan)}.")
        show(click.style("A changed source file has it begin anew, and Ctrl-C ends it.", dim=True))
        if can_be_typed():
            show(click.style(f"Type {USAGE}.", dim=True))
            nursery.start_soon(take_lines, queues, plan.target, show)
        async for event in events:
            show(line_of(event))
    return Ending("nothing happens any more")


def _where(plan: Plan) -> str:
    if plan.store() == MEMORY:
        return f"{MEMORY}, which is in this process: no other one can send to it"
    return f"{plan.store()} with the prefix {plan.prefix}"


def line_of(event: Event) -> str:
    """Writes an event for a person: whom it is about, what happened, and how long it took."""
    entity = f"{getattr(event, 'entity_type', event.pod)}/{getattr(event, 'entity_id', '')}".rstrip("/")
    said, style = _said(event)
    return f"{entity}  {click.style(one_line(said), **style)}"


def _said(event: Event) -> tuple[str, dict[str, Any]]:
    match event:
        case CommandHandled():
            took = f"in {event.duration * 1000:.1f} ms"
            return f"{event.command} {event.outcome} {took}", OUTCOMES.get(event.outcome, {})
        case CommandFailed():
            again = f"attempt {event.attempt}, again in {event.again_in:.1f} s"
            return f"{event.command} failed: {event.error}, {again}", {"fg": "red"}
        case CommandDead():
            return f"{event.command} is a dead letter: {event.error}", {"fg": "red", "bold": True}
        case EntityPaused():
            return f"paused: {event.why or 'by an operator'}", {"fg": "yellow"}
        case EntityAwake():
            return "awake", {"dim": True}
        case EntityAsleep():
            return "asleep", {"dim": True}
        case PodLostLease():
            return f"lost its lease: {event.why}", {"fg": "red", "bold": True}
        case EventsMissed():
            return f"{event.count:,} events never came", {"fg": "yellow"}
        case _:
            return type(event).__name__, {}
