"""The part of the machine that sends: groups in one call, lost, unanswered or refused, and copies that arrive late."""

import contextlib
from collections import Counter
from collections.abc import Iterable
from typing import Any

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from stores.both import normal
from stores.machine_fleet import FleetMachine, clients, entities, one_in_three, some_entities
from stores.pictures import CLIENTS, WORDS
from stores.script_link import argument

from trioqueue._errors import MailboxFull, OutcomeUnknown, StoreFull
from trioqueue._names import Entity
from trioqueue.protocol.lifecycle import Mode
from trioqueue.stores.contract import ClaimWish, Group, LeaseLost, Member, NotClaimed, Outgoing, Terms
from trioqueue.stores.memory.mailboxes import Quarantined, client_of
from trioqueue.stores.redis.batch import SendSection
from trioqueue.stores.redis.replies import words_of
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


LIMITS = {"c0": {}, "c1": {"a": 3}, "c2": {"a": 2, "b": 1}}
"""How many commands a mailbox may hold for a client: its own, as it is in one process."""

DELAYS = st.sampled_from([0, 0, 0, 1, 8, 8, 40])
"""Seconds by which a command is put off."""

WINDOW_MS = 15_000
"""How long a key stands for its first command."""


@attrs.frozen
class Asks:
    """What is asked for the commands of a group: every second one is put off; with a key, the group is one command.

    Of urgent ones, every third one is not.
    """

    delay: int = 0
    key: str = ""
    urgent: bool = False
    bare: bool = True  # without terms where nothing is asked

    def of(self, number: int, name: str) -> Terms | None:
        delay = self.delay if number % 2 == 0 else 0
        urgent = self.urgent and number % 3 != 1
        if not delay and not self.key and not urgent and self.bare:
            return None
        return Terms(name, delay * 1_000_000, self.key, WINDOW_MS if self.key else 0, urgent=urgent)


