"""Instruments that are ready to use, and a small HTTP server for what watches a process from outside.

`Prometheus` and `Traces` need the extras `prometheus` and `opentelemetry`, and are imported when they are asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from trioqueue.instruments.monitor import CannotListen, open_monitor

if TYPE_CHECKING:
    from trioqueue.instruments.opentelemetry import Traces
    from trioqueue.instruments.prometheus import Prometheus

__all__ = ["CannotListen", "Prometheus", "Traces", "open_monitor"]

for _public in (CannotListen, open_monitor):
    # Users see the public names only: in tracebacks, reprs and the docs.
    _public.__module__ = __name__

_ON_DEMAND = {"Prometheus": ("prometheus", "prometheus_client"), "Traces": ("opentelemetry", "opentelemetry")}
"""Where each of them is, which is called as its extra, and the package that it needs."""


def __getattr__(name: str) -> Any:
    if name not in _ON_DEMAND:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    extra, package = _ON_DEMAND[name]
    try:
        found = getattr(import_module(f"{__name__}.{extra}"), name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != package:
            raise
        raise ImportError(
            f'{name} needs {package}: pip install "trioqueue[{extra}]"', name=error.name
        ) from None
    found.__module__ = __name__
    return found
