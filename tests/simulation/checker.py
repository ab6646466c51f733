"""What must hold of a history, whatever went wrong in it.

`check` reads the history once, from its beginning to its end, and keeps for each entity the line of accepted
commands as the server must have it, how many of them have left, who runs a handler, and the highest fence that the
store outside has seen.  When the server falls back to a copy, the line falls back too: what was accepted or
settled after the copy never was, and only that may be lost.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import attrs

from .history import (
    Accepted,
    Answered,
    Asked,
    Buried,
    Cancelled,
    Claimed,
    Confirmed,
    Copied,
    Dropped,
    Effect,
    Ended,
    Event,
    Failed,
    Fault,
    FellBack,
    Final,
    Gone,
    Held,
    Killed,
    Log,
    Purged,
    PutOff,
    Reaped,
    Redelivered,
    Settled,
    Started,
    Stopped,
    Thawed,
    Ticked,
    Trusted,
    Withdrawn,
    Wrong,
)
from .holding import Holding

ATTEMPTS = 3
"""Of every command."""

MAX_CRASHES = 3
"""Deaths of pods that a command may survive."""

NOTICE = 0.11
"""Seconds in which a process that goes on has noticed that its lease is over."""


@attrs.define
class Line:
    """One entity as the server must have it: live commands in the order of acceptance, the first `gone` have left."""

    numbers: list[int] = attrs.field(factory=list)
    gone: int = 0


@attrs.define(eq=False)
class Checker:
    """Takes event after event, and notes what must not be in `wrong`."""

    wrong: list[str] = attrs.field(factory=list)
    asked: dict[int, Asked] = attrs.field(factory=dict)
    confirmed: set[int] = attrs.field(factory=set)
    cancelled: set[int] = attrs.field(factory=set)
    answers: dict[int, int] = attrs.field(factory=dict)
    lines: defaultdict[str, Line] = attrs.field(factory=lambda: defaultdict(Line))
    # Live commands -> place in the order of all acceptances; and those of branches that never were.
    accepted: dict[int, float] = attrs.field(factory=dict)
    settled: dict[int, int] = attrs.field(factory=dict)  # -> the epoch that settled it
    forgotten: set[int] = attrs.field(factory=set)
    acceptances: int = 0
    put_off: dict[int, float] = attrs.field(factory=dict)  # live commands that are or were: when each is due
    # Of each entity and key, all commands that the server took; more than one only if it fell back.
    of_key: defaultdict[tuple[str, str], set[int]] = attrs.field(factory=lambda: defaultdict(set))
    # What to take back when the server falls back: in the order in which it was done.
    done: list[PutOff | Accepted | Settled | Callable[[], object]] = attrs.field(factory=list)
    copies: dict[int, int] = attrs.field(factory=dict)
    fell_back: bool = False
    # Highest number that was accepted of each line of sends to each entity.
    sent_up_to: dict[tuple[str, str], int] = attrs.field(factory=dict)
    overtaken: list[tuple[int, int]] = attrs.field(factory=list)
    # Epochs.
    highest: dict[str, int] = attrs.field(factory=dict)
    holder: dict[tuple[str, int], str] = attrs.field(factory=dict)
    # Handlers that run: of each entity, (number, fence) -> process.
    running: defaultdict[str, dict[tuple[int, int], str]] = attrs.field(factory=lambda: defaultdict(dict))
    starts: Counter[int] = attrs.field(factory=Counter)
    began: set[tuple[int, int]] = attrs.field(factory=set)
    over: set[tuple[int, int]] = attrs.field(factory=set)
    failures: Counter[int] = attrs.field(factory=Counter)
    reaped: Counter[str] = attrs.field(factory=Counter)
    interruptions: int = 0  # things that can make handlers start once more
    trusted: dict[str, float] = attrs.field(factory=dict)
    stopped: set[str] = attrs.field(factory=set)
    thawed: dict[str, float] = attrs.field(factory=dict)
    # The store outside: fence, and the place of the last command that it took under it.
    outside: dict[str, tuple[int, float]] = attrs.field(factory=dict)
    # What operators did.
    holding: Holding = attrs.field(factory=Holding)
    purged: set[int] = attrs.field(factory=set)
    buried: set[int] = attrs.field(factory=set)  # dead letters that are still there
    discarded: set[int] = attrs.field(factory=set)
    withdrawn: set[int] = attrs.field(factory=set)
    dropped: set[int] = attrs.field(factory=set)
    ticked: set[tuple[str, int]] = attrs.field(factory=set)
    ahead: int = 0  # how many were redelivered to a head
    effects: int = 0
    refused: int = 0
    unsettled: list[int] = attrs.field(factory=list)

    def take(self, event: Event) -> None:
        TAKES[type(event)](self, event)

    def _says(self, event: Any, what: str) -> None:
        self.wrong.append(f"{event.at:9.3f} {what}: {event}")

    # -------------------------------------------------------------------------------- sending
    def _asked(self, event: Asked) -> None:
        self.asked[event.number] = event

    def _confirmed(self, event: Confirmed) -> None:
        self.confirmed.add(event.number)
        if not any(self._was_taken(number) for number in self._stands_for(event.number)):
            self._says(event, "confirmed, and not accepted")

    def _was_taken(self, number: int) -> bool:
        return number in self.accepted or number in self.put_off or number in self.forgotten

    def _stands_for(self, number: int) -> set[int]:
        """Names the commands that are accepted in place of this one: itself, or one that was first with its key."""
        asked = self.asked.get(number)
        if asked is None or not asked.key:
            return {number}
        return self.of_key[asked.entity, asked.key]

    def _cancelled(self, event: Cancelled) -> None:
        self.cancelled.add(event.number)

    def _answered(self, event: Answered) -> None:
        self.answers[event.number] = event.value

    def _gone(self, event: Gone) -> None:
        if not self.fell_back:
            self._says(event, "told that it is gone")

    # -------------------------------------------------------------------------------- the server
    def _take_key(self, event: PutOff | Accepted) -> None:
        asked = self.asked.get(event.number)
        if asked is None or not asked.key:
            return
        same = self.of_key[asked.entity, asked.key]
        for other in same - {event.number} - self.forgotten:
            self._says(event, f"accepted beside {other}, which has its key")
        same.add(event.number)

    def _put_off(self, event: PutOff) -> None:
        if event.number in self.put_off or event.number in self.accepted:
            self._says(event, "accepted twice")
            return
        self.put_off[event.number] = event.due
        self.done.append(event)
        self._take_key(event)

    def _accepted(self, event: Accepted) -> None:
        number = event.number
        if number in self.accepted:
            self._says(event, "accepted twice")
            return
        self._take_key(event)
        if number in self.withdrawn:
            self._says(event, "moved although it was withdrawn")
        if event.clock < self.put_off.get(number, 0.0):
            self._says(event, "moved before it was due")
        self.acceptances += 1
        self.accepted[number] = self.acceptances
        self.lines[event.entity].numbers.append(number)
        self.done.append(event)
        asked = self.asked.get(number)
        if asked is None:
            self._says(event, "accepted, and nobody sent it")
        elif asked.line and number not in self.put_off:
            of = (asked.line, event.entity)
            before = self.sent_up_to.get(of, 0)
            if number < before:
                self.overtaken.append((number, before))
            self.sent_up_to[of] = max(before, number)

    def _settled(self, event: Settled) -> None:
        line = self.lines[event.entity]
        if event.number in self.settled:
            self._says(event, "settled twice")
        elif line.gone == len(line.numbers) or line.numbers[line.gone] != event.number:
            self._says(event, "settled out of turn")
        else:
            line.gone += 1
            self.settled[event.number] = event.epoch
            self.done.append(event)
        self.holding.commit(event.entity)

    def _failed(self, event: Failed) -> None:
        self.failures[event.number] += 1
        self.holding.commit(event.entity)

    # -------------------------------------------------------------------------------- operators
    def _held(self, event: Held) -> None:
        self.holding.hold(event.what, held=event.held)
        self.interruptions += 1  # what goes on has all its attempts again

    def _purged(self, event: Purged) -> None:
        line, number = self.lines[event.entity], event.number
        if line.gone == len(line.numbers) or line.numbers[line.gone] != number:
            self._says(event, "purged, and it is not the head")
            return
        line.gone += 1
        self.settled[number] = self.highest.get(event.entity, 0)
        self.purged.add(number)
        self.interruptions += 1  # its worker claims anew
        self.done.append(lambda: self._take_back_purge(line, number))

    def _take_back_purge(self, line: Line, number: int) -> None:
        line.gone -= 1
        del self.settled[number]
        self.purged.discard(number)

    def _buried(self, event: Buried) -> None:
        self.buried.add(event.number)
        self.done.append(lambda: self.buried.discard(event.number))

    def _redelivered(self, event: Redelivered) -> None:
        line, number = self.lines[event.entity], event.number
        if number not in self.buried:
            self._says(event, "redelivered, and no dead letter")
            return
        self.buried.discard(number)
        if event.where == "nowhere":
            self.discarded.add(number)
            self.done.append(lambda: (self.discarded.discard(number), self.buried.add(number)))
            return
        self.interruptions += ATTEMPTS + 1
        self.began = {one for one in self.began if one[0] != number}  # a worker may get it once more
        before = self.settled.pop(number), self.accepted[number]
        self.acceptances += 1
        if event.where == "tail" or line.gone == len(line.numbers):
            at, place = len(line.numbers), float(self.acceptances)
        else:
            self.ahead += 1
            at, place = line.gone, self.accepted[line.numbers[line.gone]] - 0.5**self.ahead
        line.numbers.insert(at, number)
        self.accepted[number] = place
        self.done.append(lambda: self._take_back_redelivery(line, at, before))

    def _take_back_redelivery(self, line: Line, at: int, before: tuple[int, float]) -> None:
        number = line.numbers.pop(at)
        self.settled[number], self.accepted[number] = before
        self.buried.add(number)

    def _withdrawn(self, event: Withdrawn) -> None:
        self.withdrawn.add(event.number)
        self.done.append(lambda: self.withdrawn.discard(event.number))

    def _dropped(self, event: Dropped) -> None:
        self.dropped.add(event.number)

    def _ticked(self, event: Ticked) -> None:
        tick = (event.schedule, event.tick)
        if tick in self.ticked:
            self._says(event, "the second command for one tick")
        if event.number and event.number not in self.accepted:
            self._says(event, "a tick without its command")
        self.ticked.add(tick)
        self.done.append(lambda: self.ticked.discard(tick))

    def _reaped(self, event: Reaped) -> None:
        self.reaped[event.entity] += 1

    def _copied(self, event: Copied) -> None:
        self.copies[event.copy] = len(self.done)
        self.holding.copy(event.copy)

    def _fell_back(self, event: FellBack) -> None:
        self.fell_back = True
        self.interruptions += 1
        keep = self.copies[event.copy]
        self.holding.fall_back(event.copy)
        # Copies of what never was are none any more.
        self.copies = {copy: length for copy, length in self.copies.items() if length <= keep}
        while len(self.done) > keep:
            undone = self.done.pop()
            if not isinstance(undone, PutOff | Accepted | Settled):
                undone()
                continue
            line = self.lines[undone.entity]
            if isinstance(undone, Settled):
                line.gone -= 1
                del self.settled[undone.number]
                continue
            if isinstance(undone, Accepted):
                assert line.numbers.pop() == undone.number
                del self.accepted[undone.number]
            else:
                del self.put_off[undone.number]
            if undone.number not in self.put_off:
                self.forgotten.add(undone.number)
        self.sent_up_to.clear()
        for number in self.accepted:
            asked = self.asked.get(number)
            if asked is not None and asked.line and number not in self.put_off:
                of = (asked.line, asked.entity)
                self.sent_up_to[of] = max(number, self.sent_up_to.get(of, 0))

    def _claimed(self, event: Claimed) -> None:
        if event.epoch <= self.highest.get(event.entity, 0):
            self._says(event, "an epoch that is not above all earlier ones")
        self.highest[event.entity] = max(event.epoch, self.highest.get(event.entity, 0))
        self.holder[event.entity, event.epoch] = event.process
        self.holding.claim(event.entity, event.epoch)

    # -------------------------------------------------------------------------------- pods
    def _trusted(self, event: Trusted) -> None:
        self.trusted[event.process] = max(event.until, self.trusted.get(event.process, 0.0))

    def _started(self, event: Started) -> None:
        number, entity = event.number, event.entity
        self.starts[number] += 1
        if (number, event.fence) in self.began:
            self._says(event, "started twice under one fence")
        self.began.add((number, event.fence))
        if number not in self.accepted and number not in self.forgotten and not self.fell_back:
            self._says(event, "started, and not accepted")
        if self.holder.get((entity, event.fence)) != event.process:
            self._says(event, "started under the fence of another")
        if self.trusted.get(event.process, 0.0) <= event.at:
            self._says(event, "started without a lease")
        if not 1 <= event.attempt <= ATTEMPTS:
            self._says(event, "an attempt too many")
        if event.fence > self.settled.get(number, event.fence):
            self._says(event, "started although it was settled")
        if self.holding.forbids(entity, event.fence):
            self._says(event, "started although it is held back")
        if number in self.dropped and not self.fell_back:
            self._says(event, "started although its sender was told that it never will")
        for (other, fence), process in self.running[entity].items():
            if not self._excused(process, event.at):
                self._says(event, f"runs beside {other} of {process} under {fence}")
        self.running[entity][number, event.fence] = event.process

    def _excused(self, process: str, at: float) -> bool:
        """Says whether a process stood still while its lease ended, so that its handlers could not be cancelled."""
        if self.trusted.get(process, 0.0) > at:
            return False
        return process in self.stopped or self.thawed.get(process, -1.0) >= at - NOTICE

    def _ended(self, event: Ended) -> None:
        self.running[event.entity].pop((event.number, event.fence), None)
        self.over.add((event.number, event.fence))

    def _effect(self, event: Effect) -> None:
        fence, place = self.outside.get(event.entity, (0, 0))
        if event.fence < fence:
            self.refused += 1
            return
        self.effects += 1
        if self.holder.get((event.entity, event.fence)) != event.process:
            self._says(event, "an effect under the fence of another")
        if event.fence > self.settled.get(event.number, event.fence):
            self._says(event, "an effect although it was settled")
        now = self.accepted.get(event.number, place)
        # What a cancelled handler had sent already may come later than what the next one sends.
        if event.fence == fence and now < place and (event.number, event.fence) not in self.over:
            self._says(event, "an effect out of order")
        self.outside[event.entity] = (event.fence, now)

    def _stopped(self, event: Stopped) -> None:
        self.stopped.add(event.process)
        self.interruptions += 1

    def _thawed(self, event: Thawed) -> None:
        self.stopped.discard(event.process)
        self.thawed[event.process] = event.at

    def _killed(self, event: Killed) -> None:
        self.interruptions += 1
        for turns in self.running.values():
            for turn in [turn for turn, process in turns.items() if process == event.process]:
                del turns[turn]

    def _fault(self, event: Fault) -> None:
        self.interruptions += 1

    def _log(self, event: Log) -> None:
        pass

    def _wrong(self, event: Wrong) -> None:
        self._says(event, "seen by the simulation")

    # -------------------------------------------------------------------------------- the end
    def finish(self, final: Final) -> None:  # noqa: C901 - one judgement after the other
        """Judges what is left."""
        stood: dict[int, str] = {}
        for entity, numbers in final.states.items():
            for number in numbers:
                if number in stood:
                    self.wrong.append(f"{number} stands twice, in {stood[number]} and {entity}")
                stood[number] = entity
            places = [self.accepted.get(number, 0) for number in numbers]
            if places != sorted(places) or 0 in places:
                self.wrong.append(f"{entity} has {numbers}, accepted were {self.lines[entity].numbers}")
        for late, early in self.overtaken:
            if late not in self.cancelled and late in self.accepted and early in self.accepted:
                self.wrong.append(f"{late} was sent before {early} by one sender, and accepted after it")
        for number in self.put_off.keys() - self.accepted.keys() - self.withdrawn:
            self.wrong.append(f"{number} was put off, and never moved")
        for number in self.confirmed:
            taken = self._stands_for(number)
            if not taken & (self.accepted.keys() | self.forgotten | self.withdrawn):
                self.wrong.append(f"{number} was confirmed and is lost")
        for number in self.accepted:
            self._judge(number, stood, final)
        if self.unsettled:
            self.wrong.append(f"accepted and never settled: {self.unsettled}")
        for asked, value in self.answers.items():
            number = min(self._stands_for(asked) & self.accepted.keys(), default=asked)
            if not self.fell_back and number in stood:
                is_answer = final.states[stood[number]].index(number) + 1
                if value != is_answer:
                    self.wrong.append(f"the answer to {number} was {value}, not {is_answer}")
            elif not self.fell_back:
                self.wrong.append(f"{number} was answered {value}, and does not stand")
        for entity, turns in self.running.items():
            if turns:
                self.wrong.append(f"handlers of {entity} did not end: {turns}")

    def _judge(self, number: int, stood: dict[int, str], final: Final) -> None:
        """Judges one accepted command: it left once, in one of the ways that were open to it."""
        asked = self.asked.get(number)
        if asked is None:
            return
        if number not in self.settled:
            self.unsettled.append(number)
            return
        done, dead = number in stood, number in final.dead
        killer = dead and "PodsDied" in final.dead[number]
        if done and dead:
            self.wrong.append(f"{number} stands and is a dead letter: {final.dead[number]}")
        if killer and self.reaped[asked.entity] <= MAX_CRASHES:
            self.wrong.append(
                f"{number} is dead for {self.reaped[asked.entity]} deaths of pods: {final.dead[number]}"
            )
        if number in self.purged or number in self.discarded:
            legal = not (done or dead)
        elif done:
            legal = asked.fate not in {"poison", "hang", "refuse"}
        elif dead:
            legal = killer or asked.fate in {"poison", "hang"}
        else:
            legal = asked.bounded or asked.fate == "refuse"
        if not legal:
            what = "stands" if done else "is dead" if dead else "left without an effect"
            self.wrong.append(f"{number} {what}, and should not: {asked} {final.dead.get(number, '')}")
        for child in asked.children:
            if done != (child in self.accepted):
                self.wrong.append(
                    f"{child}, child of {number}, was {'never ' if done else ''}accepted, although its "
                    f"parent {'stands' if done else 'does not stand'}: {asked}"
                )
        if self.starts[number] > ATTEMPTS + self.interruptions:
            self.wrong.append(
                f"{number} was started {self.starts[number]} times after {self.interruptions} faults"
            )


TAKES: dict[type[Any], Any] = {
    Asked: Checker._asked,
    Confirmed: Checker._confirmed,
    Cancelled: Checker._cancelled,
    Answered: Checker._answered,
    Gone: Checker._gone,
    PutOff: Checker._put_off,
    Accepted: Checker._accepted,
    Claimed: Checker._claimed,
    Settled: Checker._settled,
    Failed: Checker._failed,
    Held: Checker._held,
    Purged: Checker._purged,
    Buried: Checker._buried,
    Redelivered: Checker._redelivered,
    Withdrawn: Checker._withdrawn,
    Dropped: Checker._dropped,
    Ticked: Checker._ticked,
    Reaped: Checker._reaped,
    Trusted: Checker._trusted,
    Started: Checker._started,
    Ended: Checker._ended,
    Effect: Checker._effect,
    Stopped: Checker._stopped,
    Thawed: Checker._thawed,
    Killed: Checker._killed,
    Copied: Checker._copied,
    FellBack: Checker._fell_back,
    Fault: Checker._fault,
    Log: Checker._log,
    Wrong: Checker._wrong,
}


def check(history: Iterable[Event], final: Final) -> list[str]:
    """Says all that is wrong with a history; nothing, if all is well."""
    checker = Checker()
    for event in history:
        checker.take(event)
    checker.finish(final)
    return checker.wrong
