"""One victim behind a proxy, and what is to happen to one of its requests."""

import signal
from collections.abc import Callable
from typing import Any

import trio
from faults.fleet_processes import PodProcess
from faults.lab import Lab, Pod
from faults.proxy import Fault, How, Proxy

FAULTS = {
    "lost": How.LOST,
    "unanswered": How.UNANSWERED,
    "cut inside": How.INSIDE,
    "late": How.LATE,
    "killed before": How.LOST,
    "killed after": How.UNANSWERED,
}


class Trial:
    """A victim behind a proxy, and what is to happen to one of its requests."""

    def __init__(self, lab: Lab, proxy: Proxy, fault: str) -> None:
        self.lab, self.proxy = lab, proxy
        self.kills = fault.startswith("killed")
        self._how = FAULTS[fault]
        self.fault: Fault
        self.pod: Pod
        self.process: PodProcess

    def arm(self, kind: str, nth: int = 1) -> None:
        """Plans the fault for the nth request of this kind from now on."""
        then: Callable[[], object] = (
            (lambda: self.lab.kill(self.process)) if self.kills else self.lab.history.fault
        )
        self.fault = self.proxy.plan(Fault(kind, self._how, nth, then=then))

    async def start(self, *, sends: int = 0, does: str = "", **options: Any) -> None:
        """Starts the victim: in its own process if it is to be killed, and then it `does` by itself what it shall."""
        if self.kills:
            self.process = self.lab.process("victim", self.proxy.url, sends=sends, does=does, **options)
            if not hasattr(self, "fault") or sends or does:
                await self.process.wait_ready()
        else:
            self.pod = await self.lab.pod("victim", self.proxy.url, **options)

    async def end(self) -> None:
        """Tells the victim to end, and does not wait for it."""
        if self.kills:
            self.process.signal(signal.SIGTERM)
        else:
            self.lab._nursery.start_soon(self.pod.stop)

    async def happened(self) -> None:
        """Waits until the fault has happened, and until a late request was carried out."""
        with trio.fail_after(10):
            await self.fault.fired.wait()
            if self.fault.how is How.LATE:
                await self.fault.ran.wait()
