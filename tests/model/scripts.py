"""The store's scripts, one atomic step each: (state, …) -> (state, answer).

An answer is a tuple that begins with its word.  Beside the store the scripts change what the checker knows (`Ghost`),
and raise `Violation` where a single step already breaks a promise.  Placement, waking and letting go are steps that
they share.
"""

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

from .rules import Violation
from .state import (
    ACTIVE,
    ALONE,
    AMONG,
    EARLY,
    FAR,
    FUTURE,
    IDLE,
    PARKED,
    READY,
    Inc,
    Mail,
    Program,
    Report,
    State,
    Store,
    put,
)

Answer = tuple[Any, ...]

RETRY, PUT_OFF, DONE, DEAD, CANCELLED = "retry", "put off", "done", "dead", "cancelled"
"""How the last command that a commit speaks of ended; those before it are done."""


class Scripts:
    """The scripts of one instance under some rules."""

    def __init__(self, rule: SimpleNamespace, program: Program) -> None:
        self.rule, self.program = rule, program
        self.place = program.place()
        self.entities = 1 + max(self.place.values())
        self.commands = len(self.place)
        self.types = program.types or (0,) * self.entities
        self.children = dict(program.children)

    # -------------------------------------------------------------------------------- small steps
    @staticmethod
    def mail(s: State, e: int, x: Mail) -> State:
        return s._replace(r=s.r._replace(mails=put(s.r.mails, e, x)))

    @staticmethod
    def hint(s: State, inc: Inc, e: int) -> State:
        pod = s.pods[inc[0]]
        if not pod.alive or pod.inc != inc or e in pod.hints:
            return s
        return s._replace(pods=put(s.pods, inc[0], pod._replace(hints=pod.hints | {e})))

    @staticmethod
    def refused(s: State, inc: Inc, gen: int) -> str | None:
        if gen != s.r.gen:
            return "GENERATION"
        if s.r.quarantine:
            return "WAIT"
        if inc not in s.r.pods or inc in s.r.leaving:
            return "UNREGISTERED"
        return None

    @staticmethod
    def joined_first(s: State) -> None:
        if s.r.gen != s.r.run:
            raise Violation("I16 an owner's request runs on another server, which no pod has joined yet")

    def room_left(self, r: Store, inc: Inc, kind: int | None = None) -> int:
        room = 0 if inc in r.retired else self.program.room
        return room - sum(x.owner == inc and kind in (None, self.types[e]) for e, x in enumerate(r.mails))

    def choose(self, r: Store, e: int, prefer: Inc | None = None, without: Inc | None = None) -> Inc | None:
        """Names the preferred pod if it has room, else the least loaded one that has."""
        rule, kind = self.rule, self.types[e]
        counted = None if rule.room_is_over_all_types else kind

        def fits(inc: Inc) -> bool:
            if inc == without:
                return False
            return not rule.placed_where_room_is or self.room_left(r, inc, counted) > 0

        def listed(inc: Inc) -> bool:
            return inc in r.pods and inc not in r.leaving

        if prefer and fits(prefer) and (listed(prefer) or not rule.placed_with_the_registered):
            return prefer
        of_type = [
            sum(x.owner == inc and self.types[f] == kind for f, x in enumerate(r.mails)) for inc in r.pods
        ]
        return min(
            ((n, inc) for n, inc in zip(of_type, r.pods, strict=True) if listed(inc) and fits(inc)),
            default=(0, None),
        )[1]

    def give(self, s: State, e: int, to: Inc | None, *, handover: bool) -> State:
        """Gives an entity with work and no owner to a pod, in wake and with a hint, or leaves it ready."""
        x = s.r.mails[e]
        if to is None:
            return self.mail(s, e, x._replace(mode=READY, owner=None, wake=None))
        if self.room_left(s.r, to) <= 0:
            raise Violation(f"I5 entity {e} is placed with {to}, which has no room")
        pod = s.pods[to[0]]
        if pod.inc == to and pod.draining:
            raise Violation(f"I6 entity {e} is placed with {to}, which drains")
        wake = to if self.rule.handover_wakes or not handover else None
        return self.hint(self.mail(s, e, x._replace(mode=PARKED, owner=to, wake=wake)), to, e)

    def next_after(self, r: Store, e: int, declined: Inc) -> Inc | None:
        """Names the pod with room that joined next after one that declined, round and round."""
        kind = None if self.rule.room_is_over_all_types else self.types[e]
        others = [
            inc
            for inc in r.pods
            if inc != declined and inc not in r.leaving
            if not self.rule.placed_where_room_is or self.room_left(r, inc, kind) > 0
        ]
        return min(others, key=lambda inc: (inc[1] < declined[1], inc[1]), default=None)

    def let_go(self, s: State, e: int, owner: Inc, *, declined: bool = False) -> State:
        """Takes an entity away from its owner: to another pod, to ready or, with nothing queued, out of the store."""
        x = s.r.mails[e]
        if not x.q:
            return self.mail(s, e, Mail())
        s = self.mail(s, e, x._replace(mode=READY, owner=None, wake=None))
        to = self.next_after(s.r, e, owner) if declined else self.choose(s.r, e, without=owner)
        return self.give(s, e, to, handover=True)

    def push(self, s: State, m: int, e: int, prefer: Inc | None, mode: str | None = None) -> State:
        """Puts a command into its mailbox, and wakes or places the entity."""
        if m in s.g.acc[e]:
            raise Violation(f"I3 command {m} is accepted twice")
        if m in s.g.refused:
            raise Violation(f"I4 command {m} is accepted, though its sender was told that it is not")
        x = s.r.mails[e]
        x = x._replace(q=(*x.q, m))
        s = self.mail(s, e, x)._replace(g=s.g._replace(acc=put(s.g.acc, e, (*s.g.acc[e], m))))
        mode = mode or x.mode
        if mode == IDLE:
            return self.give(s, e, self.choose(s.r, e, prefer), handover=False)
        if x.due and not self.rule.send_minds_the_due_time:
            x = x._replace(due=EARLY, wake=None)
        if mode == PARKED and x.wake is None and x.owner is not None:
            s = self.hint(self.mail(s, e, x._replace(wake=x.owner)), x.owner, e)
        return s

    def batch(self, x: Mail) -> tuple[int, ...]:
        return x.q[:1] if x.is_suspect() and self.rule.a_suspect_comes_alone else x.q[: self.program.fetch]

    # -------------------------------------------------------------------------------- sending
    def send(
        self, s: State, k: int, low: int, member: tuple[Inc, int] | None = None, wishes: tuple[int, ...] = ()
    ) -> tuple[State, Answer]:
        """Takes a group once, and claims the entities that are wished for if they are free."""
        r, fresh = self.first_seen(s.r, k + 1, low)
        s = s._replace(r=r)
        mine = member[0] if member and self.welcome(s, *member) else None
        if fresh:
            for m, e in self.program.groups[k]:
                s = self.push(s, m, e, mine)
        answers: list[Answer] = []
        for e in wishes:
            x = s.r.mails[e]
            if member and mine and x.owner == mine and (x.mode == PARKED or not fresh):
                s, answer = self.claim(s, *member, e)
                answers.append(answer)
            else:
                answers.append(("NOT_CLAIMED",))
        return s, ("OK" if fresh else "DUPLICATE", *answers)

    def welcome(self, s: State, inc: Inc, gen: int) -> bool:
        """Says whether a send may place with its sender's own pod, and claim for it."""
        if not self.rule.placed_with_the_registered:
            return True
        here = gen == s.r.run or not self.rule.a_wish_keeps_to_its_server
        return here and self.refused(s, inc, gen) is None

    def first_seen(self, r: Store, number: int, low: int) -> tuple[Store, bool]:
        """Notes a sequence number, and tells whether it is new."""
        rule = self.rule
        if rule.low_is_told:
            r = r._replace(low=max(r.low, low))
        gaps, high, fresh = r.gaps, r.high, False
        if number > high:
            gaps, high, fresh = gaps | set(range(max(high + 1, r.low), number)), number, True
        elif number >= r.low and number in gaps and rule.gaps_are_remembered:
            gaps, fresh = gaps - {number}, True
        if rule.gaps_end_at_low:
            gaps = frozenset(gap for gap in gaps if gap >= r.low)
            r = r._replace(voided=frozenset(number for number in r.voided if number >= r.low))
        return r._replace(gaps=gaps, high=high), fresh or not rule.a_group_is_taken_once

    def void(self, s: State, k: int, low: int) -> tuple[State, Answer]:
        """Spends a group's number, unless the group was taken."""
        r, number = s.r, k + 1
        if number in r.voided and self.rule.void_remembers:
            return s, ("VOIDED",)
        open_gap = number in r.gaps and number >= max(r.low, low)
        if number <= r.high and not open_gap:
            return s, ("ACCEPTED",)
        if not self.rule.void_spends_the_number:
            return s, ("VOIDED",)
        if open_gap:
            r = r._replace(gaps=r.gaps - {number})
        else:
            skipped = range(max(r.high + 1, r.low, low), number)
            r = r._replace(gaps=r.gaps | set(skipped), high=number)
        return s._replace(
            r=r._replace(voided=r.voided | {number} if self.rule.void_remembers else r.voided)
        ), ("VOIDED",)

    def cancel(self, s: State, m: int) -> tuple[State, Answer]:
        """Marks a command whose caller has gone; nothing is taken out of the mailbox."""
        e = self.place[m]
        x = s.r.mails[e]
        if not x.q or m in s.g.com[e] or m in s.g.dead or m in s.g.cancelled:
            return s, ("LATE",)  # its outcome is kept
        return self.mail(s, e, x._replace(cancels=x.cancels | {m})), ("TOLD",)

    # -------------------------------------------------------------------------------- the owner's requests
    def claim(self, s: State, inc: Inc, gen: int, e: int) -> tuple[State, Answer]:
        """Begins with an entity under a new epoch; takes nothing out of its mailbox."""
        if no := self.refused(s, inc, gen):
            return s, (no,)
        self.joined_first(s)
        x, rule = s.r.mails[e], self.rule
        if x.owner != inc and (rule.only_the_owner_claims or x.mode == IDLE):
            return s, ("NOT_YOURS",)
        former, x = x, x._replace(owner=inc)
        wake = inc if rule.wake_until_empty and x.q else None
        if x.mark and x.q:  # the last owner died with this head in hand
            x = x._replace(mark="", crash=x.crash + 1, proven=x.proven or x.mark == ALONE)
        far = x.due == FAR and not rule.a_far_due_time_has_passed
        if far or x.due == FUTURE and rule.claim_minds_the_due_time:
            return self.mail(s, e, x._replace(mode=PARKED, wake=wake)), ("BACKOFF",)
        if x.is_suspect():
            if any(i == inc and f != e for i, f in s.r.suspects) and rule.one_suspect_a_pod:
                return self.mail(s, e, x._replace(mode=PARKED, wake=wake)), ("LATER",)
            s = self.suspect(s, inc, e)
        if rule.an_epoch_for_each_claim or former.mode != ACTIVE or not former.epoch:
            s, epoch = self.next_epoch(s, e)
        else:
            epoch = former.epoch
        if not x.q:
            return self.mail(s, e, x._replace(mode=PARKED, epoch=epoch, wake=None)), ("EMPTY", epoch)
        if x.due in (FUTURE, EARLY):
            raise Violation("I13 a head that waits out a backoff is handed out")
        x = x._replace(mode=ACTIVE, epoch=epoch, wake=wake, due=None)
        marks = x.cancels if rule.claim_tells_the_cancelled else frozenset()
        return self.mail(s, e, x), (
            "CLAIMED",
            epoch,
            x.done,
            self.batch(x),
            x.tries,
            x.crash,
            x.proven,
            marks,
        )

    def next_epoch(self, s: State, e: int) -> tuple[State, int]:
        r, g, rule = s.r, s.g, self.rule
        stored = max(r.mails[e].epoch, r.floor if rule.the_floor_of_epochs else 0)
        clock = max(g.used) + 1 if rule.epochs_follow_the_clock and not s.back else 0
        epoch = max(stored + 1, clock)
        if epoch <= g.used[e]:
            raise Violation(f"I7 epoch {epoch} of entity {e} is handed out after {g.used[e]}")
        return s._replace(
            r=r._replace(floor=max(r.floor, epoch)), g=g._replace(used=put(g.used, e, epoch))
        ), epoch

    def commit(
        self,
        s: State,
        inc: Inc,
        gen: int,
        e: int,
        epoch: int,
        done: int,
        msgs: tuple[int, ...],
        how: str,
        want: bool,
    ) -> tuple[State, Answer]:
        """Makes turns stand, whole: pops, children, a retry; only for the owner under its newest epoch."""
        if no := self.refused(s, inc, gen):
            return s, (no,)
        self.joined_first(s)
        x, rule = s.r.mails[e], self.rule
        if rule.commit_is_fenced and (x.owner != inc or x.epoch != epoch):
            return s, ("FENCED",)
        if rule.commit_names_done and x.done != done:
            if x.done < done:
                return s, ("FENCED",)
            if not rule.children_once:
                s = self.bear(s, inc, e, epoch, done, msgs, how, x.mode)
            return s, self.after(x, want, ran_before=True)  # it ran already, its answer was lost
        if x.mode != ACTIVE and rule.commit_wants_a_claim:
            return s, ("FENCED",)
        again = how in (RETRY, PUT_OFF)
        s, x = self.pop(s, e, x, msgs, how)
        if again:
            x = x._replace(due=FUTURE, done=x.done + rule.retries_count_as_done)
            x = x._replace(tries=x.tries + (how == RETRY or not rule.a_put_off_is_no_attempt))
        if rule.a_settled_suspect_is_let_go:
            any_of = x.crash or s.r.mails[e].crash
            s = (
                self.suspect(s, inc, None)
                if any_of and not rule.only_by_its_own_commit
                else self.acquit(s, inc, e)
            )
        s = self.mail(s, e, x)
        emptied = not x.q
        if not emptied or rule.children_before_emptiness:
            s = self.bear(s, inc, e, epoch, done, msgs, how, ACTIVE)
            x = s.r.mails[e]
            emptied = not x.q
        x = x._replace(mode=PARKED if emptied or again else ACTIVE)
        x = x._replace(wake=None if emptied or not rule.wake_until_empty else x.owner)
        if emptied and rule.marks_go_with_the_last:
            x = x._replace(cancels=frozenset())
        s = self.mail(s, e, x)
        if emptied and not rule.children_before_emptiness:
            s = self.bear(s, inc, e, epoch, done, msgs, how, ACTIVE)
        return s, self.after(x, want)

    @staticmethod
    def pop(s: State, e: int, x: Mail, msgs: tuple[int, ...], how: str) -> tuple[State, Mail]:
        g = s.g
        for m in msgs:
            if not x.q or x.q[0] != m:
                raise Violation(f"I1 a commit of command {m} takes {x.q[:1]} out of the mailbox")
            if m in g.com[e] or m in g.dead or m in g.cancelled:
                raise Violation(f"I3 command {m} is settled twice")
            x = x._replace(q=x.q[1:], done=x.done + 1, tries=0, crash=0, proven=False, mark="")
            if m == msgs[-1] and how == DEAD:
                g = g._replace(dead=g.dead | {m})
            elif m == msgs[-1] and how == CANCELLED:
                g, x = g._replace(cancelled=g.cancelled | {m}), x._replace(cancels=x.cancels - {m})
            else:
                g = g._replace(com=put(g.com, e, g.com[e] + (m,)))
        return s._replace(g=g), x

    @staticmethod
    def suspect(s: State, inc: Inc, e: int | None) -> State:
        """Notes which suspect a pod has in hand."""
        others = frozenset(pair for pair in s.r.suspects if pair[0] != inc)
        return s._replace(r=s.r._replace(suspects=others if e is None else others | {(inc, e)}))

    @staticmethod
    def acquit(s: State, inc: Inc, e: int) -> State:
        return s._replace(r=s.r._replace(suspects=s.r.suspects - {(inc, e)}))

    def bear(
        self, s: State, inc: Inc, e: int, epoch: int, done: int, msgs: tuple[int, ...], how: str, mode: str
    ) -> State:
        """Puts the children of a commit into their mailboxes."""
        if not self.rule.children_go_with_the_commit:
            return s
        for m in msgs[:-1] if how in (DEAD, CANCELLED) else msgs:
            for n, (child, to) in enumerate(self.children.get(m, ())):
                born = (e, epoch, done + msgs.index(m), n)
                if born in s.g.born:
                    raise Violation(f"I14 the id {born} is given to a second child")
                s = s._replace(g=s.g._replace(born=s.g.born | {born}))
                s = self.push(s, child, to, inc, mode if to == e else None)
        return s

    def after(self, x: Mail, want: bool, *, ran_before: bool = False) -> Answer:
        if x.mode == ACTIVE or ran_before and x.q and not self.rule.already_by_mode:
            return ("NEXT", self.batch(x) if want else (), x.cancels)
        return ("BACKOFF",) if x.due else ("PARKED",)

    def release(
        self, s: State, inc: Inc, gen: int, e: int, epoch: int | None, why: str
    ) -> tuple[State, Answer]:
        """Lets go of an entity, if it is the caller's and, for `idle`, if nothing is queued."""
        if no := self.refused(s, inc, gen):
            return s, (no,)
        x = s.r.mails[e]
        if x.owner != inc and (self.rule.release_is_fenced or epoch is None or x.owner is None):
            return s, ("KEPT",)
        if x.mode != PARKED if epoch is None else x.epoch != epoch and self.rule.release_is_fenced:
            return s, ("KEPT",)
        if why == "idle" and x.q:
            if self.rule.idle_is_checked:
                return s, ("KEPT",)
            return self.mail(s, e, Mail(q=x.q)), ("OK",)
        s = self.acquit(s, inc, e)
        if why == "decline" and x.q:
            s = self.mail(s, e, x._replace(due=FUTURE))
        return self.let_go(s, e, inc, declined=why == "decline"), ("OK",)

    # -------------------------------------------------------------------------------- membership
    def join(self, s: State, i: int, ticket: int) -> tuple[State, Answer]:
        """Registers a new incarnation, and begins the quarantine on a server that is another one."""
        r, g = s.r, s.g
        if ticket != r.counter and self.rule.join_names_a_ticket:
            last = r.joined[i]
            if last and last[0] == ticket and r.gen == r.run and last[1] in r.pods:
                return s, ("OK", last[1])
            return s, ("TICKET", r.counter)
        number = max([r.counter, *(n for _, n in g.seen)]) + 1  # by the clock, as epochs are
        if r.gen != r.run:
            r = r._replace(gen=r.run, since=number, quarantine=self.rule.quarantine)
        inc = (i, number)
        r = r._replace(pods=r.pods | {inc}, counter=number, joined=put(r.joined, i, (ticket, inc)))
        return s._replace(r=r, g=g._replace(seen=g.seen | {inc})), ("OK", inc)

    def retire(self, s: State, inc: Inc, gen: int) -> tuple[State, Answer]:
        """Ends placement with a pod."""
        if no := self.refused(s, inc, gen):
            return s, (no,)
        if not self.rule.retiring_ends_placement:
            return s, ("OK",)
        return s._replace(r=s.r._replace(retired=s.r.retired | {inc})), ("OK",)

    def assign(self, s: State, inc: Inc, gen: int, entities: Iterable[int]) -> tuple[State, Answer]:
        """Gives entities that are ready to pods with room."""
        if no := self.refused(s, inc, gen):
            return s, (no,)
        for e in entities:
            if s.r.mails[e].mode == READY or s.r.mails[e].q and not self.rule.assign_looks_again:
                s = self.give(s, e, self.choose(s.r, e), handover=True)
        return s, ("OK",)

    def reap(
        self, s: State, inc: Inc, gen: int, target: Inc, *, gave_up: bool, chunk: int = 1
    ) -> tuple[State, Answer]:
        """Hands a chunk of a pod's entities on; whether the pod is silent is for the caller to know."""
        no = self.refused(s, inc, gen)
        if no and not (no == "UNREGISTERED" and gave_up and target == inc):
            return s, (no,)
        r, rule = s.r, self.rule
        if target not in r.pods:
            return s, ("GONE",)
        if rule.leaving_is_marked:
            r = r._replace(leaving=r.leaving | {target})
        owned = [e for e, x in enumerate(r.mails) if x.owner == target]
        rest = owned if rule.the_active_are_reaped_too else [e for e in owned if r.mails[e].mode != ACTIVE]
        if rest and rule.a_pod_leaves_last:
            s = s._replace(r=r)
            suspect = next((e for i, e in r.suspects if i == target), None)
            crashed = not (gave_up and rule.giving_up_is_no_crash)
            crashed &= target[1] >= r.since or not rule.a_restart_is_no_crash
            for e in rest[:chunk]:
                x = s.r.mails[e]
                if x.mode == ACTIVE and suspect in (None, e) and crashed:
                    s = self.mail(s, e, x._replace(mark=AMONG if suspect is None else ALONE))
                s = self.let_go(s, e, target)
            if any(x.owner == target for x in s.r.mails):
                return s, ("MORE",)
            r = s.r
        suspects = frozenset(p for p in r.suspects if p[0] != target)
        last = r.joined[target[0]]
        joined = put(r.joined, target[0], None) if last and last[1] == target else r.joined
        gone = {target}
        r = r._replace(pods=r.pods - gone, leaving=r.leaving - gone, retired=r.retired - gone)
        r = r._replace(suspects=suspects, joined=joined)
        return s._replace(r=r, g=s.g._replace(gone=s.g.gone | gone)), ("GONE",)

    def beat(self, s: State, inc: Inc, gen: int) -> tuple[State, Answer]:
        """Renews a lease and reports."""
        r = s.r
        if gen != r.run or gen != r.gen:
            return s, ("GENERATION",)
        if inc not in r.pods or inc in r.leaving:
            if self.rule.renew_the_existing_only:
                return s, ("UNREGISTERED",)
            s = s._replace(r=r._replace(pods=r.pods | {inc}))
        owned = frozenset(e for e, x in enumerate(r.mails) if x.owner == inc)
        wakes = frozenset(e for e in owned if r.mails[e].wake == inc)
        cancels = tuple((e, r.mails[e].cancels) for e in sorted(owned) if r.mails[e].cancels)
        ready = tuple(e for e, x in enumerate(r.mails) if x.mode == READY)
        full = self.room_left(r, inc) <= 0
        report = Report(
            owned, wakes if self.rule.wake_is_kept else frozenset(), cancels, ready, bool(ready) and full
        )
        return s, ("OK", report)
