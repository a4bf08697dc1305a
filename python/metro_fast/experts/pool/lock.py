"""The lock around weights that are changed in place."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from metro_fast.errors import MetroFastError


class ResidentLock:
    """Lets readers of one name in together, and makes another name resident between readers.

    Requests are served in the order of their arrival. Consecutive requests for the resident name
    enter together, as long as no request for another name waits before them; so none waits forever.

    Attributes:
        resident: The name that is resident, or None.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._waiting: deque[object] = deque()
        self._readers = 0
        self._own = threading.local()
        self.resident: str | None = None

    @contextmanager
    def use(self, name: str, make_resident: Callable[[str], None]) -> Iterator[None]:
        """Hold the name while the body runs.

        Args:
            name: The name that must be resident.
            make_resident: Called with the name while there are no readers, if another name is
                resident.

        Raises:
            MetroFastError: If this thread holds another name already.
        """
        own = getattr(self._own, "name", None)
        if own is not None and own != name:
            raise MetroFastError(
                f"this thread uses {own!r} already: leave that block before using {name!r}"
            )
        if own is not None:
            yield
            return
        self._enter(name, make_resident)
        self._own.name = name
        try:
            yield
        finally:
            self._own.name = None
            with self._condition:
                self._readers -= 1
                self._condition.notify_all()

    def _enter(self, name: str, make_resident: Callable[[str], None]) -> None:
        turn = object()
        with self._condition:
            self._waiting.append(turn)
            try:
                self._condition.wait_for(
                    lambda: (
                        self._waiting[0] is turn and (self._readers == 0 or self.resident == name)
                    )
                )
                if self.resident != name:
                    # There are no readers, and none can enter while the condition is held.
                    make_resident(name)
                    self.resident = name
                self._readers += 1
            finally:
                self._waiting.remove(turn)
                self._condition.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep every reader out while the body runs.

        Raises:
            MetroFastError: If this thread is itself inside `use`.
        """
        if getattr(self._own, "name", None) is not None:
            raise MetroFastError("this thread is inside pool.use(...): leave that block first")
        turn = object()
        with self._condition:
            self._waiting.append(turn)
            try:
                self._condition.wait_for(lambda: self._waiting[0] is turn and self._readers == 0)
                yield
            finally:
                self._waiting.remove(turn)
                self._condition.notify_all()
