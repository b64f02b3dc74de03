"""SIGINT and SIGTERM as a wish to stop after the current step; a second SIGINT stops at once."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any


class StopSignals:
    """While entered, ``requested`` becomes true at the first SIGINT or SIGTERM.

    Only the main thread can ask for signals; in another one this does nothing.
    """

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            # None stands for a handler that was not set from Python, which cannot be set from here again.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before.clear()

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True
        # Not print: a handler may run in the middle of one.
        text = f"{signal.Signals(number).name}: finishing this step, then saving; Ctrl-C again stops at once.\n"
        os.write(2, text.encode())
