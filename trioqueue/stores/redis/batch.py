"""Letting requests of one moment share a call: sends, claims, commits and releases travel as sections of one.

A caller adds a section and waits; just before the transport writes, `flush` packs what has gathered.  Each section gets
its own answer.  An error of a whole call settles no section: each is asked again alone, so that one bad request
harms nobody else, and only then is the error its own.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence, Sized
from functools import partial
from typing import TypeAlias, TypeVar, cast

import attrs
import redis.exceptions

from trioqueue._errors import AccessDenied, MailboxFull, OutcomeUnknown
from trioqueue._names import Entity
from trioqueue.stores.contract import (
    ClaimWish,
    Commit,
    Group,
    Member,
    NotClaimed,
    SendClaimAnswer,
)
from trioqueue.stores.redis.commit_load import CommitLoad
from trioqueue.stores.redis.keys import Keys
from trioqueue.stores.redis.layout import DECLINE_US
from trioqueue.stores.redis.replies import (
    REFUSALS,
    answers_of,
    send_answer,
    send_claim_answer,
    user_error,
    words_of,
)
from trioqueue.stores.redis.scripts import Script, script
from trioqueue.stores.redis.send_load import SendLoad
from trioqueue.stores.redis.transport import Transport

MAX_SECTIONS = 128
"""Sections in one call: keeps a call below about a millisecond of Redis' time, in which it serves nobody else."""

EARLY_SECTIONS = 8
"""Sections that go out before more have gathered if the server has nothing to do: so it works while we do."""

MAX_COMMANDS = 1000
"""Commands in one send call, for the same reason; a larger group goes alone, as it must stay whole."""

BYTES_A_COMMAND = 8192
"""Bytes that count as one more command: so many take about as long, and a call stays far below what Redis takes."""

Answer = Callable[[object], None]
"""Takes one section's answer, or an exception; called once, and must not raise."""


def nobody_asks(_result: object) -> None:
    """Stands for who waits for a section, until somebody does."""


@attrs.define(eq=False)
class SendSection:
    """One group on its way."""

    group: Group
    member: Member | None = None
    wishes: Sequence[ClaimWish] = ()
    on_claim: Callable[[Entity, SendClaimAnswer], None] | None = None
    answer: Answer = nobody_asks

    def size(self) -> int:
        """Says what it adds to a call, in commands."""
        commands = self.group.commands
        return len(commands) + sum([len(one.data) for one in commands]) // BYTES_A_COMMAND

    def fits(self, first: "SendSection") -> bool:
        if self.group.limits != first.group.limits:
            return False  # a call has one for each type
        return not self.wishes or self.member == first.member

    def claims(self, answers: Iterable[SendClaimAnswer]) -> None:
        """Tells the supervisor of each wish."""
        for wish, answer in zip(self.wishes, answers, strict=True):
            assert self.on_claim is not None
            self.on_claim(wish.entity, answer)


@attrs.define(eq=False)
class ClaimSection:
    """One claim on its way."""

    member: Member
    wish: ClaimWish
    answer: Answer = nobody_asks

    def size(self) -> int:
        return 1

    def fits(self, first: "ClaimSection") -> bool:
        return self.member == first.member


@attrs.define(eq=False)
class CommitSection:
    """One commit on its way."""

    member: Member
    commit: Commit
    answer: Answer = nobody_asks

    def size(self) -> int:
        commit = self.commit
        size = len(commit.state or b"") + sum([len(child.data) for child in commit.children])
        return commit.pops + len(commit.children) + size // BYTES_A_COMMAND

    def fits(self, first: "CommitSection") -> bool:
        return self.member == first.member


@attrs.define(eq=False)
class ReleaseSection:
    """One entity that is let go of."""

    member: Member
    entity: Entity
    epoch: int | None
    why: str
    answer: Answer = nobody_asks

    def size(self) -> int:
        return 1

    def fits(self, first: "ReleaseSection") -> bool:
        return self.member == first.member


MemberSection: TypeAlias = ClaimSection | CommitSection | ReleaseSection


