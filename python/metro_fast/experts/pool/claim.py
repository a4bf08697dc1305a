"""Claims on something shared, which end whatever interrupts their owners.

Ctrl-C may strike between any two steps of Python, those of `__exit__` and of `finally` too; a count
that such a step decrements is then wrong for ever. So nothing here is counted. A claim is over as
soon as its `with` block was left, and the end of a block is noted without a step of Python: its
`__exit__` is the one of a lock of the interpreter. If even that was not reached, the block is not
referred to any more, which ends its claim too.
"""

import operator
from _thread import allocate_lock, get_ident
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from weakref import ref

T = TypeVar("T")

POLL = 0.05
"""Seconds after which a waiting thread looks again: for blocks that nobody left, but nobody refers
to any more. Of a block that is left it hears at once."""


class Block(Generic[T]):
    """A context manager both of whose ends run in the interpreter.

    Args:
        begin: Called at the start; what it returns is the target of `as`. It must not refer to the
            block, or a traceback would keep it alive.
        end: A function of the interpreter that takes what `__exit__` does.
    """

    __slots__ = ("__call__", "__weakref__", "_begin")

    def __init__(self, begin: Callable[[], T], end: Callable[..., None]) -> None:
        self._begin = begin
        self.__call__ = end

    if TYPE_CHECKING:

        def __enter__(self) -> T: ...
        def __exit__(self, *error: object) -> None: ...
    else:
        # A cache of size 0 is a method without a frame: it only passes its arguments on.
        __enter__ = lru_cache(maxsize=0)(operator.methodcaller("_begin"))
        __exit__ = lru_cache(maxsize=0)(operator.call)


class Claim:
    """A claim of one caller, from its making until the block that it gives is left or dropped.

    Args:
        name: What is claimed.
        loop: The event loop that runs in the caller's thread, or None.

    Attributes:
        name: What is claimed.
        loop: The event loop, or None.
        thread: The number of the thread.
        owner: The lock that it is a claim on; set once it has begun.
        outer: The claim inside of which it was made, or None.
    """

    __slots__ = ("_block", "_lock", "_seen", "loop", "name", "outer", "owner", "thread")

    def __init__(self, name: str | None = None, loop: Any = None) -> None:
        self.name, self.loop, self.thread = name, loop, get_ident()
        self.owner: object = None
        self.outer: Claim | None = None
        self._lock = allocate_lock()
        self._lock.acquire()
        self._seen: list[bool] = []
        self._block: Callable[[], Block[Any] | None] = lambda: None

    def block(self, begin: Callable[[], T]) -> Block[T]:
        """The only block of this claim."""
        block = Block(begin, self._lock.__exit__)
        self._block = ref(block)
        return block

    @property
    def over(self) -> bool:
        """Whether the block was left or dropped."""
        return bool(self._seen) or not self._lock.locked() or self._block() is None

    def wait(self) -> None:
        """Wait until it is over, but not longer than `POLL`."""
        if not self.over:
            # Taken and noted in one step of the interpreter, so that both happen or neither does.
            self._seen.extend(filter(None, map(self._lock.acquire, (True,), (POLL,))))

    def end(self) -> None:
        """End it before its block was entered."""
        with suppress(RuntimeError):  # it was over already
            self._lock.release()
