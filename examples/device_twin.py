"""Device twins: what is known of each device, kept by one entity that alone talks to it.

    python examples/device_twin.py                           # in this process
    python examples/device_twin.py redis://localhost:6379    # on Redis; start it twice to see that twins stay

The devices are simulated: one TCP server in this process answers for all of them.
"""

import sys
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

import attrs
import trio

from trioqueue import (
    AtomicQueues,
    Command,
    Entity,
    Query,
    RawCommand,
    Registry,
    command,
    entity_id,
    open_atomic_queues,
    query,
    state,
)

registry = Registry()

ROOMS = ["attic", "cellar", "hall"]


# The twin: what the device reported last, also while it is out of reach.
@state("device")
class Twin:
    reported: dict[str, float] = attrs.field(factory=dict[str, float])
    # Names of telemetry that came and nobody knew, and how often.
    unknown: dict[str, int] = attrs.field(factory=dict[str, int])


@query("device")
class ReadTwin(Query[Twin]):
    device_id: str = entity_id()


@command("device")
class Adjust(Command[float]):
    device_id: str = entity_id()
    target: float


@command("device")
class Temperature(Command):
    device_id: str = entity_id()
    celsius: float


@attrs.frozen
class Site:
    """Where the devices are to be reached, and how often that was done."""

    port: int
    connections: Counter[str] = attrs.field(factory=Counter[str])


class Connection:
    """An open connection to one device, on which one question is asked at a time."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._broken = trio.Event()

    async def ask(self, question: str) -> str:
        if self._broken.is_set():
            raise ConnectionError("the connection is of no use any more")
        try:
            await self._stream.send_all(question.encode() + b"\n")
            return await read_line(self._stream)
        except BaseException:
            # Cancelled, say, because the caller has gone: the next question must not get the answer to this one.
            self._broken.set()
            raise

    async def watch(self) -> None:
        """Ends the activation when the connection breaks."""
        await self._broken.wait()
        raise ConnectionError("the connection broke")


async def read_line(stream: trio.SocketStream) -> str:
    line = b""
    while not line.endswith(b"\n"):
        more = await stream.receive_some()
        if not more:
            raise ConnectionError("the other side has hung up")
        line += more
    return line.decode().rstrip("\n")


# Entered when a device's twin awakes, left when it is let go.  A twin awakes in one process at a time, so the device
# has one connection in the whole fleet.
@registry.activation("device")
@asynccontextmanager
async def connected(entity: Entity, nursery: trio.Nursery, site: Site) -> AsyncGenerator[Connection]:
    async with await trio.open_tcp_stream("127.0.0.1", site.port) as stream:
        connection = Connection(stream)
        await connection.ask(f"hello {entity.id}")
        site.connections[entity.id] += 1
        # An error in this nursery ends the activation: the next command, or this one once more, opens another.
        nursery.start_soon(connection.watch)
        yield connection


@registry.handles(Adjust)
async def adjust(command: Adjust, twin: Twin, connection: Connection) -> float:
    # No lock for the connection: a twin handles one command at a time.  If we die now, this is said to the device once
    # more, so it is a target, and not a step up or down.
    twin.reported["target"] = float(await connection.ask(f"target {command.target}"))
    return twin.reported["target"]


@registry.handles(Temperature)
async def temperature(command: Temperature, twin: Twin) -> None:
    twin.reported["temperature"] = command.celsius


@registry.handles(ReadTwin)
async def read_twin(command: ReadTwin, twin: Twin) -> Twin:
    return twin


# Devices are newer than this program, as ever.  What they report is counted, and does not wait for a handler.
@registry.on("device", "*")
async def telemetry(command: RawCommand, twin: Twin) -> None:
    twin.unknown[command.name] = twin.unknown.get(command.name, 0) + 1


# What the gateway of the newest devices sends.  These classes are in another program; this one has no handler for them.
@command("device")
class Humidity(Command):
    device_id: str = entity_id()
    percent: float


@command("device", name="battery-low")
class BatteryLow(Command):
    device_id: str = entity_id()
    volts: float


async def simulated_device(stream: trio.SocketStream) -> None:
    """Answers as a thermostat: to a name with it, to a target with the nearest half degree."""
    try:
        while True:
            asked, _, value = (await read_line(stream)).partition(" ")
            await trio.sleep(0.01)  # it is a small device
            answer = value if asked == "hello" else str(round(2 * float(value)) / 2)
            await stream.send_all(answer.encode() + b"\n")
    except (ConnectionError, trio.BrokenResourceError):
        return


async def turn_up(queues: AtomicQueues, room: str) -> None:
    for target in (18.0, 20.0, 21.3):
        await queues.call(Adjust(room, target))


async def use(queues: AtomicQueues, site: Site) -> None:
    # Each device is told one thing after another, and all devices at the same time.
    async with trio.open_nursery() as nursery:
        for room in ROOMS:
            nursery.start_soon(turn_up, queues, room)
    print(f"targets set: {3 * len(ROOMS)}, over {site.connections.total()} connections")

    # Telemetry is sent and not called: nobody waits for an answer.
    await queues.send_many([Temperature(room, 19.5) for room in ROOMS])
    await queues.send_many([Humidity("cellar", 60.0 + number) for number in range(3)])
    await queues.send(BatteryLow("cellar", 2.9))

    # A query has its place in the line, so this one sees all that was sent before.
    twin = await queues.call(ReadTwin("cellar"))
    print(f"cellar: set to {twin.reported['target']}, measures {twin.reported['temperature']}")
    print(f"telemetry of the cellar that nobody knows: {', '.join(sorted(twin.unknown))}")


async def main(url: str) -> None:
    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, simulated_device, 0, host="127.0.0.1")
        (listener,) = await nursery.start(serve)
        site = Site(listener.socket.getsockname()[1])
        async with open_atomic_queues(
            url, registry=registry, prefix="example-device-twin", provide={Site: site}
        ) as queues:
            await use(queues, site)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, sys.argv[1] if len(sys.argv) > 1 else "memory://")
