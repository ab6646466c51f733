"""The part of the machine that sends: groups in one call, lost, unanswered or refused, and copies that arrive late."""

import contextlib
from typing import Any

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from stores.both import normal
from stores.machine_fleet import FleetMachine, clients, entities, one_in_three, some_entities
from stores.pictures import CLIENTS
from stores.script_link import argument

from trioqueue._errors import OutcomeUnknown, StoreFull
from trioqueue._names import Entity
from trioqueue.protocol.lifecycle import Mode
from trioqueue.stores.contract import ClaimWish, Group, LeaseLost, Member, NotClaimed, Outgoing
from trioqueue.stores.memory.mailboxes import Quarantined, client_of
from trioqueue.stores.redis.batch import SendSection
from trioqueue.stores.reports import Queued


@attrs.frozen
class Sent:
    """A send as it was packed: what its copies mean, whenever they arrive."""

    packed: bytes
    client: str
    low: int
    groups: tuple[Group, ...]
    member: Member | None
    wishes: tuple[ClaimWish, ...]

    def entities(self) -> list[Entity]:
        """Those it names, in order."""
        return list(dict.fromkeys(one.entity for group in self.groups for one in group.commands))


@attrs.define
class Token:
    """A claim that was answered: what commits and releases name."""

    member: Member
    entity: Entity
    epoch: int
    done: int


