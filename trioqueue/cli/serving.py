"""One pod in this process: opened, announced, served until something ends it, and drained."""

import logging
import sys
import traceback
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs
import click
import trio
from typing_extensions import override

from trioqueue import (
    AtomicQueues,
    BadDeclaration,
    Drain,
    Entity,
    Instrument,
    NotRegistered,
    Pod,
    TrioqueueError,
    instruments,
)
from trioqueue.cli.app import App, BadApp, load
from trioqueue.cli.children import parent_gone, tell_parent_ready
from trioqueue.cli.errors import one_line, told_of
from trioqueue.cli.logs import Logs
from trioqueue.cli.pod_end import Ending, EndSignal, changed, end_at_once_by_signals, first_of
from trioqueue.cli.reload import Sources, begin_anew
from trioqueue.stores.redis.address import parse_address
from trioqueue.stores.service_nursery import open_service_nursery

if TYPE_CHECKING:
    from trioqueue.instruments import Prometheus

logger = logging.getLogger("trioqueue.serve")

MEMORY = "memory://"

Body: TypeAlias = Callable[[AtomicQueues, Pod], Awaitable[Ending]]
"""What runs while a pod serves, and has it end when it ends itself."""

Wait: TypeAlias = Callable[[], Awaitable[Ending]]


@attrs.frozen
class Plan:
    """What one pod is to be.

    Attributes:
        target: Whose handlers it has, as `module:name`.
        url: Of the store.
        prefix: Of all keys.
        name: Of the pod.
        logs: What it logs.
        types: Which it serves; None: all that have a handler.
        drain: How long its end may take; None: as the app or the default says.
        monitor: Where it listens for who monitors it; None: nowhere.
        reload: Whether it begins anew when its source has changed.
        has_parent: Whether it is the child of a process that has several; see `children`.
    """

    target: str
    url: str = attrs.field(repr=False)  # it may have a password
    prefix: str
    name: str
    logs: Logs
    types: frozenset[str] | None = None
    drain: Drain | None = None
    monitor: tuple[str, int] | None = None
    reload: bool = False
    has_parent: bool = False

    def store(self) -> str:
        """Names the store, without a password."""
        return MEMORY if self.url.lower() == MEMORY else str(parse_address(self.url))

    def options(self, instruments: list[Instrument]) -> dict[str, Any]:
        """Gives what the command line decides of the options of `open_atomic_queues`."""
        decided = {"serves": self.types, "drain": self.drain}
        given = {name: value for name, value in decided.items() if value is not None}
        return {"prefix": self.prefix, "name": self.name, "instruments": instruments, **given}


def serve_here(plan: Plan, *bodies: Body) -> None:
    """Serves until something ends it.

    With `reload`, what is wrong with the app is told, and a change of its source waited for.
    """
    end_at_once_by_signals()
    here = Path.cwd()  # an app may go elsewhere
    if plan.reload:
        # Python takes what it has compiled for that of a source of the same size that was changed in the same second.
        sys.dont_write_bytecode = True
    try:
        app = load(plan.target)
        plan.logs.begin(plan.name, beside=plan.has_parent)
        ending = trio.run(_serve, plan, app, Sources(here), bodies)
    except Exception as error:
        sources = Sources(here, error)
        if not (plan.reload and sources and _is_of_the_app(error)):
            raise
        _tell(plan, error)
        ending = trio.run(_wait_for_repair, plan, sources)
    if ending.anew:
        begin_anew(here)


