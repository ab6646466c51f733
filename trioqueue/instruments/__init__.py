"""Instruments that are ready to use, and a small HTTP server for what watches a process from outside.

`Prometheus` needs `pip install "trioqueue[prometheus]"`, and is imported when it is asked for.
"""

from typing import TYPE_CHECKING, Any

from trioqueue.instruments.monitor import CannotListen, open_monitor

if TYPE_CHECKING:
    from trioqueue.instruments.prometheus import Prometheus

__all__ = ["CannotListen", "Prometheus", "open_monitor"]

for _public in (CannotListen, open_monitor):
    # Users see the public names only: in tracebacks, reprs and the docs.
    _public.__module__ = __name__


def __getattr__(name: str) -> Any:
    if name != "Prometheus":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from trioqueue.instruments.prometheus import Prometheus  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name != "prometheus_client":
            raise
        raise ImportError(
            'Prometheus needs prometheus_client: pip install "trioqueue[prometheus]"', name=error.name
        ) from None
    Prometheus.__module__ = __name__
    return Prometheus