class SendMachine(FleetMachine):
    """A fleet, and its clients that send."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens: list[Token] = []
        self.sent: list[Sent] = []
        self.voided: list[tuple[bytes, str, int, int]] = []
        self.unknown: dict[str, list[Group]] = {name: [] for name in CLIENTS}  # whether they were taken
        self.commands = 0

    def command(self) -> bytes:
        self.commands += 1
        return b"%d" % self.commands

    def version(self, entity: Entity) -> str:
        return self.memory.states.get(entity, ("",))[0]

    def keep(self, member: Member | None, entity: Entity, claim: Any) -> None:
        """Keeps what a claim answered, for commits and releases to come."""
        if member and hasattr(claim, "epoch"):
            self.tokens.append(Token(member, entity, claim.epoch, getattr(claim, "done", 0)))

    # -------------------------------------------------------------------------------- sending
    @rule(
        client=clients,
        groups=st.lists(some_entities, min_size=1, max_size=3),
        by=st.sampled_from(["nobody", "pod", "pod", "wishing pod", "wishing pod"]),
        fate=st.sampled_from(["answered", "answered", "answered", "lost", "lost", "unanswered", "refused"]),
        unknown=st.booleans(),
        have=st.booleans(),
    )
    def send(
        self, client: str, groups: list[list[Entity]], by: str, fate: str, unknown: bool, have: bool
    ) -> None:
        """One call with some groups, and with those of before that nobody knows about."""
        mine = [one for one in self.members if client_of(one.incarnation) == client]
        member = mine[-1] if mine and by != "nobody" else None
        fresh = [Group([Outgoing(e, self.command()) for e in group]) for group in groups]
        asked = [*fresh, *(self.unknown[client] if unknown else [])]
        wishes: list[tuple[ClaimWish, ...]] = [
            tuple(
                ClaimWish(e, self.version(e) if have else "", 2)
                for e in dict.fromkeys(one.entity for one in group.commands)
            )
            if member and by == "wishing pod"
            else ()
            for group in asked
        ]
        batcher, link = self.both.stores[client]._batcher, self.both.link
        answers: dict[int, Any] = {}
        claims: list[tuple[Entity, Any]] = []
        whole: list[Sent] = []

        def redis() -> Any:
            link.sends.clear()
            link.voids.clear()
            link.fate = fate
            for number, (group, wished) in enumerate(zip(asked, wishes, strict=True)):
                batcher.send(
                    SendSection(
                        group,
                        lambda answer, number=number: answers.update({number: answer}),
                        member,
                        wished,
                        lambda *claim: claims.append(claim),
                    )
                )
            batcher.flush()
            link.fate = "answered"
            low = min(group.sequence for group in [*asked, *self.unknown[client]])
            assert int(argument(link.sends[0], 2)) == low, "the lowest unsettled sequence is told wrongly"
            every = {wish.entity: wish for wished in wishes for wish in wished}
            whole.append(Sent(link.sends[0], client, low, tuple(asked), member, tuple(every.values())))
            self.sent += whole
            return [_said(answers[number]) for number in range(len(asked))], [*map(_claim, claims)]

        def memory() -> Any:
            told = {"answered": None, "lost": "unknown", "unanswered": "unknown", "refused": None}[fate]
            dups: list[Any]
            if fate == "refused":
                dups = []
                for group, packed in zip(asked, link.voids, strict=True):
                    low, sequence = int(argument(packed, 2)), int(argument(packed, 3))
                    assert sequence == group.sequence
                    self.voided.append((packed, client, low, sequence))
                    dups.append(True if self.void(client, low, sequence) else "refused")
                answered: dict[Entity, Any] = {}
            else:
                dups, answered = self.take(whole[0]) if fate != "lost" else ([], {})
            told_all = [told] * len(asked) if told else dups
            heard = answered if fate == "answered" else {}
            claimed = [
                (wish.entity, heard.get(wish.entity, NotClaimed())) for wished in wishes for wish in wished
            ]
            return told_all, [*map(_claim, claimed)]

        to = " + ".join(
            "[" + " ".join(f"{c.data.decode()}:{c.entity}" for c in group.commands) + "]" for group in asked
        )
        self.ask(f"{client} sends {to} by {by} of {self.name(member)}, {fate}", redis, memory, again=False)
        settled = fate in ("answered", "refused")
        for group in asked:
            if settled and group in self.unknown[client]:
                self.unknown[client].remove(group)
            if not settled and group not in self.unknown[client]:
                self.unknown[client].append(group)
        for entity, claim in claims:
            self.keep(member, entity, claim)

    def take(self, sent: Sent) -> tuple[list[bool], dict[Entity, Any]]:
        """Does in memory what one send call does: groups in turn, entities in the order of naming, then wishes."""
        memory, member = self.memory, sent.member
        if member and not sent.wishes and not self.both.link.is_known:
            member = Member(
                member.incarnation, memory.generation
            )  # only a preferred place: any server will do
        self.both.claimed_at_once |= {(sent.client, wish.entity) for wish in sent.wishes}
        order = sent.entities()
        wishes = sorted(sent.wishes, key=lambda wish: order.index(wish.entity))
        if len(sent.groups) == 1:
            [group] = sent.groups
            duplicate, claims = memory.send(
                sent.client, sent.low, group.sequence, group.commands, member, wishes
            )
            return [duplicate], dict(claims)
        fresh = [memory.producers[sent.client].takes(sent.low, group.sequence) for group in sent.groups]
        here = None
        with contextlib.suppress(LeaseLost, Quarantined):
            here = member and memory._registered(member) and member.incarnation
        claims = []
        for entity in order:
            for is_new, group in zip(fresh, sent.groups, strict=True):
                for command in group.commands:
                    if is_new and command.entity == entity:
                        memory._push(entity, Queued(self.both.now, command.data), prefer=here)
        for wish in wishes:
            box = memory.mailboxes.get(wish.entity)
            repeated = any(
                not is_new and wish.entity in [one.entity for one in group.commands]
                for is_new, group in zip(fresh, sent.groups, strict=True)
            )
            if here and member and box and box.owner == here and (box.mode is Mode.PARKED or repeated):
                claims.append((wish.entity, memory.claim(member, wish.entity, wish.have, wish.fetch)))
        return [not is_new for is_new in fresh], dict(claims)

    def void(self, client: str, low: int, sequence: int) -> bool:
        """Voids in memory, with the lowest open sequence, that a network's late copies make necessary."""
        seen = self.memory.producers[client]
        repeated = sequence in seen.voided
        taken = self.memory.void(client, sequence)
        if not taken and not repeated:
            seen.low = max(seen.low, low)
            seen.gaps = {gap for gap in seen.gaps if gap >= seen.low}
            seen.voided = {number for number in seen.voided if number >= seen.low}
        return taken

    @precondition(lambda self: self.sent)
    @rule(age=st.integers(0, 6), void=one_in_three)
    def send_arrives_late(self, age: int, void: bool) -> None:
        """A copy of a send or void that the network kept: nobody hears the answer."""
        if void and self.voided:
            packed, *what = self.voided[-1 - age % len(self.voided)]
            self.ask(
                f"late: a copy of void {what}",
                lambda: self.both.link.run(packed) == b"ACCEPTED",
                lambda: self.void(*what),
                again=False,
            )
            return
        sent = self.sent[-1 - age % len(self.sent)]
        said = " ".join(str(group.sequence) for group in sent.groups)
        self.ask(
            f"late: a copy of {sent.client}'s send of {said}, low {sent.low}",
            lambda: [word == b"DUPLICATE" for word in self.both.link.run(sent.packed)[: len(sent.groups)]],
            lambda: self.take(sent)[0],
            again=False,
        )

    @rule(entity=entities, count=st.integers(1, 3), wishing=st.booleans(), overtakes=one_in_three)
    def send_some(self, entity: Entity, count: int, wishing: bool, overtakes: bool = False) -> None:
        """A client at its best, that of the owner; though an earlier send of it may be overtaken."""
        client, by = client_of(self.owner(entity).incarnation), "wishing pod" if wishing else "pod"
        if overtakes:
            self.send(client, [[entity]], by, "lost", False, False)
        self.send(client, [[entity] * count], by, "answered", False, False)
        if overtakes:
            self.send_arrives_late(1, False)

    def abandon(self, client: str) -> None:
        for group in self.unknown[client]:
            self.both.log.append(f"{client} abandons {group.sequence}")
            self.both.stores[client].abandon(group)
        self.unknown[client].clear()


def _said(answer: object) -> object:
    match answer:
        case OutcomeUnknown():
            return "unknown"
        case StoreFull():
            return "refused"
        case _:
            return answer


def _claim(claim: tuple[Entity, Any]) -> Any:
    entity, answer = claim
    return entity, normal(answer)
