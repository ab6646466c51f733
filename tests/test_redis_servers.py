import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from redis_servers import RedisServer, ServerFailed


def test_leaves_nothing_behind() -> None:
    with RedisServer() as server:
        port, pid, data = server.port, server.pid, server.data
        server.pause()

    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port)).close()
    assert not data.exists()


def test_a_killed_test_run_leaves_nothing_behind() -> None:
    program = "import redis_servers; s = redis_servers.RedisServer().__enter__(); print(s.data, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as run:
        assert run.stdout is not None
        data = Path(run.stdout.readline().decode().strip())
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(data / "redis.sock"))

        run.send_signal(signal.SIGKILL)

    with connection, suppress(ConnectionResetError):
        connection.settimeout(10.0)
        assert connection.recv(1) == b""


def test_keeps_place_and_data_over_a_kill() -> None:
    with RedisServer(appendonly=True) as server:
        url = server.url
        with server.client() as client:
            client.set("key", "value")
        server.kill()
        server.restart()

        assert server.url == url
        with server.client() as client:
            assert client.get("key") == b"value"


def test_says_why_a_server_does_not_start() -> None:
    with pytest.raises(ServerFailed, match="nonsense"), RedisServer(options={"nonsense": "yes"}):
        pass
