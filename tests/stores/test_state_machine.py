"""The scripts do what the store in memory does, whatever is asked, in whatever order."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.internal.conjecture.engine import ConjectureRunner
from hypothesis.stateful import run_state_machine_as_test
from redis_servers import RedisServer
from stores.both import Both, Mismatch
from stores.machine import StoreMachine
from stores.script_link import Change

ASKED = os.environ.get("TRIOQUEUE_HYPOTHESIS_EXAMPLES")
"""How many sequences to try, each time others, instead of the usual ones, which are the same in every run."""

USUAL = settings(
    max_examples=int(ASKED or 120),
    stateful_step_count=50,
    derandomize=ASKED is None,
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)

THOROUGH = settings(USUAL, max_examples=600, phases=[Phase.generate])
"""For what must be found, at the first sight of which it ends."""

SHORT = settings(THOROUGH, max_examples=25)
"""Likewise, where it is known where to begin: of few examples Hypothesis makes large ones from the first on."""

ANSWERS = (
    "Claimed Empty Backoff NotYours Next Parked Fenced Paused Report LOST WAIT INCOMPATIBLE "
    "known full dropped told late Tick"
)
"""What must have been answered at least once, as otherwise little was compared."""

MUTANTS: dict[str, Change] = {
    "commit without looking at done": (
        "stored < done or stored == done and h[4] ~= 'active'",
        "h[4] ~= 'active'",
    ),
    "commit without looking at the epoch": (
        "if h[1] ~= incarnation or h[2] ~= epoch or",
        "if h[1] ~= incarnation or",
    ),
    "claim by anybody": (
        "if h[1] ~= incarnation then\n        return 'NOT_YOURS'",
        "if not h[1] then\n        return 'NOT_YOURS'",
    ),
    "claim under the old epoch": (
        "math.max(tonumber(h[2] or 0) + 1, epoch_floor + 1, now)",
        "math.max(tonumber(h[2] or 0), epoch_floor, now)",
    ),
    "claim before the head is due": ("if due > now and due - now <= MAX_BACKOFF_US then", "if false then"),
    "sends by their last number": (
        "or sequence >= low and gappy and not filled[sequence]",
        "or false",
    ),
    "void forgets": ("redis.call('ZADD', GAPS, sequence, 'v' .. text(sequence))", ""),
    "idle release of what has work": ("if not its or why == 'idle' and x.queued > 0 then", "if not its then"),
    "a reap that does not begin with a mark": ("redis.call('ZADD', PODS, 0, target)", ""),
    "a pod leaves before its entities": ("if #rest == 0 then", "if true then"),
    "any pod's end is a crash": (
        "local crashed = not gave_up and not lost_by_restart",
        "local crashed = true",
    ),
    "a retry does not count in done": (
        "reached + 1, 'fetched'",
        "reached, 'fetched'",
    ),
    "what no worker has fetched is not there": (
        "fetched <= tonumber(reached) and redis.call('LLEN', Q) == 0",
        "fetched <= tonumber(reached)",
    ),
    "emptied and still in wake": (
        "redis.call('ZREM', WAKE, name)\n            emptied",
        "emptied",
    ),
    "children are lost": ("queue(child, h[1], h[2],", "type(child, h[1], h[2],"),
    "two suspects in one hand": ("if suspect and suspect ~= x.name then", "if false then"),
    "no quarantine": ("if not fresh or known ~= '' then", "if false then"),
    "an old server's pod is heard": ("if meta[1] ~= generation then", "if false then"),
    "a commit looks at the usual fields alone": ("> 3 + (h[3]", "> 99 + (h[3]"),
    "a quarantine stands beside what is read": ("if meta[1] and not meta[2] and", "if meta[1] and"),
    "held back beside what is read": ("end\nnote_serving()\nreturn 1", "end\nreturn 1"),
    "an epoch leaves no floor": ("redis.call('HSET', META, 'epoch_floor', text(epoch_floor))", ""),
    "an urgent command is not in the first batch": (
        "x.length == 0 and not x.urgent and",
        "x.length == 0 and",
    ),
    "a pause of the store is a silence": ("if gap < 0 or gap > 2 * heartbeat then", "if false then"),
    "moved before it is due": ("foreign = time_us(), 9, 0", "foreign = time_us() + 5000000, 9, 0"),
    "a copy of a move is not looked at": (
        "ZSCORE', LATER, one.number .. ' ' .. id) or now + 1",
        "TIME')[3] or 0",
    ),
    "what was moved stays in memory": ("redis.call('HDEL', delayed, id)", ""),
    "withdrawn and still put off": (
        "take_out(LATER, DELAYED, one.number, id)\n    redis.call('SET'",
        "redis.call('SET'",
    ),
    "what was withdrawn leaves no outcome": ("redis.call('SET', KEYS[11], ARGV[5], 'PX', ARGV[6])", ""),
    "a head that may run is said to be dropped": (
        "'active' and 'TOLD' or 'DROPPED'",
        "'active' and 'DROPPED' or 'DROPPED'",
    ),
    "the youngest pod keeps the clock": (
        "tonumber(number_of(pods[i])) < tonumber(number_of(oldest))",
        "tonumber(number_of(pods[i])) > tonumber(number_of(oldest))",
    ),
    "everybody comes for what is due": (
        "if oldest == incarnation or left < -OVERDUE_US then",
        "if true then",
    ),
    "nobody comes for what is overdue": (
        "if oldest == incarnation or left < -OVERDUE_US then",
        "if oldest == incarnation then",
    ),
    "the first one is put off in silence": ("hint(clock, 't')", "type(clock)"),
    "a key is never known": (
        "first = keyed[name] and keyed[name].id or redis.call('GET', name)",
        "first = nil",
    ),
    "a key is not known within its call": (
        "keyed[name] and keyed[name].id or redis.call('GET', name)",
        "redis.call('GET', name)",
    ),
    "a key stands for the last command": (
        "for name, one in pairs(keyed) do",
        "for name, one in pairs({}) do",
    ),
    "what a key made superfluous keeps its number": ("if new and not full then", "if fresh then"),
    "what is too much keeps no number": ("if new and not full then", "if new then"),
    "a mailbox takes one too many": ("full = more[x] > x.limit and", "full = more[x] > x.limit + 1 and"),
    "what is put off takes room": ("(not with_terms or tonumber(ARGV[run + 4]) == 0)", "true"),
    "a refusal is noted where nothing is": ("full and (x.mode or", "full and (true or"),
    "room is not shared within a call": ("more[x] or x.length + #x.commands", "more[x] or x.length"),
    "a refused group claims": ("and mine and x.heard then", "and mine then"),
    "a known key fences a worker": ("elseif not new and not too_large then", "elseif not too_large then"),
    "children that are put off are lost": (
        "put_off(KEYS[later], KEYS[later + 1], name, id, envelope, delay_us, time_us(), argument())",
        "type(argument())",
    ),
    "what is due goes to whoever moves it": (
        "x.eager = h[3]\n            queue(x, h[1], h[2], nil, now)",
        "queue(x, h[1], h[2], incarnation, now)",
    ),
    "what is kept awake has work": (
        "park(x, owner)",
        "park(x, owner) redis.call('ZADD', WAKE, number_of(owner), x.name)",
    ),
    "what is held back is kept awake": ("if not h[3] and not type_held(x.name) then", "if not h[3] then"),
    "what is paused is kept awake": (
        "if not h[3] and not type_held(x.name) then",
        "if not type_held(x.name) then",
    ),
    "who waits for room comes last": ("redis.call('ZCARD', x.ready) == 0 and choose", "choose"),
    "a repeated retry is told that nothing is queued": (
        "if retry_ms ~= '' then --",
        "if wait > 0 then --",
    ),
    "a pause takes effect with the next claim alone": (
        "if mode == 'parked' then\n    hint(",
        "if false then\n    hint(",
    ),
    "a pause ends, and the head keeps its failures": (
        "redis.call('HDEL', E, 'attempts', 'crashes', 'proven')\n        redis.call('ZREM', x.paused",
        "redis.call('ZREM', x.paused",
    ),
    "who was overruled is let go of at once": (
        "if h[4] then\n    mode = 'active'",
        "if false then\n    mode = ''",
    ),
    "claimed although it is paused": ("if h[11] or held_types and #commands", "if held_types and #commands"),
    "claimed although its type is held": (
        "if h[11] or held_types and #commands",
        "if h[11] or nil and #commands",
    ),
    "a commit goes on with what is paused": (
        "local held = paused or held_types",
        "local held = held_types",
    ),
    "a change of owner ends a pause": ("if x.is_paused then", "if false then"),
    "an entity of a held type is handed on": (
        "if not type_held(x.name) then\n            to =",
        "if true then\n            to =",
    ),
    "an entity of a held type is assigned": (
        "not type_held(x.name) and choose(x.load, nil, nil)",
        "choose(x.load, nil, nil)",
    ),
    "a held type is never let go on": ("if one ~= type then", "if true then"),
    "a heartbeat reports a held type": ("type_held(start) and {} or", ""),
    "purged although it has changed": ("[1] ~= ARGV[4] or", "[1] ~= ARGV[4] and"),
    "a purge does not overrule": ("overrule(E, h[1], h[3], now)\nif h[2]", "if h[2]"),
    "purged and still in wake": ("redis.call('ZREM', WAKE, name)\n    forget_cancels(E, name, h[4])", ""),
    "a purged head leaves its failures behind": ("forget_head(E, name, h[2])\nfor i", "for i"),
    "nobody is told of a purge": (
        "redis.call('PUBLISH', CHANNEL .. client, 'r' .. id .. ' ' .. ARGV[6])\n    end\n    if h[4]",
        "end\n    if h[4]",
    ),
    "the index of marks outlives a purge": ("'cancels', -1) == 0 then", "'cancels', -1) < 0 then"),
    "redelivered again and again": ("redis.call('HDEL', LETTERS, id)\nredis", "redis"),
    "a redelivery to the head does not overrule": ("overrule(E, mode, h[3], now)\n    forget", "forget"),
    "a redelivered head waits for another's time": (
        "forget_head(E, name, h[2])\n    if not mode",
        "if not mode",
    ),
    "what is discarded is delivered": ("elseif where == 'head' then", "else"),
    "a tick counts for everybody": ("if ARGV[4] == '' or stored ~= ARGV[3] then", "if ARGV[4] == '' then"),
    "an urgent command overtakes what was fetched": (
        "math.max(0, tonumber(h[1] or 0) - tonumber(h[2] or 0) - settled)",
        "0",
    ),
    "an urgent command is the last": ("if behind then", "if false then"),
    "the newest of the urgent is the first": ("while waits(high) do", "while false do"),
    "a retry gives a place of what was fetched up": (
        "'fetched', fetched + 1",
        "'fetched', fetched",
    ),
    "a purge leaves the places of what was fetched": ("moved_on(E, count)", "moved_on(E, 0)"),
    "a redelivered head may be overtaken": ("moved_on(E, -1)", "moved_on(E, 0)"),
    "what is put off forgets that it is urgent": (
        "' ' .. lane .. text(now) .. ' ' .. #name",
        "' ' .. text(now) .. ' ' .. #name",
    ),
    "a head that waits for an operator was never tried": (
        "local stays = retry_ms ~= '' or pause ~= ''",
        "local stays = retry_ms ~= ''",
    ),
    "a failed head is not paused": ("redis.call('HSET', E, 'paused', text(time_us()) .. ' ' .. pause)", ""),
    "a turn withdraws what is moved nevertheless": (
        "take_out(KEYS[later], KEYS[later + 1], one.number, id)\n            redis.call('SET', KEYS[result]",
        "redis.call('SET', KEYS[result]",
    ),
    "a turn withdraws what it has settled": (
        "> 0 and redis.call('EXISTS', KEYS[result]) == 0 then",
        "> 0 then",
    ),
    "nobody is told how far a command is": (
        "if ARGV[3] ~= '' then\n    redis.call('PUBLISH'",
        "if false then\n    redis.call('PUBLISH'",
    ),
}
"""Scripts that are broken in one place."""


@contextmanager
def open_machine(server: RedisServer, *changes: Change) -> Iterator[type[StoreMachine]]:
    """Makes the machine for a server with these changes of its scripts."""
    both = Both(server, changes)
    try:
        yield type("Machine", (StoreMachine,), {"both": both})
    finally:
        both.close()


def run(machine: type[StoreMachine], how: settings) -> None:
    """Tries sequences, each of them new.

    By itself Hypothesis tries each one some more times with parts of it doubled, which finds less in that time.
    """
    with patch.object(ConjectureRunner, "generate_mutations_from", lambda _self, _data: None):
        run_state_machine_as_test(machine, settings=how)


def test_the_scripts_do_what_memory_does(
    each_redis: RedisServer, redis_version: str, record_property: Callable[[str, object], None]
) -> None:
    with open_machine(each_redis) as machine:
        run(machine, USUAL)
        record_property("sequences", USUAL.max_examples)
        record_property("answers compared", machine.both.answers.total())
        record_property("on Redis", redis_version)
        unseen = set(ANSWERS.split()) - machine.both.answers.keys()
        assert not unseen, "this was not asked hard enough"


BEGINNINGS = {
    "a refused group claims": 5,
    "an entity of a held type is assigned": 2,
    "a key is not known within its call": 3,
    "what is paused is kept awake": 0,
    "what is due goes to whoever moves it": 24,
    "purged although it has changed": 6,
    "a purged head leaves its failures behind": 0,
    "a redelivery to the head does not overrule": 0,
    "an urgent command is not in the first batch": 2,
    "a known key fences a worker": 2,
    "a redelivered head waits for another's time": 2,
    "a pause takes effect with the next claim alone": 1,
    "commit without looking at done": 5,
    "room is not shared within a call": 2,
    "a turn withdraws what it has settled": 6,
}
"""Seeds with which those are found in seconds that are found late else."""


def search(machine: type[StoreMachine], name: str) -> None:
    """Tries sequences until one of them shows the difference."""
    if name in BEGINNINGS:
        run(seed(BEGINNINGS[name])(type(machine.__name__, (machine,), {})), SHORT)
    run(machine, THOROUGH)


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_script_is_found(name: str, clean_redis: RedisServer) -> None:
    with open_machine(clean_redis, MUTANTS[name]) as machine, pytest.raises(Mismatch):
        search(machine, name)
