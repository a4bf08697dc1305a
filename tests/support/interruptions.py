"""An exception at the Nth event of Python's tracing inside the code under test."""

import contextlib
import functools
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import metro_fast

OURS = str(Path(metro_fast.__file__).parent)
CALLED = tuple(
    function.__code__.co_filename  # `os` is frozen, and its name is not its file's
    for function in (contextlib.contextmanager, functools.wraps, os.fdopen, threading.settrace)
)
"""Files of Python's library that our code calls, and whose frames are interrupted too."""


class Stop(BaseException):
    """An exception that nothing expects."""


class Injection:
    """Raises an exception at one event: a call, a line, an opcode or a return.

    A real signal is noticed at some of the opcodes alone, so this is the harder test. An event
    counts if its frame is in the package, or is one of `contextlib` or `threading` below it.

    Args:
        at: The number of the event, from 1; 0 only counts.
        error: What is raised.

    Attributes:
        events: How many events there were.
        where: The place at which it was raised, or None.
    """

    def __init__(self, at: int, error: type[BaseException] = KeyboardInterrupt) -> None:
        self.at, self.error = at, error
        self.events = 0
        self.where: str | None = None

    def run(self, work: Callable[[], Any]) -> BaseException | None:
        """Run the work; returns the exception that came out of it, with its traceback."""
        sys.settrace(self._called)
        try:
            work()
        except BaseException as error:  # noqa: BLE001  (any that was raised)
            return error
        finally:
            sys.settrace(None)
        return None

    def _called(self, frame: FrameType, event: str, argument: Any) -> Any:
        name = frame.f_code.co_filename
        if not name.startswith(OURS) and not (name in CALLED and _below_ours(frame)):
            return None
        frame.f_trace_opcodes = True
        self._event(frame, event, argument)
        return self._event

    def _event(self, frame: FrameType, event: str, argument: Any) -> Any:
        self.events += 1
        if self.events == self.at:
            sys.settrace(None)
            code = frame.f_code
            self.where = f"{Path(code.co_filename).name}:{frame.f_lineno} {code.co_name} ({event})"
            raise self.error
        return self._event


def _below_ours(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith(OURS):
            return True
        frame = frame.f_back
    return False
