"""Scrapes, as Prometheus reads them, and answers of a monitor."""

from collections.abc import Callable
from http.client import HTTPConnection
from typing import NamedTuple

import trio
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from trioqueue.instruments import Prometheus

PATIENCE = 20
"""Seconds for what happens within one; a lease that is lost and found takes three."""


LABELS = ("entity_type", "command", "outcome", "le")
"""In the order in which tests name their values."""


class Answer(NamedTuple):
    status: int
    text: str
    content_type: str = ""


class Scrape:
    """The metrics of one moment."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self._samples = {
            (sample.name, *(sample.labels[one] for one in LABELS if one in sample.labels)): sample.value
            for family in self.families.values()
            for sample in family.samples
        }

    def value(self, name: str, *labels: str) -> float | None:
        """Gives what a series has; None: it is not there."""
        return self._samples.get((f"trioqueue_{name}", *labels))

    def labels_of(self, name: str) -> set[tuple[str, ...]]:
        """Lists the label values of all series of a name."""
        return {key[1:] for key in self._samples if key[0] == f"trioqueue_{name}"}

    def buckets(self, name: str, *labels: str) -> list[float]:
        """Gives a histogram's buckets, as they are summed up."""
        wanted = (f"trioqueue_{name}_bucket", *labels)
        return [value for key, value in self._samples.items() if key[:-1] == wanted]


def new_prometheus() -> Prometheus:
    """Makes one with a registry of its own."""
    return Prometheus(CollectorRegistry())


def look(prometheus: Prometheus) -> Scrape:
    text, content_type = prometheus.exposition("")
    assert content_type.startswith("text/plain; version=0.0.4")
    return Scrape(text.decode())


def ask(bound: tuple[str, int], path: str, *, method: str = "GET", accept: str = "") -> Answer:
    """Asks a monitor, from whatever thread."""
    connection = HTTPConnection(*bound, timeout=PATIENCE)
    try:
        connection.request(method, path, headers={"Accept": accept} if accept else {})
        answer = connection.getresponse()
        return Answer(answer.status, answer.read().decode(), answer.headers["Content-Type"])
    finally:
        connection.close()


async def get(bound: tuple[str, int], path: str) -> Answer:
    """Asks a monitor while the loop goes on."""
    return await trio.to_thread.run_sync(ask, bound, path)


async def until_status(bound: tuple[str, int], path: str, status: int) -> str:
    """Asks again and again until that is the answer, and gives its text."""
    with trio.fail_after(PATIENCE):
        while (answer := await get(bound, path)).status != status:  # noqa: ASYNC110 - a thread answers
            await trio.sleep(0.02)
    return answer.text


async def until_scraped(bound: tuple[str, int], reached: Callable[[Scrape], bool]) -> Scrape:
    """Scrapes again and again until it shows that."""
    with trio.fail_after(PATIENCE):
        while True:
            scrape = Scrape((await get(bound, "/metrics")).text)
            if reached(scrape):
                return scrape
            await trio.sleep(0.02)