async def _serve(plan: Plan, app: App, sources: Sources, bodies: Collection[Body]) -> Ending:
    tally = Tally()
    told_all: list[Instrument] = [tally]
    prometheus = None
    if plan.monitor is not None:
        prometheus = _prometheus()
        told_all.append(prometheus)
    told = EndSignal(has_parent=plan.has_parent)
    ending = Ending("nothing has told it to")
    async with open_service_nursery() as services:
        with told.listening(), told.opening:
            async with app.open(plan.url, **plan.options(told_all)) as queues:
                told.opened = True
                pod = await _own_pod(plan, queues)
                if plan.monitor is not None:  # it goes on while the pod drains, and says so
                    opened = trio.Event()
                    services.start_soon(_open_monitor, queues, plan.monitor, prometheus, opened)
                    await opened.wait()
                _say_ready(plan, pod)
                waits: list[Wait] = [told.wait, *(partial(body, queues, pod) for body in bodies)]
                if plan.reload:
                    waits.append(partial(changed, sources))
                if plan.has_parent:
                    tell_parent_ready()
                    waits.append(parent_gone)
                ending = await first_of(*waits)
                told.stop()
                tally.drains = True
                logger.info(
                    "pod %s drains, as %s%s",
                    pod.name,
                    ending.why,
                    "" if plan.has_parent else "; a signal now ends it at once",
                    extra={"event": "draining"},
                )
            logger.info("pod %s has ended: %s", pod.name, tally, extra={"event": "ended"})
        # Told to end while it was opened, or while it drained for a change: then it doesn't begin anew.
        return await told.wait() if told.has_come() else ending


def _say_ready(plan: Plan, pod: Pod) -> None:
    logger.info(
        "pod %s is ready: it serves %s, on %s with the prefix %s",
        pod.name,
        ", ".join(pod.types),
        plan.store(),
        plan.prefix,
        extra={"event": "ready", "types": pod.types},
    )


async def _own_pod(plan: Plan, queues: AtomicQueues) -> Pod:
    for pod in reversed(await queues.pods()):  # an older one of this name may have died
        if pod.name == plan.name and pod.state == "serving":
            return pod
    raise BadApp(
        plan.target, "it opened queues that serve nothing: have it pass on a registry and its options"
    )


class Tally(Instrument):
    """Counts what a pod has done, for its last words."""

    def __init__(self) -> None:
        self.drains = False  # whether the drain has begun
        self._handled = 0
        self._dead = 0
        self._handed_on = set[Entity]()  # by the drain

    @override
    def handled(
        self, entity: Entity, command: str, command_id: str, outcome: str, waited: float, duration: float
    ) -> None:
        self._handled += 1
        self._dead += outcome == "dead"

    @override
    def handed_off(self, entity: Entity) -> None:
        if self.drains:
            self._handed_on.add(entity)

    def __str__(self) -> str:
        died = f", {self._dead:,} of which became dead letters" * bool(self._dead)
        handled, awake = _count(self._handled, "command", "commands"), len(self._handed_on)
        left = f"handed on {_count(awake, 'entity', 'entities')}" if awake else "had no entity to hand on"
        return f"it handled {handled}{died}, and {left}"


def _count(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"


# ------------------------------------------------------------------------ monitoring
async def _open_monitor(
    queues: AtomicQueues, address: tuple[str, int], prometheus: "Prometheus | None", opened: trio.Event
) -> None:
    """Lets others see how the pod is, for ever."""
    host, port = address
    async with instruments.open_monitor(queues, host=host, port=port, prometheus=prometheus) as (host, port):
        logger.info("monitored at http://%s:%d", host, port, extra={"event": "monitored"})
        opened.set()
        await trio.sleep_forever()


def _prometheus() -> "Prometheus":
    try:
        return instruments.Prometheus()
    except ImportError as error:  # it is imported only now
        raise click.UsageError(f"--monitor-port: {error}.") from None


# ------------------------------------------------------------------------ what is wrong with an app
def _is_of_the_app(error: Exception) -> bool:
    """Says whether a change of the app's source may help; where nothing else is known of an error, it may."""
    return isinstance(error, (BadApp, BadDeclaration, NotRegistered)) or told_of(error) is None


def _tell(plan: Plan, error: Exception) -> None:
    if plan.logs.as_json:
        plan.logs.begin(
            plan.name, beside=plan.has_parent
        )  # it may be the import that failed, before it had begun
        ours = isinstance(error, TrioqueueError)
        logger.error(
            "%s; a change of the source is waited for",
            one_line(error).rstrip(".") if ours else f"{plan.target} has failed",
            exc_info=None if ours else error,
            extra={"event": "waits_for_change"},
        )
        return
    if isinstance(error, TrioqueueError):
        click.echo(f"error: {one_line(error)}", err=True)
    else:
        traceback.print_exception(error)
    click.echo("Waiting for a change of the source.", err=True)


async def _wait_for_repair(plan: Plan, sources: Sources) -> Ending:
    return await first_of(partial(changed, sources), *[parent_gone] * plan.has_parent)
