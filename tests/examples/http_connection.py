"""A client's end of one HTTP connection, kept open from request to request, as a browser does."""

import json
from typing import Any

import h11
import trio

MOST_AT_ONCE = 65_536


class HungUp(Exception):
    """The server closed the connection; whether it saw the request is not known."""


class HttpConnection:
    """Asks one thing at a time.

    Invariant: between two questions h11 is idle, unless the server has asked for another connection.
    """

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._http = h11.Connection(h11.CLIENT)

    async def get(self, path: str) -> tuple[int, Any]:
        return await self.ask("GET", path)

    async def post(self, path: str, fields: dict[str, object]) -> tuple[int, Any]:
        return await self.ask("POST", path, json.dumps(fields).encode())

    async def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, Any]:
        """Returns the status, and what the JSON of the answer says; other answers are returned as bytes.

        Raises:
            HungUp: Now, or after the answer before this one.
        """
        if self._http.our_state is not h11.IDLE:
            raise HungUp
        headers = [("Host", "bank.example"), ("Content-Length", str(len(body)))]
        events = (
            h11.Request(method=method, target=path, headers=headers),
            h11.Data(body),
            h11.EndOfMessage(),
        )
        try:
            await self._stream.send_all(b"".join([self._http.send(event) or b"" for event in events]))
            answer = await self._next_event()
            assert isinstance(answer, h11.Response)
            data = b""
            while isinstance(part := await self._next_event(), h11.Data):
                data += part.data
            assert isinstance(part, h11.EndOfMessage)
        except (trio.BrokenResourceError, h11.RemoteProtocolError) as error:
            raise HungUp from error
        if self._http.our_state is h11.DONE:
            self._http.start_next_cycle()
        is_json = (b"content-type", b"application/json") in answer.headers
        return answer.status_code, json.loads(data) if is_json else data

    async def _next_event(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self._stream.receive_some(MOST_AT_ONCE))
        if isinstance(event, h11.ConnectionClosed):
            raise HungUp
        return event
