"""A game table with a clock: who does not move in time loses.

    python examples/game_table.py                           # in this process
    python examples/game_table.py redis://localhost:6379    # on Redis

Players take one to three matches in turn, and who takes the last one wins.  Each move puts off a command that says
"time is up", and the next move in time withdraws it.
"""

import sys

import attrs
import trio

from trioqueue import (
    AtomicQueues,
    Command,
    Context,
    EntityPolicy,
    Receipt,
    Registry,
    Rejection,
    command,
    entity_id,
    open_atomic_queues,
    state,
)

registry = Registry()

TABLE = "by the window"
SECONDS_TO_MOVE = 0.8


@state("table")
class Table:
    # Who is to move comes first.
    players: list[str] = attrs.field(factory=list[str])
    matches: int = 0
    # Rises with each move and with each new game, so it names one turn in the whole life of the table.
    turn: int = 0
    # The command that was put off for this turn; None: no game is on.
    alarm: Receipt[bool] | None = None
    winner: str = ""


@attrs.define
class NotNow(Rejection):
    why: str


@attrs.frozen
class Moved:
    matches: int
    # That of the turn which ended with this move: nobody needs it any more.
    old_alarm: Receipt[bool]


@command("table")
class Begin(Command):
    table_id: str = entity_id()
    players: list[str]
    matches: int


@command("table", rejects=[NotNow])
class Take(Command[Moved]):
    table_id: str = entity_id()
    player: str
    matches: int


@command("table")
class TimeIsUp(Command[bool]):
    """Ends the game if it is still this turn; answers whether it was."""

    table_id: str = entity_id()
    turn: int


def begin_turn(table_id: str, table: Table, context: Context) -> None:
    table.turn += 1
    # It is accepted with the commit of this move or never: no turn lacks an alarm, and no move that failed has one.
    table.alarm = context.send(TimeIsUp(table_id, table.turn), delay=SECONDS_TO_MOVE)


@registry.handles(Begin)
async def begin(command: Begin, table: Table, context: Context) -> None:
    table.players, table.matches, table.winner = command.players, command.matches, ""
    begin_turn(command.table_id, table, context)


@registry.handles(Take)
async def take(command: Take, table: Table, context: Context) -> Moved:
    if table.alarm is None:
        raise NotNow("no game is on")
    if command.player != table.players[0]:
        raise NotNow(f"{table.players[0]} is to move")
    if not 1 <= command.matches <= min(3, table.matches):
        raise NotNow(f"{command.matches} can't be taken")
    table.matches -= command.matches
    moved = Moved(table.matches, table.alarm)
    if table.matches:
        table.players.append(table.players.pop(0))
        begin_turn(command.table_id, table, context)
    else:
        table.winner, table.alarm = command.player, None
    return moved


@registry.handles(TimeIsUp)
async def time_is_up(command: TimeIsUp, table: Table) -> bool:
    # It may come although the move was in time: it fell due while the move was handled and lies behind it in the
    # mailbox, or whoever was to withdraw it has died.  So the turn is compared, here, where nothing else happens to
    # the table meanwhile.  That is what keeps the game right; to withdraw an alarm only saves the table the trouble.
    if table.alarm is None or command.turn != table.turn:
        return False
    table.winner, table.alarm = table.players[1], None
    return True


async def move(queues: AtomicQueues, player: str, matches: int) -> Receipt[bool]:
    moved = await queues.call(Take(TABLE, player, matches))
    print(f"{player} takes {matches}, {moved.matches} are left")
    return moved.old_alarm


async def main(url: str) -> None:
    async with open_atomic_queues(
        url,
        registry=registry,
        prefix="example-game-table",
        # It lets us wait for what becomes of an alarm.
        entities={"table": EntityPolicy(keep_results=60.0)},
    ) as queues:
        await queues.call(Begin(TABLE, ["ann", "bob"], matches=9))

        # A move in time.  The player's program withdraws the alarm of the turn that has ended.
        alarm = await move(queues, "ann", 2)
        print(f"the alarm of this turn: {await queues.cancel(alarm)}")

        # Another one, and the player's program dies before it can withdraw anything.
        forgotten = await move(queues, "bob", 3)

        # The last move does not come.
        table = await queues.state(Table, TABLE)
        assert table.alarm is not None
        print(f"{table.players[0]} falls asleep")
        assert not await queues.result(forgotten)
        print("the alarm that was not withdrawn: ignored")
        assert await queues.result(table.alarm)
        table = await queues.state(Table, TABLE)
        print(f"time is up, {table.winner} wins")


if __name__ == "__main__":
    trio.run(main, sys.argv[1] if len(sys.argv) > 1 else "memory://")
