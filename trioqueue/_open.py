"""Opening: what is wired to what, and how it ends."""

import logging
import os
import re
import socket
from collections.abc import AsyncGenerator, Collection, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Literal

import trio

from trioqueue._errors import BadUrl, Closed, Incompatible, NotRegistered
from trioqueue._names import Entity, legal_pod_name, legal_prefix
from trioqueue._queues import AtomicQueues
from trioqueue.messages.codec import Codec
from trioqueue.messages.policy import Drain, EntityPolicy, Lease, Limits
from trioqueue.messages.registry import Registry
from trioqueue.protocol.instrument import Instrument
from trioqueue.runtime.broadcast import Broadcast
from trioqueue.runtime.context import Slots
from trioqueue.runtime.instruments import Instruments
from trioqueue.runtime.recurring import keep
from trioqueue.runtime.scaling import BoundScaler, build_scalers, keep_awake
from trioqueue.runtime.service import build_services
from trioqueue.runtime.supervisor import Supervisor
from trioqueue.runtime.turns import Turns
from trioqueue.stores.contract import PodInfo, Store
from trioqueue.stores.memory.server import MemoryServer
from trioqueue.stores.memory.store import open_memory_store
from trioqueue.stores.reports import (
    Answered,
    CancelAsked,
    Changed,
    Due,
    Hint,
    KeepAwake,
    Progress,
    Told,
    Wake,
    Watched,
)
from trioqueue.stores.service_nursery import open_service_nursery

logger = logging.getLogger("trioqueue")

END_PATIENCE = 5.0
"""Seconds beyond the drain's own that the end of a block may take: for the store to hear of it."""


@asynccontextmanager
async def open_atomic_queues(
    url: str | MemoryServer | None = None,
    *,
    registry: Registry | None = None,
    serves: Collection[str] | None = None,
    provide: Mapping[type[Any], Any] | None = None,
    prefix: str = "tq",
    name: str | None = None,
    entities: Mapping[str, EntityPolicy] | None = None,
    codec: Codec | None = None,
    lease: Lease | None = None,
    limits: Limits | None = None,
    drain: Drain | None = None,
    durability: Literal["local", "replica"] = "local",
    allow_eviction: bool = False,
    instruments: Iterable[Instrument] = (),
) -> AsyncGenerator[AtomicQueues, None]:
    """Opens the queues, and with a registry makes this process a pod that serves their entities.

    Leaving the block drains: nothing new is begun, running handlers get `drain.soft` seconds, are then
    cancelled, and every entity is handed to another pod before its lease ends; no attempt is spent.  Left by
    an error or cancelled, handlers are cancelled at once.

    Args:
        url: `redis://`, `rediss://`, `unix://`, as redis-py reads them, or `memory://` for a store in this
            process that ends with the block.  None: `$TRIOQUEUE_URL`, else `memory://`.
        registry: The handlers; None: this process only sends.
        serves: The entity types to serve; None: all that have a handler.
        provide: What handlers ask for by annotation: an object for each type.
        prefix: Of all keys: deployments with different prefixes share a server without seeing each other.
        name: Of this pod, for people; None: host name and process id.
        entities: The policy of an entity type, where it is not the default.
        codec: How values travel, where types of your own are registered with it; the same for all who share a prefix.
        lease: How the pod's right to run handlers is kept.
        limits: How much a pod does at once.
        drain: How long the end may take.
        durability: When `send`, `send_many` and `call` return: "local", once Redis has it; "replica", once a replica
            of it has it too, so that it survives the loss of that Redis as well.
        allow_eviction: Accepts a Redis that loses keys when it is full, and with them accepted commands.
        instruments: Who is told what happens in this process.

    Raises:
        BadUrl, StoreUnavailable, AccessDenied, Incompatible: At once, before anything was written.
        BadDeclaration: A handler asks for something that nobody provides.
        NotRegistered: `serves` names a type without a handler.
        RuntimeError: It is not Trio that runs this.
    """
    lease, limits, drain = lease or Lease(), limits or Limits(), drain or Drain()
    policies = dict(entities or {})
    codec = codec or Codec()
    services = {}
    scalers: list[BoundScaler] = []
    if registry is not None:
        registry.freeze()
        types = frozenset(serves) if serves is not None else registry.types()
        for missing in sorted(types - registry.types()):
            raise NotRegistered(
                f"The entity type {missing!r}", "register a handler for it, or leave it out of `serves`"
            )
        services = build_services(registry, types, policies, provide or {}, codec)
        scalers = build_scalers(registry, types, provide or {})
    pod_name = legal_pod_name(name if name is not None else default_pod_name())
    if durability not in ("local", "replica"):
        raise ValueError(f"durability is 'local' or 'replica', not {durability!r}")
    async with _open_store(
        url,
        legal_prefix(prefix),
        limits,
        serves=bool(services),
        replicated=durability == "replica",
        allow_eviction=allow_eviction,
    ) as store:
        told = Instruments(instruments, trio.lowlevel.current_clock().current_time)
        queues = AtomicQueues(store, codec, registry, policies, told)
        broadcast = Broadcast(store, codec, pod_name, told)
        supervisor: Supervisor | None = None
        if services:
            slots = Slots(limits.running)

            def make_turns(entity: Entity) -> Turns:
                return Turns(
                    entity, services[entity.type], codec, queues, slots, store.client, queues._counts, told
                )

            supervisor = Supervisor(
                store,
                PodInfo(pod_name, frozenset(services), limits.owned, lease),
                drain,
                make_turns,
                queues._counts,
                queues._receiver.deliver,
                told,
                broadcast.answered,
            )
        _listen(store, queues, supervisor, broadcast)
        if supervisor is not None:
            await supervisor.join()
        async with open_service_nursery() as nursery:
            nursery.start_soon(queues._receiver.run, name="receiver")
            if supervisor is not None:
                nursery.start_soon(supervisor.run, name="supervisor")
                nursery.start_soon(broadcast.run, name="broadcast")
                for scaler in scalers:
                    nursery.start_soon(keep_awake, store, scaler, supervisor.serving, name=scaler.schedule)
            queues._supervisor, queues._services = supervisor, nursery
            for schedule in registry.schedules() if registry is not None else ():
                nursery.start_soon(
                    keep, store, schedule, partial(queues.encode_anew, schedule.command), name=schedule.name
                )
            soft = False
            try:
                if supervisor is not None:
                    # Else what is sent first would be placed as if a stranger had sent it, and its hint be missed.
                    await supervisor.wait_serving()
                yield queues
                soft = True
            finally:
                # Without the shield a cancelled pod would leave its entities to be reaped, a lease later.
                with trio.CancelScope(
                    shield=True, deadline=trio.current_time() + _patience(drain, soft=soft)
                ):
                    if supervisor is not None:
                        await supervisor.end(soft=soft)
                        await broadcast.flush()
                queues._services = None
                queues._receiver.close(Closed())
                queues._listeners.close()


