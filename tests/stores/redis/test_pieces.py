"""What Redis answers to the requests of a command is a flat list, which it need not write in pieces."""

import pytest
from lamps import Switch
from redis_servers import RedisServer

from trioqueue import EntityPolicy, Registry, open_atomic_queues
from trioqueue.stores.redis.batch import _Call


@pytest.mark.parametrize("commit", ["each", "group"])
async def test_no_answer_has_a_list_in_it(
    clean_redis: RedisServer, monkeypatch: pytest.MonkeyPatch, commit: str
) -> None:
    registry, answers = Registry(), list[tuple[str, object]]()

    @registry.handles(Switch)
    async def switch(command: Switch) -> int:
        return len(command.what)

    deliver = _Call.deliver

    def noted(call: _Call, reply: object) -> None:
        answers.append((call._what.name, reply))
        deliver(call, reply)

    monkeypatch.setattr(_Call, "deliver", noted)
    policies = {"lamp": EntityPolicy(commit=commit)}  # type: ignore[arg-type]
    async with open_atomic_queues(clean_redis.url, registry=registry, entities=policies) as queues:
        assert await queues.call(Switch("a", "on")) == 2
        await queues.send_many([Switch(lamp, "on") for lamp in "abcabc" * 100])
        await queues.wait_settled()
    listed = {name for name, reply in answers if isinstance(reply, list)}
    assert {"send", "commit"} <= listed
    assert not [
        reply
        for _, reply in answers
        if isinstance(reply, list) and any(isinstance(one, list) for one in reply)
    ]
