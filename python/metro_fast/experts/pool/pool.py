"""ExpertPool: hundreds of packed experts, any of which can be in the model within a millisecond."""

from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from metro_fast._shown import shown
from metro_fast.errors import FormatError, MetroFastError
from metro_fast.experts.expert import Expert
from metro_fast.experts.hub.fetch import resolve_expert
from metro_fast.experts.loading.adapt import has_adapters
from metro_fast.experts.loading.checks import check_base
from metro_fast.experts.loading.load import put
from metro_fast.experts.loading.undo import Undo, all_or_nothing
from metro_fast.experts.pool.adapter import Adapter
from metro_fast.experts.pool.claim import Block
from metro_fast.experts.pool.entry import Entry, Packed, checksum_of
from metro_fast.experts.pool.fits import check_scaling, config_of, fitted_segments
from metro_fast.experts.pool.lock import ResidentLock

if TYPE_CHECKING:
    import torch
    from peft import PeftModel


class ExpertPool:
    """Experts of one layout, packed in memory; one of them is in the model.

    The adapter's parameters are views of one buffer, and a swap decodes an expert's file into that
    buffer. No module, tensor or graph is created, so a compiled model is not compiled again.
    Outputs are bit-equal to PEFT's on the decompressed folder if the expert's alpha / r is that of
    the first expert; otherwise the ratio of the two is folded into B and rounded once.

    Args:
        model: A transformers model, or a PeftModel without adapters. The first expert that is
            added puts its adapter into the model. The whole adapter must be on one device.
        max_bytes: Limit for the bytes of the packed experts. When it is exceeded, experts that came
            from a path are dropped, least recently used first, and read again when they are used.
            No limit by default.
        adapter_name: The adapter's name in the model.
        num_threads: Threads of a swap on the CPU; chosen by the size of the experts by default.
        keep: For a model on a GPU: where the packed experts are kept, `"host"` (pinned memory) or
            `"device"`. They are decoded on the GPU either way.

    Attributes:
        model: The model that was passed; the PeftModel once an expert was added.
        max_bytes: The limit, or None.
        adapter_name: The adapter's name in the model.

    Example:
        >>> import torch
        >>> from peft import LoraConfig, get_peft_model
        >>> from metro_fast.experts import compress
        >>> def expert(seed):
        ...     base = torch.nn.Sequential(torch.nn.Linear(64, 64))
        ...     config = LoraConfig(r=2, target_modules=["0"], init_lora_weights=False)
        ...     return compress(get_peft_model(base, config), density=0.5)
        >>> pool = ExpertPool(torch.nn.Sequential(torch.nn.Linear(64, 64)))
        >>> for name in ("a", "b"):
        ...     pool.add(name, expert(name))
        >>> with pool.use("b") as model:
        ...     output = model(torch.ones(1, 64))
        >>> pool.resident, pool.names
        ('b', ('a', 'b'))
        >>> pool  # doctest: +ELLIPSIS
        <ExpertPool of 2 experts; ... bytes in memory; 'b' is in the model>
    """

    def __init__(
        self,
        model: "torch.nn.Module",
        *,
        max_bytes: int | None = None,
        adapter_name: str = "default",
        num_threads: int | None = None,
        keep: str = "host",
    ) -> None:
        if max_bytes is not None and max_bytes <= 0:
            raise MetroFastError(f"max_bytes is {max_bytes}, expected a positive number or None")
        check_base(model)
        self.model: torch.nn.Module | PeftModel = model
        self.max_bytes = max_bytes
        self.adapter_name = adapter_name
        self._num_threads = num_threads
        self._keep = keep
        self._adapter: Adapter | None = None
        self._entries: dict[str, Entry] = {}  # in the order in which they were added
        self._uses = count()
        self._lock = ResidentLock()

    def __repr__(self) -> str:
        count, resident = len(self._entries), self.resident
        where = "none is in the model" if resident is None else f"{resident!r} is in the model"
        experts = f"{count} expert{'' if count == 1 else 's'}"
        return f"<ExpertPool of {experts}; {self.nbytes:,} bytes in memory; {where}>"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all experts, in memory or on disk, in the order in which they were added."""
        return tuple(self._entries)

    @property
    def resident(self) -> str | None:
        """The name of the expert in the model; None before one was added and during a swap."""
        return self._lock.resident

    @property
    def nbytes(self) -> int:
        """Bytes of the files of the experts that are in memory."""
        return sum(
            entry.nbytes for entry in list(self._entries.values()) if entry.packed is not None
        )

    def add(self, name: str, source: str | Path | Expert) -> None:
        """Add an expert to the pool; the first one is also put into the model.

        The source is read once and decoded once, which checks all of its bytes.

        Args:
            name: The name of the expert in this pool.
            source: The expert's folder or weights file, its name on the Hub, or an `Expert`.

        Raises:
            FileNotFoundError: If there is no expert at that path.
            FormatError: If it is damaged.
            MetroFastError: If the name is taken, the expert does not fit the model or the pool's
                other experts, or it does not fit `max_bytes`.
        """
        if not isinstance(name, str):
            raise TypeError(f"name is a {type(name).__name__}, expected a string")
        path: Path | None = None
        if not isinstance(source, Expert):
            # For the Hub this is the folder of one commit, which is read again later.
            path = resolve_expert(source)
            source = Expert.load(path)
        with self._lock.alone():
            if name in self._entries:
                raise MetroFastError(f"the pool has an expert {name!r} already: remove it first")
            self._check_room(source.nbytes)
            if self._adapter is None:
                all_or_nothing(partial(self._start, name, source, path))
            else:
                entry = self._entry_of(source, path, self._prepared(self._adapter, source))
                self._drop_beyond_the_limit(keep=name, more=entry.nbytes)
                self._entries[name] = entry

    def remove(self, name: str) -> None:
        """Remove an expert from the pool.

        Args:
            name: The name of the expert.

        Raises:
            MetroFastError: If the pool has no expert of that name, or it is in the model.
        """
        with self._lock.alone():
            self._entry(name)
            if name == self.resident:
                raise MetroFastError(f"{name!r} is in the model: swap in another expert first")
            del self._entries[name]

    def use(self, name: str) -> "Block[PeftModel]":
        """Keep an expert in the model while the body of a `with` runs.

        Threads that use the same expert run together; a thread that needs another one waits until
        they have finished. So no forward pass sees half of one expert and half of another.

        The block belongs to the thread or the asyncio task that enters it, and ends when it is
        left, whoever leaves it. While a task is inside, its event loop's other tasks may use the
        same expert; another is refused, since waiting for the task would stop its loop.

        Args:
            name: The name of the expert.

        Returns:
            A context manager that gives the PeftModel.

        Raises:
            MetroFastError: On entering, if the pool has no such expert, this thread or task, or
                another task of its event loop, uses another one already, or the model's adapter
                was merged, disabled, replaced, moved or set to be trained.
            FormatError: If the expert's bytes were changed in memory, or on disk after the pool
                had dropped it. The model is then as it was.
        """
        return self._lock.use(name, self._make_resident, lambda: cast("PeftModel", self.model))

    def swap(self, name: str) -> None:
        """Put an expert into the model, and leave it there.

        Another thread may swap again at any time, so programs with several call `use`.

        Args:
            name: The name of the expert.

        Raises:
            MetroFastError: As for `use`.
        """
        with self.use(name):
            pass

    def _start(self, name: str, expert: Expert, path: Path | None, undo: Undo) -> None:
        """Put the adapter into the model, and its parameters into a buffer."""
        config = config_of(expert)
        if (names := list(getattr(self.model, "peft_config", None) or ())) or has_adapters(
            self.model
        ):
            raise MetroFastError(
                f"the model has the adapters {names}: pass the base model, or unload() them first"
            )
        undo.callback(self._forget, self.model)
        adapted: Any = put(self.model, expert, self.adapter_name, undo)  # which decodes all of it
        adapter = Adapter.of(
            adapted, self.adapter_name, expert, config, self._num_threads, self._keep
        )
        check_scaling(adapter.scaling)
        segments = fitted_segments(expert, adapter.arena, adapter.scaling, config)
        entry = self._entry_of(expert, path, adapter.decoder.prepare(expert, segments))
        self.model, self._adapter = adapted, adapter
        self._entries[name] = entry
        self._lock.resident = name

    def _forget(self, base: "torch.nn.Module") -> None:
        self._lock.resident = None
        self._entries.clear()
        self.model, self._adapter = base, None

    def _prepared(self, adapter: Adapter, expert: Expert) -> Any:
        # The shapes come first, since a small file may say that it holds a large expert.
        segments = fitted_segments(expert, adapter.arena, adapter.scaling, adapter.config)
        expert.verify()
        return adapter.decoder.prepare(expert, segments)

    def _entry_of(self, expert: Expert, path: Path | None, prepared: Any) -> Entry:
        return Entry(
            Packed(expert, prepared), path, expert.nbytes, checksum_of(expert), next(self._uses)
        )

    def _make_resident(self, name: str) -> None:
        entry = self._entry(name)
        adapter = self._adapter
        assert adapter is not None
        adapter.check()
        packed = entry.packed or self._read_again(name, entry, adapter)
        before = self._lock.resident
        try:
            self._write(name, packed, adapter)
        except BaseException:  # Bytes that were changed in memory, no memory, or Ctrl-C.
            self._lock.resident = None
            if before is not None and (old := self._entry(before).packed) is not None:
                self._write(before, old, adapter)
            raise
        entry.used = next(self._uses)

    def _write(self, name: str, packed: Packed, adapter: Adapter) -> None:
        self._lock.resident = None  # until all of it is written
        adapter.decoder.decode(packed.expert, packed.prepared)
        adapter.arena.bump()
        self._lock.resident = name

    def _read_again(self, name: str, entry: Entry, adapter: Adapter) -> Packed:
        assert entry.path is not None
        expert = Expert.load(entry.path)
        if checksum_of(expert) != entry.checksum:
            raise FormatError(
                f"{entry.path} has changed since {name!r} was added from it: remove {name!r} from "
                "the pool and add it again"
            )
        packed = Packed(expert, self._prepared(adapter, expert))
        self._drop_beyond_the_limit(keep=name, more=entry.nbytes)
        entry.packed = packed
        return packed

    def _entry(self, name: str) -> Entry:
        entry = self._entries.get(name) if isinstance(name, str) else None
        if entry is None:
            known = shown(", ".join(map(repr, self.names)) or "an empty list of experts", 300)
            raise MetroFastError(f"the pool has no expert {shown(repr(name))}, only {known}")
        return entry

    def _check_room(self, nbytes: int) -> None:
        if self.max_bytes is None:
            return
        kept = sum(
            e.nbytes for e in list(self._entries.values()) if e.path is None
        )  # these cannot be dropped
        if kept + nbytes > self.max_bytes:
            raise MetroFastError(
                f"an expert of {nbytes:,} bytes does not fit max_bytes = {self.max_bytes:,}, since "
                f"{kept:,} bytes are taken by experts without a path, which cannot be dropped: "
                "raise max_bytes, or add experts by their paths"
            )

    def _drop_beyond_the_limit(self, keep: str, more: int) -> None:
        """Drop the experts that were used least recently, so that `more` bytes have room."""
        for name, entry in sorted(self._entries.items(), key=lambda item: item[1].used):
            if self.max_bytes is None or self.nbytes + more <= self.max_bytes:
                return
            if entry.path is not None and name not in (keep, self.resident):
                entry.packed = None
