"""Waiting for the signals by which a process is told to end."""

import signal
import threading

import trio


async def wait_for_end() -> None:
    """Returns at SIGTERM or SIGINT; outside of the main thread, where Python gives no signals, it waits for ever."""
    if threading.current_thread() is not threading.main_thread():
        await trio.sleep_forever()
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            return
