"""The lock around weights that are changed in place."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeVar

from metro_fast.errors import MetroFastError
from metro_fast.experts.pool.claim import Block, Claim

T = TypeVar("T")

_INSIDE: ContextVar[Claim | None] = ContextVar("metro_fast_inside", default=None)
"""The last claim in this task or thread; the claims around it follow by `outer`."""


class ResidentLock:
    """Lets users of one name in together, and makes another name resident between them.

    Requests are served in the order of their arrival. Consecutive requests for the resident name
    enter together, as long as no request for another name waits before them; so none waits forever.
    A request from inside of a block for the same name does not wait for anything, and neither
    does one from another task of its event loop, since waiting would stop the loop.

    An exception at any moment leaves its state right (see `Claim`).

    Attributes:
        resident: The name that is resident, or None; `make_resident` sets it.
    """

    def __init__(self) -> None:
        self.resident: str | None = None
        self._turns: list[Claim] = []  # in the order of their arrival; some are over
        self._held: list[Claim] = []  # on the resident name; some are over

    @property
    def users(self) -> int:
        """How many blocks of `use` there are."""
        return sum(not claim.over for claim in self._held.copy())

    def use(
        self, name: str, make_resident: Callable[[str], None], value: Callable[[], T]
    ) -> Block[T]:
        """Hold the name while the body of a `with` runs.

        Args:
            name: The name that must be resident.
            make_resident: Called with the name while nobody uses a name, if another is resident.
            value: What the block gives.

        Raises:
            MetroFastError: On entering, if this thread or task is inside of a block of another
                name, or another task of its event loop is.
        """
        claim = Claim(name, _running_loop())
        return claim.block(partial(self._begin_use, claim, make_resident, value))

    def alone(self) -> Block[None]:
        """Keep everybody else out while the body of a `with` runs.

        Raises:
            MetroFastError: On entering, if this thread or task is itself inside of `use`, or
                another task of its event loop is.
        """
        claim = Claim(loop=_running_loop())
        return claim.block(partial(self._begin_alone, claim))

    def _begin_use(
        self, claim: Claim, make_resident: Callable[[str], None], value: Callable[[], T]
    ) -> T:
        if claim.owner is not None:
            raise MetroFastError("this block was entered before: call use(...) for another one")
        assert claim.name is not None
        try:
            claim.owner = self
            if not self._joined(claim):
                turn = Claim()
                with turn.block(partial(self._take, turn)):
                    if self.resident != claim.name:
                        self._wait_for_users()
                        make_resident(claim.name)
                    _drop_what_is_over(self._held)
                    self._held.append(claim)
            claim.outer = next(_around(), None)
            _INSIDE.set(claim)
            return value()
        except BaseException:
            claim.end()
            raise

    def _begin_alone(self, claim: Claim) -> None:
        for other in self._near(claim):
            raise MetroFastError(
                f"{_whose(other)} is inside pool.use({other.name!r}): leave that block first"
            )
        self._take(claim)
        try:
            self._wait_for_users()
        except BaseException:
            claim.end()
            raise

    def _joined(self, claim: Claim) -> bool:
        """Enter at once beside a user that would otherwise wait for this one for ever."""
        for other in self._near(claim):
            if other.name != claim.name:
                raise MetroFastError(
                    f"{_whose(other)} uses {other.name!r} already: leave that block before using "
                    f"{claim.name!r}" + (", or ask for it in asyncio.to_thread" * _apart(other))
                )
            self._held.append(claim)
            if not other.over:
                return True
            # It ended meanwhile, so that a swap may have begun before this claim was there.
            self._held.remove(claim)
        return False

    def _near(self, claim: Claim) -> Iterator[Claim]:
        """Users that cannot go on while this caller waits: around it, or in its event loop."""
        yield from (other for other in _around() if other.owner is self)
        if claim.loop is not None:
            for other in self._held.copy():
                if other.loop is claim.loop and not other.over:
                    yield other

    def _take(self, turn: Claim) -> None:
        """Wait until everybody who came before has had their turn."""
        try:
            self._turns.append(turn)
            before = self._turns.copy()
            before = before[: before.index(turn)]
            # Each waits for the one before it. If that one gave up, it waits for the next.
            for other in reversed(before):
                while not other.over:
                    if other.thread == turn.thread:
                        raise MetroFastError(
                            "this thread is in the middle of a swap, an add or a remove of this "
                            "pool, so it cannot ask for another (in a signal handler, for instance)"
                        )
                    other.wait()
            _drop_what_is_over(self._turns)
        except BaseException:
            turn.end()
            raise

    def _wait_for_users(self) -> None:
        while users := [claim for claim in self._held.copy() if not claim.over]:
            users[0].wait()
        _drop_what_is_over(self._held)


def _around() -> Iterator[Claim]:
    """The claims inside of which this code runs, the innermost first."""
    claim = _INSIDE.get()
    while claim is not None:
        if not claim.over:
            yield claim
        claim = claim.outer


def _apart(other: Claim) -> bool:
    return all(other is not claim for claim in _around())


def _whose(other: Claim) -> str:
    if _apart(other):
        return "another task of this event loop"
    return "this thread" if other.loop is None else "this task, or the one that started it,"


def _running_loop() -> Any:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _drop_what_is_over(claims: list[Claim]) -> None:
    """Drop claims that are over; others may be appended by other threads at the same time."""
    for claim in claims.copy():
        if claim.over:
            with suppress(ValueError):  # another thread did
                claims.remove(claim)
