"""The examples that are not on Trio: their pods, and what uses the entities from outside, each in its own process."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest
from cli.command_line import environment
from redis_servers import RedisServer

EXAMPLES = Path(__file__).parents[2] / "examples"

PATIENCE = 60

SCRIPT_SAYS = """opera: 100 sold, 20 came too late
jazz: one order, tried three times, leaves [6, 6, 6]
jazz: 0 left
"""


@contextmanager
def process(folder: Path, *args: str) -> Iterator[subprocess.Popen[str]]:
    """Runs an example until the block ends; told to end, it does so at once and without complaints."""
    log = folder / "stderr"
    with (
        log.open("w") as noise,
        subprocess.Popen(
            [sys.executable, EXAMPLES / args[0], *args[1:]],
            cwd=folder,
            env=environment(PYTHONWARNINGS="error"),
            stdout=subprocess.PIPE,
            stderr=noise,
            text=True,
        ) as running,
    ):
        try:
            yield running
            running.terminate()
            code = running.wait(PATIENCE)
        finally:
            running.kill()
    complaints = [line for line in log.read_text().splitlines() if "keeps nothing on disk" not in line]
    # uvicorn ends by the very signal that it was told to end by, once it has shut down.
    assert (code in (0, -15), complaints) == (True, [])


def run_script(url: str, folder: Path) -> str:
    ran = subprocess.run(
        [sys.executable, EXAMPLES / "plain_script.py", url],
        cwd=folder,
        env=environment(PYTHONWARNINGS="error"),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_the_plain_script_twice(clean_redis: RedisServer, tmp_path: Path) -> None:
    with process(tmp_path, "plain_script.py", "pod", clean_redis.url):
        for _ in range(2):
            assert run_script(clean_redis.url, tmp_path) == SCRIPT_SAYS


@pytest.fixture
def web(clean_redis: RedisServer, tmp_path: Path) -> Iterator[HTTPConnection]:
    (tmp_path / "pod").mkdir()
    (tmp_path / "web").mkdir()
    with (
        process(tmp_path / "pod", "fastapi_sender.py", "pod", clean_redis.url),
        process(tmp_path / "web", "fastapi_sender.py", clean_redis.url, "0") as server,
    ):
        assert server.stdout is not None
        connection = HTTPConnection(
            server.stdout.readline().strip().removeprefix("http://"), timeout=PATIENCE
        )
        yield connection
        connection.close()


def post(web: HTTPConnection, path: str) -> tuple[int, str]:
    web.request("POST", path)
    response = web.getresponse()
    return response.status, response.read().decode()


def test_the_web_service(web: HTTPConnection) -> None:
    assert post(web, "/concerts/opera/seats?seats=30") == (200, '{"left":70}')
    status, said = post(web, "/concerts/opera/wishes?seats=60")
    assert (status, said[:15]) == (202, '{"command_id":"')
    assert post(web, "/concerts/opera/seats?seats=11") == (409, '{"error":"sold out","left":10}')
    assert post(web, "/concerts/%00/seats?seats=1") == (404, '{"error":"no concert can have this name"}')
    assert post(web, "/concerts/opera/seats?seats=many")[0] == 422
