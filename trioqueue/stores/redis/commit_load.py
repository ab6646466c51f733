"""What one call of the commit script carries: its keys and arguments, as `commit.lua` reads them."""

from trioqueue.stores.contract import KEEP_CANCELLED_MS, Commit, Member
from trioqueue.stores.redis.keys import Keys
from trioqueue.stores.redis.send_load import lane

HAS_REST = 2
"""Where the arguments say whether a commit has what most have not."""


class CommitLoad:
    """Gathers commits of one member.

    `keys`, `arguments`: those behind the common ones.
    """

    def __init__(self, names: Keys, member: Member) -> None:
        self.keys: list[str] = []
        self.arguments: list[object] = [*member, 0]
        self._names = names
        self._base = len(names.common) + 1  # Lua counts from 1

    def _key(self, *names: str) -> int:
        """Adds keys, and gives the number of the first one."""
        number = self._base + len(self.keys)
        self.keys += names
        return number

    def add(self, commit: Commit) -> None:
        """Adds a commit."""
        entity, state, arguments = commit.entity, commit.state, self.arguments
        before = len(self.keys)
        e, q, s = self._names.entity(entity)
        self.keys += (e, q) if state is None else (e, q, s)
        arguments += (
            f"{entity.type}/{entity.id}",
            commit.epoch,
            commit.pops,
            commit.done + commit.pops,
            commit.want,
        )
        has_rest = commit.children or commit.dead or commit.settled_cancels or commit.withdrawn
        if has_rest or commit.replies or commit.retry_ms is not None or commit.pause:
            more: list[object] = [0] if state is None else [1, state]
            self._add_end(more, commit)
            if has_rest:
                arguments[HAS_REST] = 1
                self._add_rest(more, commit)
            arguments += (len(more) + 1, len(self.keys) - before, *more)
        elif state is None:
            arguments.append(0)
        else:
            arguments += (1, state)

    def _add_end(self, more: list[object], commit: Commit) -> None:
        """Adds how the last command ended, and what callers are told."""
        retry_ms = "" if commit.retry_ms is None else commit.retry_ms
        more += (retry_ms, commit.pause, int(commit.failed), len(commit.replies))
        for reply in commit.replies:
            number = self._key(self._names.result(reply.command_id))
            more += (number, reply.to, reply.command_id, reply.outcome, reply.keep_ms)

    def _add_rest(self, more: list[object], commit: Commit) -> None:
        """Adds what most commits have not."""
        names, key = self._names, self._key
        more.append(len(commit.dead))
        for letter in commit.dead:
            more += (key(*names.dead(commit.entity.type)), letter.command_id, letter.record)
        more += (len(commit.settled_cancels), *commit.settled_cancels)
        at_once = [child for child in commit.children if child.terms is None or not child.terms.delay_us]
        more.append(len(at_once))
        for child in at_once:
            entity = child.entity
            more += (
                f"{entity.type}/{entity.id}",
                key(*names.entity(entity)[:2]),
                key(*names.placement(entity.type)),
                entity.type,
                child.data,
                lane(child.terms),
            )
        more.append(len(commit.children) - len(at_once))
        for child in commit.children:
            if child.terms is not None and child.terms.delay_us:
                more += (
                    f"{child.entity.type}/{child.entity.id}",
                    key(*names.later),
                    child.terms.command_id,
                    child.terms.delay_us,
                    child.data,
                    lane(child.terms),
                )
        more.append(len(commit.withdrawn))
        for one in commit.withdrawn:
            more += (
                f"{one.entity.type}/{one.entity.id}",
                key(*names.entity(one.entity)[:2]),
                key(*names.later),
                key(names.result(one.command_id)),
                one.command_id,
                one.outcome,
                max(one.keep_ms, KEEP_CANCELLED_MS),
            )
