"""Where HTTP meets the queues: a request becomes a command, and its outcome a response."""

from http import HTTPStatus

import attrs
from starlette.requests import Request
from starlette.responses import JSONResponse

from trioqueue import AtomicQueues

from .body import Body
from .commands import Account, Deposit, Transfer, Withdraw


@attrs.frozen
class Teller:
    """Has one endpoint a method.  Errors just pass through: `problems` knows what becomes of each."""

    queues: AtomicQueues

    async def balance(self, request: Request) -> JSONResponse:
        # Read from the store, past the mailbox: as it was committed last, however much is waiting there.
        account = await self.queues.state(Account, request.path_params["account_id"])
        return JSONResponse({"balance": account.balance})

    async def deposit(self, request: Request) -> JSONResponse:
        body = await Body.of(request)
        # A deposit is never refused, so nobody waits for it: once accepted, it will happen.
        receipt = await self.queues.send(Deposit(request.path_params["account_id"], body.amount()))
        return JSONResponse({"command_id": receipt.command_id}, HTTPStatus.ACCEPTED)

    async def withdraw(self, request: Request) -> JSONResponse:
        body = await Body.of(request)
        balance = await self.queues.call(Withdraw(request.path_params["account_id"], body.amount()))
        return JSONResponse({"balance": balance})

    async def transfer(self, request: Request) -> JSONResponse:
        body = await Body.of(request)
        balance = await self.queues.call(
            Transfer(body.account_id("from"), body.account_id("to"), body.amount())
        )
        return JSONResponse({"balance": balance})
