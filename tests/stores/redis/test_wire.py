import socket
import time

import pytest
import trio
import trio.testing

from trioqueue.stores.redis.wire import SocketWire, WireBroken, reason


async def test_sends_more_than_fits_into_the_buffer_and_notes_that_bytes_move() -> None:
    ours, theirs = socket.socketpair()
    wire, data = SocketWire(ours), bytes(range(256)) * 40_000
    begun = time.monotonic()
    wire.moved_at = 0.0
    got = bytearray()

    with trio.socket.from_stdlib_socket(theirs) as peer:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wire.send, data)
            await trio.testing.wait_all_tasks_blocked()
            assert wire.moved_at == 0.0
            while len(got) < len(data):
                got += await peer.recv(1_000_000)
        assert got == data
        assert wire.moved_at >= begun
    wire.close()


async def test_cancelled_while_it_waits_it_has_read_nothing() -> None:
    ours, theirs = socket.socketpair()
    wire = SocketWire(ours)
    with theirs:
        with trio.move_on_after(0) as scope:
            await wire.receive()
        assert scope.cancelled_caught

        theirs.send(b"all of it")
        wire.moved_at = 0.0
        assert await wire.receive() == b"all of it"
        assert wire.moved_at > 0.0
    wire.close()


async def test_an_end_is_an_error_for_both_directions() -> None:
    ours, theirs = socket.socketpair()
    wire = SocketWire(ours)
    theirs.close()

    with pytest.raises(WireBroken, match="closed the connection"):
        await wire.receive()
    with pytest.raises(WireBroken, match="Broken pipe"):
        await wire.send(b"x")
    wire.close()


async def test_the_reason_is_found_under_what_trio_wraps_round_it() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(OSError) as caught:
            await trio.open_tcp_stream("127.0.0.1", unused.getsockname()[1])

    assert reason(caught.value) == "Connection refused"