def _patience(drain: Drain, *, soft: bool) -> float:
    return (drain.soft if soft else 0.0) + drain.hard + END_PATIENCE


def _listen(store: Store, queues: AtomicQueues, supervisor: Supervisor | None, broadcast: Broadcast) -> None:
    """Leads hints to where they are waited for."""

    def hinted(hint: Hint) -> None:
        if isinstance(hint, Answered):
            queues._receiver.deliver(hint.command_id, hint.outcome)
            queues._followers.settled(hint.command_id)
            return
        if isinstance(hint, Progress):
            queues._followers.tell(hint.command_id, hint.word)
            return
        if isinstance(hint, Told):
            queues._listeners.take(hint.data)
            return
        incarnation = supervisor.incarnation if supervisor else None
        if incarnation is None:
            return
        match hint:
            case Watched(types):
                broadcast.hinted(types)
            case Wake(entity):
                incarnation.wake(entity)
            case Due():
                incarnation.look_at_due()
            case KeepAwake(entities, seconds):
                incarnation.keep(entities, seconds)
            case Changed(entity):
                incarnation.look_at(entity)
            case CancelAsked(entity, command_id):
                incarnation.cancel_command(entity, command_id)

    def connected() -> None:
        queues._receiver.look_soon()
        if supervisor is not None and supervisor.incarnation is not None:
            supervisor.incarnation.look_soon()

    store.listen(hinted, connected)


def _open_store(
    url: str | MemoryServer | None,
    prefix: str,
    limits: Limits,
    *,
    serves: bool,
    replicated: bool,
    allow_eviction: bool,
) -> AbstractAsyncContextManager[Store]:
    _check_that_trio_runs()
    if url is None:
        url = os.environ.get("TRIOQUEUE_URL")
        if url is None:
            url = "memory://"
            logger.warning(
                "no URL given and TRIOQUEUE_URL not set: memory:// is used, nothing outlives this process",
                extra={"event": "no_url"},
            )
    if replicated and (isinstance(url, MemoryServer) or url.lower().startswith("memory:")):
        raise Incompatible("memory:// has no replicas, open a Redis or leave out durability='replica'")
    if isinstance(url, MemoryServer):
        return open_memory_store(url)
    scheme, separator, rest = url.partition("://")
    match scheme.lower() if separator else "":
        case "memory":
            if replicated:
                raise Incompatible(
                    "memory:// has no replicas, open a Redis or leave out durability='replica'"
                )
            if rest:
                raise BadUrl("memory:// takes nothing behind it, each opening has a store of its own")
            if not serves:
                logger.warning(
                    "memory:// is in this process, and nothing is served here: whatever is sent waits for ever, "
                    "so open with registry=...",
                    extra={"event": "nobody_serves"},
                )
            return open_memory_store()
        case "redis" | "rediss" | "unix":
            # Here, as it brings redis-py along, which takes as long as all other imports.
            from trioqueue.stores.redis.store import open_redis_store  # noqa: PLC0415

            return open_redis_store(
                url,
                prefix=prefix,
                unanswered=limits.unanswered,
                allow_eviction=allow_eviction,
                replicated=replicated,
            )
        case _:
            raise BadUrl("its scheme is none of memory://, redis://, rediss://, unix://")


def _check_that_trio_runs() -> None:
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        raise RuntimeError(
            "the queues run on Trio: begin with trio.run(main), or send with trioqueue.blocking"
        ) from None


def default_pod_name() -> str:
    """Names this process for people: host and process id, as far as that is legal."""
    host = re.sub(r"[^A-Za-z0-9_.-]+", "-", socket.gethostname())[:48] or "pod"
    return f"{host}-{os.getpid()}"
