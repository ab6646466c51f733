import gc
import threading
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """After each test no sender's thread is left."""
    yield
    left = [thread.name for thread in threading.enumerate() if thread.name.startswith("trioqueue")]
    assert left == []


@pytest.fixture(autouse=True, scope="module")
def no_connection_is_left() -> Iterator[None]:
    """The garbage collector warns of a socket that nobody has closed, and a warning is an error here."""
    yield
    gc.collect()