class Batcher:
    """Gathers sections and packs them into calls."""

    def __init__(self, transport: Transport, keys: Keys, producer: str, address: str) -> None:
        self._transport = transport
        self._address = address  # for the sentences of errors
        self._keys = keys
        self._producer = producer
        self._sequence = 0
        self._shared = 0  # sections of the last write
        self._unsettled: dict[int, None] = {}  # sequences given out and not settled, oldest first
        self._send_script, self._void_script = script("send"), script("void")
        self._claim_script, self._commit_script = script("claim"), script("commit")
        self._release_script = script("release")
        self._sends: deque[SendSection] = deque()
        self._claims: deque[ClaimSection] = deque()
        self._commits: deque[CommitSection] = deque()
        self._releases: deque[ReleaseSection] = deque()
        transport.before_write(self.flush)

    def send(self, section: SendSection) -> None:
        """Adds a group; it gets its sequence number when it is packed."""
        self._sends.append(section)
        self._gathered(self._sends)

    def claim(self, section: ClaimSection) -> None:
        """Adds a claim."""
        self._claims.append(section)
        self._gathered(self._claims)

    def commit(self, section: CommitSection) -> None:
        """Adds a commit."""
        self._commits.append(section)
        self._gathered(self._commits)

    def release(self, section: ReleaseSection) -> None:
        """Adds an entity to let go of."""
        self._releases.append(section)
        self._gathered(self._releases)

    def _gathered(self, sections: Sized) -> None:
        self._transport.poke()
        if len(sections) >= EARLY_SECTIONS:
            self._transport.write_early()

    def low(self) -> int:
        """Says below which sequence everything of this producer is settled."""
        return next(iter(self._unsettled), self._sequence + 1)

    def write_if_alone(self) -> None:
        """Writes now, and not with all of this moment, where lately nothing has shared a write with another section."""
        if self._shared <= 1:
            self._transport.write_early()

    def flush(self) -> None:
        """Packs everything that has gathered; called right before each write."""
        self._shared = len(self._commits) + len(self._releases) + len(self._claims) + len(self._sends)
        while self._commits:
            self._call_commit(_take(self._commits))
        while self._releases:
            self._call_release(_take(self._releases))
        while self._claims:
            self._call_claim(_take(self._claims))
        while self._sends:
            self._call_send(_take(self._sends))

    # -------------------------------------------------------------------------------- the three calls
    def _call_send(self, sections: list[SendSection], *, written: bool = False) -> None:
        """Sends groups to any server.  An incarnation's wishes go to the one alone that it registered with.

        Elsewhere the same call goes out as nobody's, in its place: none of its wishes is granted then.
        """
        keys = self._keys
        for section in sections:
            if not section.group.sequence:
                self._sequence += 1
                section.group.sequence = self._sequence
                self._unsettled[self._sequence] = None
        member = next((section.member for section in sections if section.wishes), sections[0].member)
        wishes = {wish.entity: wish for section in sections for wish in section.wishes}
        load = SendLoad(keys, self._producer, wishes)
        for section in sections:
            load.add(section.group)
        low = min(self.low(), *(section.group.sequence for section in sections))
        load_keys = load.keys()

        def pack_for(one: Member | None) -> bytes:
            return self._pack(self._send_script, load_keys, load.arguments(low, one))

        call = _Call(
            self._transport,
            self._send_script,
            pack_for(member),
            partial(self._sent, sections, load.wished),
            server=member.generation if member is not None and load.wished else None,
            elsewhere=partial(pack_for, None) if load.wished else None,
        )
        call.submit(written=written)

    def _sent(self, sections: list[SendSection], wished: Sequence[Entity], reply: object) -> None:
        if isinstance(reply, Exception):
            self._send_failed(sections, reply)
            return
        words = words_of(reply)
        claims = dict(zip(wished, map(send_claim_answer, answers_of(words[len(sections) :])), strict=True))
        for section, word in zip(sections, words, strict=False):
            if section.wishes:
                section.claims(claims[wish.entity] for wish in section.wishes)
            answer = send_answer(section.group, cast("bytes", word))
            if isinstance(answer, MailboxFull):
                self._void(section, answer)  # an earlier copy may still find room
            else:
                self.settle(section.group)
                section.answer(answer)

    def _send_failed(self, sections: list[SendSection], error: Exception) -> None:
        refused = isinstance(error, redis.exceptions.RedisError)
        if refused and len(sections) > 1:
            for section in sections:
                self._call_send([section], written=True)
            return
        for section in sections:
            section.claims(NotClaimed() for _ in section.wishes)
            if refused:
                self._void(section, user_error(error, self._address))
                continue
            if not isinstance(error, OutcomeUnknown):
                # Nothing was sent: if the group is sent again, it is as if for the first time.
                self.settle(section.group)
                section.group.sequence = 0
            section.answer(error)

    def _void(self, section: SendSection, error: Exception) -> None:
        """Spends the number of a refused group before it is told so, as an earlier copy may have been taken."""
        keys = self._keys.sequences(self._producer)
        packed = self._pack(self._void_script, [*keys], [self.low(), section.group.sequence])
        call = _Call(self._transport, self._void_script, packed, partial(self._voided, section, error))
        call.submit(written=True)  # else a void that does not go out would say that nothing did

    def _voided(self, section: SendSection, error: Exception, answer: object) -> None:
        if isinstance(answer, OutcomeUnknown):
            section.answer(answer)
            return
        self.settle(section.group)
        # A denial may have stopped the script behind the noting of the number and before the push.
        taken = answer == b"ACCEPTED" and not isinstance(error, AccessDenied)
        section.answer(True if taken else error)

    def settle(self, group: Group) -> None:
        """Forgets a group that is neither asked again nor voided any more."""
        self._unsettled.pop(group.sequence, None)

    def _call_claim(self, sections: list[ClaimSection]) -> None:
        keys: list[str] = []
        arguments: list[object] = [*sections[0].member]
        for section in sections:
            entity = section.wish.entity
            keys += self._keys.entity(entity)
            arguments += (
                f"{entity.type}/{entity.id}",
                section.wish.have,
                section.wish.fetch,
                int(section.wish.eager),
            )
        self._call_for(self._claim_script, sections, self._pack(self._claim_script, keys, arguments))

    def _call_commit(self, sections: list[CommitSection]) -> None:
        load = CommitLoad(self._keys, sections[0].member)
        for section in sections:
            load.add(section.commit)
        packed = self._pack(self._commit_script, load.keys, load.arguments)
        self._call_for(self._commit_script, sections, packed)

    def _call_release(self, sections: list[ReleaseSection]) -> None:
        keys = [self._keys.paused]
        arguments: list[object] = [*sections[0].member, DECLINE_US]
        for section in sections:
            entity, epoch = section.entity, section.epoch
            keys += self._keys.entity(entity)[:2]
            keys += self._keys.placement(entity.type)
            arguments += (
                f"{entity.type}/{entity.id}",
                entity.type,
                "" if epoch is None else epoch,
                section.why,
            )
        self._call_for(self._release_script, sections, self._pack(self._release_script, keys, arguments))

    def _call_for(self, what: Script, sections: Sequence[MemberSection], packed: bytes) -> None:
        """Sends a call of an incarnation, which never goes to another server than the one it registered with."""
        self._ask(what, packed, partial(self._answered, sections), server=sections[0].member.generation)

    def _answered(self, sections: Sequence[MemberSection], answer: object) -> None:
        if isinstance(answer, list):
            for section, one in zip(sections, answers_of(cast("list[object]", answer)), strict=True):
                section.answer(one)
            return
        if isinstance(answer, Exception):
            if len(sections) > 1 and isinstance(answer, redis.exceptions.RedisError):
                self._alone(sections)
                return
            answer = user_error(answer, self._address)
        else:  # one word for all
            assert len(sections) == 1 or answer in REFUSALS, answer
        for section in sections:
            section.answer(answer)

    def _alone(self, sections: Sequence[MemberSection]) -> None:
        for section in sections:
            match section:
                case ClaimSection():
                    self._call_claim([section])
                case CommitSection():
                    self._call_commit([section])
                case ReleaseSection():
                    self._call_release([section])

    # -------------------------------------------------------------------------------- packing
    def _pack(self, what: Script, keys: list[str], arguments: list[object]) -> bytes:
        return what.call(self._keys, keys, arguments)

    def _ask(self, what: Script, packed: bytes, take: Answer, server: str | None = None) -> None:
        _Call(self._transport, what, packed, take, server=server).submit()


