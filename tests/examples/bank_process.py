"""Processes of the bank service: started as its first lines say, and ended with the block that started them."""

import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import trio
from cli.command_line import environment
from examples.http_connection import HttpConnection

EXAMPLES = Path(__file__).parents[2] / "examples"

PATIENCE = 30
"""Seconds for a process to start or to end; either takes less than one where nothing else runs."""


class BankProcess:
    """One process.  It listens on a port of its own choice, and has said so once `wait_listening` returned."""

    def __init__(self, process: trio.Process, log: Path) -> None:
        self._process = process
        self._log = log
        self._port = 0

    async def wait_listening(self) -> None:
        assert self._process.stdout is not None
        said = b""
        with trio.fail_after(PATIENCE):
            while not said.endswith(b"\n") and (more := await self._process.stdout.receive_some()):
                said += more
        assert said.startswith(b"http://127.0.0.1:"), self.noise()
        self._port = int(said.rpartition(b":")[2])

    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[HttpConnection]:
        async with await trio.open_tcp_stream("127.0.0.1", self._port) as stream:
            yield HttpConnection(stream)

    def tell_to_end(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    async def wait_ended(self) -> int:
        with trio.fail_after(PATIENCE):
            return await self._process.wait()

    def noise(self) -> str:
        """Reads what it wrote on stderr."""
        return self._log.read_text()


@asynccontextmanager
async def open_bank(folder: Path, *options: str, processes: int = 1) -> AsyncGenerator[list[BankProcess]]:
    """Starts processes side by side; told to end at the end, each of them exits with 0."""
    async with AsyncExitStack() as stack:
        bank = [
            await stack.enter_async_context(_open_process(folder / f"bank-{number}.err", options))
            for number in range(processes)
        ]
        for process in bank:
            await process.wait_listening()
        yield bank
        for process in bank:
            process.tell_to_end()
        for process in bank:
            assert await process.wait_ended() == 0, process.noise()


@asynccontextmanager
async def _open_process(log: Path, options: tuple[str, ...]) -> AsyncGenerator[BankProcess]:
    with log.open("wb") as noise:
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "bank_service", "--port", "0", *options],
            cwd=EXAMPLES,
            env=environment(PYTHONWARNINGS="error"),
            stdout=subprocess.PIPE,
            stderr=noise,
        )
    bank_process = BankProcess(process, log)
    try:
        yield bank_process
    except BaseException:
        print(bank_process.noise())  # for whoever reads of the failure
        raise
    finally:
        process.kill()
        assert process.stdout is not None
        # Without the shield, a cancelled test would leave a process that nobody has waited for.
        with trio.CancelScope(shield=True, deadline=trio.current_time() + PATIENCE):
            await process.wait()
            await process.stdout.aclose()
