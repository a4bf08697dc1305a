"""Who may use the weights of a model that are changed in place."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from metro_fast.errors import MetroFastError


class ResidentLock:
    """Readers of one name go together; a reader of another name waits, and makes it resident first.

    Requests are served in the order in which they came, except that those for the resident name go
    in together as long as nobody waits for another: no name waits for ever.
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
            name: Which name must be resident.
            make_resident: Called with the name while nobody reads, if another one is resident.

        Raises:
            MetroFastError: If this thread holds another name already.
        """
        held = getattr(self._own, "name", None)
        if held is not None and held != name:
            raise MetroFastError(
                f"this thread uses {held!r} already: leave that block before using {name!r}"
            )
        if held is not None:
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
                    # Nobody reads, and nobody enters while the condition is held.
                    make_resident(name)
                    self.resident = name
                self._readers += 1
            finally:
                self._waiting.remove(turn)
                self._condition.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold off every reader while the body runs.

        Raises:
            MetroFastError: If this thread itself is inside `use`.
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
