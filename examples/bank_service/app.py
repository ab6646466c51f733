"""The application that an HTTP server serves: which path is for what."""

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount, Route

from trioqueue import AtomicQueues

from .deadline import Deadline
from .problems import ANSWERS
from .teller import Teller

LARGEST_BODY = 16_384
"""Bytes; a transfer between the longest ids takes a tenth of it."""


def make_app(queues: AtomicQueues, patience: float) -> Starlette:
    """Makes the application on open queues, where a request takes `patience` seconds at most."""
    teller = Teller(queues)
    routes = [
        Route("/accounts/{account_id}", teller.balance),
        Route("/accounts/{account_id}/deposit", teller.deposit, methods=["POST"]),
        Route("/accounts/{account_id}/withdraw", teller.withdraw, methods=["POST"]),
        Route("/transfers", teller.transfer, methods=["POST"]),
    ]
    # Around the routes and not around the application, so that running out of time is answered like any other error.
    in_time = Mount("/", routes=routes, middleware=[Middleware(Deadline, seconds=patience)])
    return Starlette(routes=[in_time], exception_handlers=ANSWERS, max_body_size=LARGEST_BODY)
