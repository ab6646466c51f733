from trioqueue.stores.redis.backlog import Backlog, Request


def backlog_of(*names: str, server: str | None = None) -> Backlog:
    backlog = Backlog()
    backlog.queue += [request(name, server) for name in names]
    return backlog


def request(name: str, server: str | None = None, since: float = 0.0) -> Request:
    return Request(name.encode(), lambda _: None, server, since)


def names(requests: "list[Request]") -> str:
    return b"".join(one.packed for one in requests).decode()


def test_what_is_taken_is_in_flight() -> None:
    backlog = backlog_of("a", "b")

    assert names(backlog.take()) == "ab"
    assert names(list(backlog.in_flight)) == "ab"
    assert backlog.queue == []


def test_what_is_taken_back_comes_first_and_is_marked() -> None:
    backlog = backlog_of("a", "b")
    backlog.take()
    backlog.queue.append(request("c"))

    backlog.take_back()

    assert names(backlog.queue) == "abc"
    assert [one.written for one in backlog.queue] == [True, True, False]
    assert not backlog.in_flight


def test_the_mark_stays_over_several_links() -> None:
    backlog = backlog_of("a")
    backlog.take()
    backlog.take_back()
    backlog.take_back()

    assert backlog.queue[0].written


def test_what_is_for_another_server_is_turned_away() -> None:
    backlog = backlog_of("a")
    backlog.queue += [request("b", "old"), request("c", "new"), request("d", "old")]
    backlog.strays = True

    assert names(backlog.turn_away("new")) == "bd"
    assert names(backlog.queue) == "ac"
    assert not backlog.strays


def test_only_what_is_too_old_is_given_up() -> None:
    backlog = Backlog()
    backlog.queue += [request("a", since=1.0), request("b", since=2.0), request("c", since=3.0)]

    assert names(backlog.give_up(2.0)) == "ab"
    assert names(backlog.queue) == "c"
    assert backlog.give_up(2.0) == []


def test_clearing_returns_everything_in_order() -> None:
    backlog = backlog_of("a", "b")
    backlog.take()
    backlog.queue.append(request("c"))

    assert names(backlog.clear()) == "abc"
    assert backlog.clear() == []
