"""Requests of one moment."""

from collections.abc import Awaitable, Callable
from typing import Any

import trio


async def at_once(*requests: Callable[[], Awaitable[Any]]) -> list[Any]:
    """Makes requests of one moment, in whatever order; gives their answers or errors, in the order given."""
    answers: list[Any] = [None] * len(requests)

    async def ask(number: int) -> None:
        try:
            answers[number] = await requests[number]()
        except Exception as error:
            answers[number] = error

    async with trio.open_nursery() as nursery:
        for number in range(len(requests)):
            nursery.start_soon(ask, number)
    return answers
