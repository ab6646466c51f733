"""`trioqueue dev`: a pod for whoever writes its handlers."""

import os
import time

import click
import trio

from trioqueue import AtomicQueues, Pod
from trioqueue._open import default_pod_name
from trioqueue.cli.dev_prompt import USAGE, can_be_typed, take_lines
from trioqueue.cli.event_lines import event_printer
from trioqueue.cli.logs import Logs, log_level_option
from trioqueue.cli.options import as_json, prefix_option, print_json
from trioqueue.cli.pod_end import Ending
from trioqueue.cli.serve import target_argument, types_of, types_option
from trioqueue.cli.serving import MEMORY, Plan, serve_here


@click.command()
@target_argument
@click.option("--url", envvar="TRIOQUEUE_URL", metavar="URL", help="A Redis.  [default: memory://]")
@prefix_option
@types_option
@click.option("--top", is_flag=True, help="Show the live screen of `trioqueue top` instead of events.")
@log_level_option
@as_json
def dev(
    target: str,
    *,
    url: str | None,
    prefix: str,
    types: str | None,
    top: bool,
    log_level: str | None,
    as_json: bool,
) -> None:
    """Serves while you write handlers, and prints what happens.

    MODULE:REGISTRY is as for `trioqueue serve`.  When a source file changes that was imported from below the working
    directory, it drains and begins anew; where that can't be imported, it says why and waits for the next change.

    Without a Redis, all is in this process: no other one can send to it, and what it holds is gone when it begins anew.

    On a terminal it takes lines: send and call with an entity, a command and its fields, as `trioqueue send` takes them
    with --app; why with an entity, which explains what it waits for; and ls, which lists the entities with work.

    What happens is printed as by `trioqueue tail`; the pod is named where it is another one.  Warnings are logged to
    stderr; --log-level says what else is.

    With --json, each line is an object.  One of stdout has at (seconds since the epoch) and event, which is a word of
    `trioqueue tail`; "ready" when it serves, with target, pod, types, store and prefix; or "answered", with the line
    that was typed and what was said to it.  One of stderr is as of `trioqueue serve --json`.  With --top, those of
    `trioqueue top --json` are printed instead.
    """
    plan = Plan(
        target=target,
        url=url or MEMORY,
        prefix=prefix,
        name=default_pod_name(),
        logs=Logs(log_level, default="warning", as_json=as_json),
        types=types_of(types),
        reload=True,
    )

    async def watch(queues: AtomicQueues, pod: Pod) -> Ending:
        if not top:
            return await show_events(queues, pod, plan)
        # Only when it is asked for: a screen is much to load.
        from trioqueue.cli.top import EVERY, print_snapshots, show_top  # noqa: PLC0415

        if as_json:
            await print_snapshots(queues, print_json, every=EVERY, count=None)
        else:
            await show_top(queues, store=plan.store())
        return Ending("its screen was left")

    serve_here(plan, watch)


async def show_events(queues: AtomicQueues, pod: Pod, plan: Plan) -> Ending:
    """Prints what happens in the fleet, an event a line, for ever."""
    as_json = plan.logs.as_json
    show = event_printer(as_json=as_json, own=pod.name)
    async with queues.open_events() as events, trio.open_nursery() as nursery:
        if as_json:
            _print_ready(plan, pod)
        else:
            _greet(plan, pod)
        if can_be_typed():
            nursery.start_soon(take_lines, queues, plan.target, _print_answer if as_json else _answer)
        async for event in events:
            show(event)
    return Ending("nothing happens any more")


def _greet(plan: Plan, pod: Pod) -> None:
    _say(f"{plan.target} serves {', '.join(pod.types)}, on {_where(plan)}.")
    _say("A changed source file has it begin anew, and Ctrl-C ends it.", dim=True)
    if can_be_typed():
        _say(f"Type {USAGE}.", dim=True)


def _answer(_line: str, said: str) -> None:
    if said:  # else `ls` has found nothing
        _say(said)


def _say(text: str, *, dim: bool = False) -> None:
    # Whether there is a terminal, click sees itself.
    click.echo(click.style(text, dim=dim or None), color=False if os.environ.get("NO_COLOR") else None)


def _print_ready(plan: Plan, pod: Pod) -> None:
    print_json(
        {
            "at": time.time(),
            "event": "ready",
            "target": plan.target,
            "pod": pod.name,
            "types": pod.types,
            "store": plan.store(),
            "prefix": plan.prefix,
        }
    )


def _print_answer(line: str, said: str) -> None:
    print_json({"at": time.time(), "event": "answered", "line": line, "said": said})


def _where(plan: Plan) -> str:
    if plan.store() == MEMORY:
        return f"{MEMORY}, which is in this process: no other one can send to it"
    return f"{plan.store()} with the prefix {plan.prefix}"
