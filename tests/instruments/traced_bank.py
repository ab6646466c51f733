"""A bank whose transfers and accounts may be on different pods; run as a module, one pod of it in its own process."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import trio
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from trioqueue import (
    Command,
    Context,
    EntityPolicy,
    Registry,
    Rejection,
    Retry,
    command,
    entity_id,
    open_atomic_queues,
    state,
)
from trioqueue.instruments import Traces

POLICIES = {"account": EntityPolicy(retry=Retry(attempts=3, wait_first=0.01, jitter=False))}


@state("account")
class Account:
    balance: int = 100


@attrs.define
class InsufficientFunds(Rejection):
    balance: int


@command("account")
class Deposit(Command[int]):
    account_id: str = entity_id()
    amount: int


@command("account", rejects=[InsufficientFunds])
class Withdraw(Command[int]):
    account_id: str = entity_id()
    amount: int


@command("transfer")
class Transfer(Command):
    transfer_id: str = entity_id()
    source: str
    target: str
    amount: int


def new_registry() -> Registry:
    registry = Registry()

    @registry.handles(Deposit)
    async def deposit(command: Deposit, account: Account) -> int:
        account.balance += command.amount
        return account.balance

    @registry.handles(Withdraw)
    async def withdraw(command: Withdraw, account: Account) -> int:
        if account.balance < command.amount:
            raise InsufficientFunds(account.balance)
        account.balance -= command.amount
        return account.balance

    @registry.handles(Transfer)
    async def transfer(command: Transfer, context: Context) -> None:
        await context.call(Withdraw(command.source, command.amount))
        context.send(Deposit(command.target, command.amount))

    return registry


@attrs.frozen
class Seen:
    """A span that has ended, as a picture of several processes needs it."""

    name: str
    span: str
    trace: str
    parent: str | None
    links: tuple[str, ...]  # the spans it is linked to
    kind: str
    attributes: dict[str, Any]
    status: str
    events: tuple[str, ...]

    @property
    def command(self) -> Any:
        return self.attributes.get("trioqueue.command")

    @property
    def outcome(self) -> Any:
        return self.attributes.get("trioqueue.outcome")

    @classmethod
    def of(cls, span: ReadableSpan) -> "Seen":
        return cls(
            span.name,
            f"{span.context.span_id:x}",
            f"{span.context.trace_id:x}",
            f"{span.parent.span_id:x}" if span.parent else None,
            tuple(f"{link.context.span_id:x}" for link in span.links),
            span.kind.name,
            dict(span.attributes or {}),
            span.status.status_code.name,
            tuple(event.name for event in span.events),
        )


class Recorder:
    """An instrument that traces, and the spans it has made."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.traces = Traces(tracer_provider=self.provider)

    def spans(self, name: str = "", *, command: str = "") -> list[Seen]:
        """Gives those of this name, or for this command, in the order in which they ended."""
        spans = [Seen.of(span) for span in self._exporter.get_finished_spans()]
        return [one for one in spans if name in ("", one.name) and command in ("", one.command)]

    def one(self, name: str, *, command: str = "") -> Seen:
        (found,) = self.spans(name, command=command)
        return found


class _Writer(SpanExporter):
    """Writes each span on a line."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        with self._path.open("a") as file:
            for span in spans:
                print(json.dumps(attrs.asdict(Seen.of(span))), file=file)
        return SpanExportResult.SUCCESS


def read_spans(path: Path) -> list[Seen]:
    """Reads what a process wrote."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [
        Seen(**{**line, "links": tuple(line["links"]), "events": tuple(line["events"])}) for line in lines
    ]


async def serve(settings: dict[str, Any]) -> None:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(_Writer(Path(settings["log"]))))
    async with open_atomic_queues(
        settings["url"],
        registry=new_registry(),
        serves=settings["serves"],
        entities=POLICIES,
        instruments=[Traces(tracer_provider=provider)],
    ) as queues:
        print("ready", flush=True)
        await queues.serve()


if __name__ == "__main__":
    trio.run(serve, json.loads(sys.argv[1]))