NOTHING = Asks()
ASKS = st.one_of(
    st.just(NOTHING),
    st.builds(Asks, delay=DELAYS, urgent=st.booleans(), bare=st.booleans()),
    st.builds(Asks, delay=DELAYS, key=st.sampled_from(["", *WORDS]), urgent=st.booleans()),
)


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
        return b"%04d" % self.commands  # none begins as another one does

    def group(self, entities: list[Entity], asks: Asks, client: str) -> Group:
        names = [self.command() for _ in entities[: 1 if asks.key else None]]
        commands = [
            Outgoing(entity, name, asks.of(number, name.decode()))
            for number, (entity, name) in enumerate(zip(entities, names, strict=False))
        ]
        return Group(commands, limits=LIMITS[client])

    def version(self, entity: Entity) -> str:
        return self.memory.states.get(entity, ("",))[0]

    def keep(self, member: Member | None, entity: Entity, claim: Any) -> None:
        """Keeps what a claim answered, for commits and releases to come."""
        if member and hasattr(claim, "epoch"):
            self.insist(self.ledger.claim(entity, claim.epoch))
            self.tokens.append(Token(member, entity, claim.epoch, getattr(claim, "done", 0)))

    # -------------------------------------------------------------------------------- sending
    @rule(
        client=clients,
        groups=st.lists(some_entities, min_size=1, max_size=3),
        asks=st.tuples(ASKS, ASKS, ASKS),
        by=st.sampled_from(["nobody", "pod", "pod", "wishing pod", "wishing pod"]),
        fate=st.sampled_from(["answered", "answered", "answered", "lost", "lost", "unanswered", "refused"]),
        unknown=st.booleans(),
        have=st.booleans(),
    )
    def send(
        self,
        client: str,
        groups: list[list[Entity]],
        by: str,
        fate: str,
        unknown: bool,
        have: bool,
        asks: tuple[Asks, ...] = (NOTHING, NOTHING, NOTHING),
    ) -> None:
        """One call with some groups, and with those of before that nobody knows about."""
        mine = [one for one in self.members if client_of(one.incarnation) == client]
        member = mine[-1] if mine and by != "nobody" else None
        fresh = [self.group(group, asked, client) for group, asked in zip(groups, asks, strict=False)]
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
            for group in asked:
                group.first_id = ""
            for number, (group, wished) in enumerate(zip(asked, wishes, strict=True)):
                batcher.send(
                    SendSection(
                        group,
                        member,
                        wished,
                        lambda *claim: claims.append(claim),
                        lambda answer, number=number: answers.update({number: answer}),
                    )
                )
            batcher.flush()
            link.fate = "answered"
            low = min(group.sequence for group in [*asked, *self.unknown[client]])
            assert int(argument(link.sends[0], 2)) == low, "the lowest unsettled sequence is told wrongly"
            every = {wish.entity: wish for wished in wishes for wish in wished}
            if argument(link.sends[0], 3):
                whole.append(Sent(link.sends[0], client, low, tuple(asked), member, tuple(every.values())))
            else:  # nobody's, or for a server that is no more
                whole.append(Sent(link.sends[0], client, low, tuple(asked), None, ()))
            self.sent += whole
            said = [_said(group, answers[number]) for number, group in enumerate(asked)]
            return said, [*map(_claim, claims)]

        def memory() -> Any:
            words: list[Any] = ["refused"] * len(asked)
            answered: dict[Entity, Any] = {}
            if fate in ("answered", "unanswered"):
                words, answered = self.take(whole[0])
            refused = [group for group, word in zip(asked, words, strict=True) if _is_refused(word)]
            for group, packed in zip(refused, link.voids, strict=fate == "refused"):
                low, sequence = int(argument(packed, 2)), int(argument(packed, 3))
                if sequence != group.sequence:
                    self.both.fail(f"{sequence} is refused, and voided, instead of {group.sequence}")
                self.voided.append((packed, client, low, sequence))
                if self.void(client, low, sequence):
                    words[asked.index(group)] = True
            if fate in ("lost", "unanswered"):
                words, answered = ["unknown"] * len(asked), {}
            claimed = [
                (wish.entity, answered.get(wish.entity, NotClaimed())) for wished in wishes for wish in wished
            ]
            return words, [*map(_claim, claimed)]

        to = " + ".join(
            "[" + " ".join(f"{c.data.decode()}:{c.entity}{_terms(c)}" for c in group.commands) + "]"
            for group in asked
        )
        words, _ = self.ask(
            f"{client} sends {to} by {by} of {self.name(member)}, {fate}", redis, memory, again=False
        )
        self.both.answers.update(word[0] for word in words if isinstance(word, tuple))
        self.note_answers(client, asked, words, settled=fate in ("answered", "refused"))
        for entity, claim in dict(claims).items():  # one claim answers all wishes of a call
            self.keep(member, entity, claim)

    def note_answers(self, client: str, asked: list[Group], words: list[Any], *, settled: bool) -> None:
        """Notes of which groups nobody knows what became of them; what was confirmed must be there."""
        for group, word in zip(asked, words, strict=True):
            if settled and group in self.unknown[client]:
                self.unknown[client].remove(group)
            if not settled and group not in self.unknown[client]:
                self.unknown[client].append(group)
            if isinstance(word, bool):  # of two with one key, the other may be it
                commands = [one for one in group.commands if not (one.terms and one.terms.key)]
                lost = [one for one in commands if not self.ledger.was_taken(one.data.decode())]
                self.insist(f"confirmed, and nowhere: {lost}" if lost else "")

    def take(self, sent: Sent) -> tuple[list[Any], dict[Entity, Any]]:
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
            return self.take_one(sent, member, wishes)
        return self.take_many(sent, member, wishes)

    def take_one(
        self, sent: Sent, member: Member | None, wishes: list[ClaimWish]
    ) -> tuple[list[Any], dict[Entity, Any]]:
        memory, [group] = self.memory, sent.groups
        first = memory.first_id(group.commands)
        try:
            duplicate, claims = memory.send(
                sent.client, sent.low, group.sequence, group.commands, member, wishes, group.limits
            )
        except MailboxFull as full:
            self.tell_low(sent.client, sent.low)
            return [("full", full.entity)], {wish.entity: NotClaimed() for wish in wishes}
        return [("known", first) if first else duplicate], dict(claims)

    def take_many(
        self, sent: Sent, member: Member | None, wishes: list[ClaimWish]
    ) -> tuple[list[Any], dict[Entity, Any]]:
        """Several groups: none is written before all were judged, and each sees those before it."""
        memory, now, seen = self.memory, self.both.now, self.memory.producers[sent.client]
        words: list[Any] = []
        taken: list[Outgoing] = []
        heard: set[Entity] = set()
        repeated: set[Entity] = set()
        refused: dict[Entity, tuple[int, int]] = {}
        for group in sent.groups:
            named, first = {one.entity for one in group.commands}, memory.first_id(group.commands)
            is_new = seen.is_new(sent.low, group.sequence)
            full = is_new and not first and self.overfull(group, taken)
            if full and (full in memory.mailboxes or full in {one.entity for one in pushed(taken)}):
                refused[full] = now, group.limits[full.type]
            if not full:
                heard |= named
                repeated |= set() if seen.takes(sent.low, group.sequence) else named
            words.append(("known", first) if first else ("full", str(full)) if full else not is_new)
            if is_new and not first and not full:
                for one in group.commands:
                    taken.append(one)
                    if one.terms and one.terms.key:
                        until = now + one.terms.key_ms * 1000
                        memory.keys.keep((one.entity, one.terms.key), until, one.terms.command_id)
        self.tell_low(sent.client, sent.low)
        here = None
        with contextlib.suppress(LeaseLost, Quarantined):
            here = member and memory._registered(member) and member.incarnation
        order = sent.entities()
        for one in sorted(pushed(taken), key=lambda one: order.index(one.entity)):
            urgent = one.terms is not None and one.terms.urgent
            memory._push(one.entity, Queued(now, one.data, urgent), prefer=here)
        for one in taken:
            if one.terms and one.terms.delay_us:
                memory._accept(one, prefer=here)
        for entity, refusal in refused.items():
            memory.mailboxes[entity].full = refusal
        claims = {}
        for wish in wishes:
            box = memory.mailboxes.get(wish.entity)
            mine = here and member and box and box.owner == here and wish.entity in heard
            if mine and box and member and (box.mode is Mode.PARKED or wish.entity in repeated):
                claims[wish.entity] = memory.claim_wished(member, wish)
        return words, claims

    def overfull(self, group: Group, before: list[Outgoing]) -> Entity | None:
        """Says for which entity a group, behind others of its call, is too much."""
        more = Counter(one.entity for one in pushed(before))
        for one in group.commands:
            limit = group.limits.get(one.entity.type)
            if limit is not None and not (one.terms and one.terms.delay_us):
                more[one.entity] += 1
                box = self.memory.mailboxes.get(one.entity)
                if (len(box.queue) if box else 0) + more[one.entity] > limit:
                    return one.entity
        return None

    def tell_low(self, client: str, low: int) -> None:
        """Notes in memory the lowest open sequence of a call, which tells it even if it takes nothing."""
        seen = self.memory.producers[client]
        seen.low = max(seen.low, low)
        seen.gaps = {gap for gap in seen.gaps if gap >= seen.low}
        seen.voided = {number for number in seen.voided if number >= seen.low}

    def void(self, client: str, low: int, sequence: int) -> bool:
        """Voids in memory, with the lowest open sequence, that a network's late copies make necessary."""
        seen = self.memory.producers[client]
        repeated = sequence in seen.voided
        taken = self.memory.void(client, sequence)
        if not taken and not repeated:
            self.tell_low(client, low)
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
        if sent.wishes and sent.member and sent.member.generation != self.both.link.generation:
            return  # the connection to that server has ended, and all that was on its way
        said = " ".join(str(group.sequence) for group in sent.groups)
        self.ask(
            f"late: a copy of {sent.client}'s send of {said}, low {sent.low}",
            lambda: [*map(_word, words_of(self.both.link.run(sent.packed))[: len(sent.groups)])],
            lambda: self.take(sent)[0],
            again=False,
        )

    @rule(
        entity=entities,
        count=st.integers(1, 3),
        wishing=st.booleans(),
        how=st.sampled_from(["", "", "", "overtaking", "twice", "twice"]),
        asks=ASKS,
    )
    def send_some(
        self, entity: Entity, count: int, wishing: bool, how: str = "", asks: Asks = NOTHING
    ) -> None:
        """A client at its best, that of the owner; though it may overtake an earlier send, or ask the same again."""
        client, by = client_of(self.owner(entity).incarnation), "wishing pod" if wishing else "pod"
        if how == "overtaking":
            self.send(client, [[entity]], by, "lost", False, False)
        for _ in range(2 if how == "twice" else 1):
            self.send(client, [[entity] * count], by, "answered", False, False, (asks,))
        if how == "overtaking":
            self.send_arrives_late(1, False)

    def abandon(self, client: str) -> None:
        for group in self.unknown[client]:
            self.both.log.append(f"{client} abandons {group.sequence}")
            self.both.stores[client].abandon(group)
        self.unknown[client].clear()


def pushed(commands: Iterable[Outgoing]) -> list[Outgoing]:
    """Picks those that come into their mailboxes at once."""
    return [one for one in commands if not (one.terms and one.terms.delay_us)]


def _said(group: Group, answer: object) -> object:
    match answer:
        case OutcomeUnknown():
            return "unknown"
        case StoreFull():
            return "refused"
        case MailboxFull(entity=entity):
            return "full", entity
        case _:
            return ("known", group.first_id) if group.first_id else answer


def _word(word: bytes) -> object:
    """Reads a word of the script as `_said` tells it."""
    kind, _, rest = word.decode().partition(" ")
    return (kind.lower(), rest) if rest else kind == "DUPLICATE"


def _is_refused(word: object) -> bool:
    return word == "refused" or isinstance(word, tuple) and word[0] == "full"


def _terms(command: Outgoing) -> str:
    terms = command.terms
    if terms is None:
        return ""
    return f"+{terms.delay_us // 1_000_000}s" * bool(terms.delay_us) + f"={terms.key}" * bool(terms.key)


def _claim(claim: tuple[Entity, Any]) -> Any:
    entity, answer = claim
    return entity, normal(answer)
