"""The library's warnings, as lines on stderr."""

import logging

import click


class _Warnings(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        # Whether the server keeps anything on disk is no matter for who looks, and `trioqueue check` says it.
        if getattr(record, "event", None) != "not_durable":
            click.echo(f"warning: {record.getMessage()}", err=True)


def warn_on_stderr() -> None:
    """Has warnings of the library come as lines on stderr, but that of a Redis that keeps nothing on disk."""
    logger = logging.getLogger("trioqueue")
    logger.addHandler(_Warnings(logging.WARNING))
    logger.propagate = False
