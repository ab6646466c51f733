"""For programs that are not on Trio: sends commands to the entities that pods serve, and waits for their answers.

Threads, plain scripts, Django, Celery, and asyncio by way of a thread.
"""

from trioqueue.blocking.opening import open_sender
from trioqueue.blocking.sender import Sender

__all__ = ["Sender", "open_sender"]

for _name in __all__:
    # Users see the public names only: in tracebacks, reprs and the docs.
    globals()[_name].__module__ = __name__
del _name  # pyright: ignore[reportPossiblyUnboundVariable]