class _Call:
    """One call on its way: a server that has forgotten its scripts is given this one, and asked once more.

    No closure, which to ask again would have to know itself: one such cycle a call, and the garbage collector would
    look through all entities of a pod again and again.
    """

    __slots__ = ("_elsewhere", "_packed", "_server", "_take", "_transport", "_what")

    def __init__(
        self,
        transport: Transport,
        what: Script,
        packed: bytes,
        take: Answer,
        *,
        server: str | None = None,
        elsewhere: Callable[[], bytes] | None = None,
    ) -> None:
        self._transport = transport
        self._what = what
        self._packed = packed
        self._take = take  # what is not that error goes here
        self._server = server
        self._elsewhere = elsewhere

    def submit(self, *, written: bool = False) -> None:
        self._transport.submit(
            self._packed, self.deliver, server=self._server, elsewhere=self._elsewhere, written=written
        )

    def deliver(self, reply: object) -> None:
        if isinstance(reply, redis.exceptions.NoScriptError):
            self._transport.submit(self._what.load(), _drop)
            self.submit(written=True)  # another server may have carried out an earlier copy
        else:
            self._take(reply)


def _drop(_reply: object) -> None:
    """Takes what nobody has to look at."""


SectionT = TypeVar("SectionT", SendSection, ClaimSection, CommitSection, ReleaseSection)


def _take(waiting: deque[SectionT]) -> list[SectionT]:
    """Takes the sections of the next call off the queue, in order."""
    first = waiting.popleft()
    taken, size = [first], first.size()
    while waiting and len(taken) < MAX_SECTIONS and waiting[0].fits(first):
        size += waiting[0].size()
        if size > MAX_COMMANDS:
            break
        taken.append(waiting.popleft())
    return taken
