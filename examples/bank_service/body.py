"""What the body of a request says, read strictly: nothing is sent that an account could not handle."""

from typing import Any, cast

import attrs
from starlette.requests import Request

MOST = 1_000_000_000_000
"""Cents of one movement: more than anybody has, and so far below 64 bits that balances stay there too."""


@attrs.define
class BadBody(Exception):
    """The client's mistake, in a sentence for the client."""

    reason: str

    def __str__(self) -> str:
        return self.reason


@attrs.frozen
class Body:
    """The JSON object that a request brought."""

    fields: dict[str, Any]

    @classmethod
    async def of(cls, request: Request) -> "Body":
        try:
            fields = await request.json()
        except (ValueError, RecursionError) as error:  # the latter for a million open brackets
            raise BadBody("The body is not JSON.") from error
        if not isinstance(fields, dict):
            raise BadBody("The body is no JSON object.")
        return cls(cast("dict[str, Any]", fields))

    def amount(self) -> int:
        amount = self.fields.get("amount")
        if type(amount) is not int or not 0 < amount <= MOST:  # true is an int to Python, and no amount
            raise BadBody(f"The amount is not a whole number of cents from 1 to {MOST}.")
        return amount

    def account_id(self, name: str) -> str:
        account_id = self.fields.get(name)
        if not isinstance(account_id, str):
            raise BadBody(f"{name!r} is not the id of an account, which is a string.")
        return account_id
