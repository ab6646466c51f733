"""`trioqueue serve`: a pod, or several."""

import os
import sys

import click
import trio

from trioqueue import Drain
from trioqueue._open import default_pod_name
from trioqueue.cli.children import Child, keep_all
from trioqueue.cli.logs import Logs, log_level_option
from trioqueue.cli.options import NO_STORE, as_json, prefix_option
from trioqueue.cli.pod_end import end_at_once_by_signals
from trioqueue.cli.serving import Plan, serve_here
from trioqueue.cli.until_done import until_done

target_argument = click.argument("target", metavar="MODULE:REGISTRY")

types_option = click.option(
    "--types",
    metavar="TYPE,…",
    help="Serve these entity types only, with commas between them; else all that have a handler.",
)

seconds = click.FloatRange(min=0)


@click.command()
@target_argument
@click.option(
    "--url", envvar="TRIOQUEUE_URL", metavar="URL", help="The Redis: redis://, rediss:// or unix://."
)
@prefix_option
@types_option
@click.option(
    "--name",
    help="Of the pod, for people; with --pods a number is added.  [default: the host's and the process's]",
)
@click.option(
    "--pods",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help="Serve in this many processes, and start those anew that die.",
)
@click.option("--once", is_flag=True, help="End once no command is left in the mailboxes of these types.")
@click.option("--reload", is_flag=True, help="Begin anew when a source file has changed: for development.")
@click.option(
    "--drain-soft",
    type=seconds,
    metavar="SECONDS",
    help="What handlers that run may still take at the end.  [default: 10]",
)
@click.option(
    "--drain-hard",
    type=seconds,
    metavar="SECONDS",
    help="What their clean-up may take after that, and handing on what is left.  [default: 5]",
)
@click.option(
    "--monitor-host", default="127.0.0.1", show_default=True, metavar="HOST", help="Where --monitor-port is."
)
@click.option(
    "--monitor-port",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    help="Serve Prometheus metrics, /live and /ready over HTTP; with --pods, the next one has the next port.",
)
@log_level_option
@as_json
@click.option("--has-parent", is_flag=True, hidden=True)
@click.pass_context
def serve(
    context: click.Context,
    *,
    target: str,
    url: str | None,
    prefix: str,
    types: str | None,
    name: str | None,
    pods: int,
    once: bool,
    reload: bool,
    drain_soft: float | None,
    drain_hard: float | None,
    monitor_host: str,
    monitor_port: int | None,
    log_level: str | None,
    as_json: bool,
    has_parent: bool,
) -> None:
    """Serves entities until it is told to end, and drains.

    MODULE:REGISTRY names a `Registry` in a module that can be imported from here, as shop.commands:registry; or, where
    an app has more to open or to say, a function: it is called with the URL and options of `open_atomic_queues`, passes
    them on, and returns the async context manager of the queues.

    At SIGTERM or SIGINT it begins nothing new, gives the handlers that run --drain-soft seconds, then cancels them,
    hands what is left to other pods, and ends with 0.  A second signal ends it at once, with 143 or 130, and other pods
    take over when its lease is over.

    With --pods this process serves nothing itself: it starts the pods, passes signals on, and waits for them; a second
    signal has it kill them.  A pod that dies is started anew, after half a second, and after up to 30 where it dies
    again and again.  Should this process be killed, the pods drain and end by themselves.

    With --once it ends with 0 when no command is left: in CI, or by cron.  It does not wait for commands that are put
    off, nor for what an operator has paused.

    With --reload it drains and begins anew within a second after a source file has changed that was imported from below
    the working directory; where that can't be imported, it says why and waits for the next change.

    What is logged goes to stderr, with what the app's own code logs.  An app that sets up logging when it is imported
    keeps that, unless --log-level or --json is given.

    With --json, each line that is logged is an object: time, level, logger, message, pod, what the line has beside, as
    event and entity, and where an error is logged, its traceback.
    """
    if not url:
        raise click.UsageError(NO_STORE)
    if url.lower().startswith("memory:"):
        raise click.UsageError(
            "memory:// is inside one process, and nobody could send to it: name a Redis, or see trioqueue dev."
        )
    name = name or default_pod_name()
    logs = Logs(log_level, as_json=as_json)
    if pods > 1:
        end_at_once_by_signals()
        logs.begin(f"{name}-0", beside=True)
        children = [
            Child(
                f"{name}-{number}",
                argv_of(
                    context,
                    url=None,  # comes in the environment: every user of a machine may read a command line
                    name=f"{name}-{number}",
                    pods=1,
                    monitor_port=monitor_port and monitor_port + number - 1,
                    has_parent=True,
                ),
                {**os.environ, "TRIOQUEUE_URL": url},
            )
            for number in range(1, pods + 1)
        ]
        context.exit(trio.run(lambda: keep_all(children, until_done=once)))
    plan = Plan(
        target=target,
        url=url,
        prefix=prefix,
        name=name,
        logs=logs,
        types=types_of(types),
        drain=drain_of(drain_soft, drain_hard),
        monitor=None if monitor_port is None else (monitor_host, monitor_port),
        reload=reload,
        has_parent=has_parent,
    )
    serve_here(plan, *[until_done] * once)


def types_of(types: str | None) -> frozenset[str] | None:
    """Reads `--types`."""
    named = (one.strip() for one in (types or "").split(","))
    return frozenset(one for one in named if one) or None


def drain_of(soft: float | None, hard: float | None) -> Drain | None:
    """Makes what the two options say; None: neither is given."""
    given = {name: value for name, value in (("soft", soft), ("hard", hard)) if value is not None}
    return Drain(**given) if given else None


def argv_of(context: click.Context, **changes: object) -> list[str]:
    """Writes the command line of this command once more, with these changes."""
    argv = [sys.executable, "-m", "trioqueue.cli", str(context.info_name)]
    values = {**context.params, **changes}
    for parameter in context.command.params:
        value = values[str(parameter.name)]
        if not isinstance(parameter, click.Option):
            argv.append(str(value))
        elif parameter.is_flag:
            argv += [parameter.opts[0]] * bool(value)
        elif value is not None:
            argv += [parameter.opts[0], str(value)]
    return argv
