"""ExpertPool: hundreds of packed experts, any of which can be in the model within a millisecond."""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metro_fast.errors import FormatError, MetroFastError
from metro_fast.experts.adapters.roles import role_of
from metro_fast.experts.adapters.scaling import module_of
from metro_fast.experts.expert import Expert
from metro_fast.experts.hub.fetch import resolve_expert
from metro_fast.experts.loading.adapt import has_adapters
from metro_fast.experts.loading.checks import check_base, check_layers
from metro_fast.experts.loading.load import put
from metro_fast.experts.pool.arena import Arena
from metro_fast.experts.pool.decoder import Decoder, decoder_of
from metro_fast.experts.pool.entry import Entry, config_of, fitted_segments
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
        self._decoder: Decoder | None = None
        self._entries: OrderedDict[str, Entry] = OrderedDict()  # least recently used first
        self._added: dict[str, int] = {}
        self._lock = ResidentLock()
        self._arena: Arena | None = None
        self._layers: list[Any] = []
        self._scaling: dict[str, float] = {}
        self._config: dict[str, Any] = {}

    def __repr__(self) -> str:
        count, resident = len(self._entries), self.resident
        where = "none is in the model" if resident is None else f"{resident!r} is in the model"
        experts = f"{count} expert{'' if count == 1 else 's'}"
        return f"<ExpertPool of {experts}; {self.nbytes:,} bytes in memory; {where}>"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all experts, in memory or on disk, in the order in which they were added."""
        return tuple(sorted(self._entries, key=self._added.__getitem__))

    @property
    def resident(self) -> str | None:
        """The name of the expert that is in the model, or None before one was added."""
        return self._lock.resident

    @property
    def nbytes(self) -> int:
        """Bytes of the files of the experts that are in memory."""
        return sum(entry.nbytes for entry in self._entries.values() if entry.expert is not None)

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
        with self._lock.alone():
            if name in self._entries:
                raise MetroFastError(f"the pool has an expert {name!r} already: remove it first")
            path: Path | None = None
            if not isinstance(source, Expert):
                # For the Hub this is the folder of one commit, which is read again later.
                path = resolve_expert(source)
                source = Expert.load(path)
            expert = source
            self._check_room(expert.nbytes)
            if self._arena is None:
                prepared = self._start(expert)  # which decodes all of it into the model
                self._lock.resident = name
            else:
                expert.verify()
                prepared = self._prepared(expert)
            self._entries[name] = Entry(expert, path, prepared, expert.nbytes)
            self._added[name] = len(self._added)
            self._drop_beyond_the_limit(keep=name)

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
            del self._entries[name], self._added[name]

    @contextmanager
    def use(self, name: str) -> "Iterator[PeftModel]":
        """Keep an expert in the model while the body runs.

        Threads that use the same expert run together; a thread that needs another one waits until
        they have finished. So no forward pass sees half of one expert and half of another.

        Args:
            name: The name of the expert.

        Yields:
            The PeftModel.

        Raises:
            MetroFastError: If the pool has no such expert, this thread uses another one already, or
                the model's adapter was merged, disabled, replaced, moved or set to be trained.
        """
        with self._lock.use(name, self._make_resident):
            yield self.model

    def swap(self, name: str) -> None:
        """Put an expert into the model, and leave it there.

        This is for programs of one thread; with several, another thread may swap again at any
        time, so they call `use`.

        Args:
            name: The name of the expert.

        Raises:
            MetroFastError: As for `use`.
        """
        with self.use(name):
            pass

    def _start(self, expert: Expert) -> Any:
        """Put the adapter into the model, and its parameters into a buffer; all of it or nothing.

        Returns:
            What the decoder prepared for swaps to the expert.
        """
        from peft.tuners.tuners_utils import BaseTunerLayer

        config = config_of(expert)
        names = list(getattr(self.model, "peft_config", None) or ())
        if names or has_adapters(self.model):
            raise MetroFastError(
                f"the model has the adapters {names}: pass the base model, or unload() them first"
            )
        with ExitStack() as undo:
            adapted: Any = put(self.model, expert, self.adapter_name, undo)
            arena = Arena(adapted, self.adapter_name, expert.manifest)
            layers = [m for m in adapted.modules() if isinstance(m, BaseTunerLayer)]
            base = adapted.get_base_model()
            scaling = {
                name: base.get_submodule(module_of(name)).scaling[self.adapter_name]
                for name in arena.shapes
                if role_of(name) == "lora_B"
            }
            decoder = decoder_of(arena, self._num_threads, self._keep)
            prepared = decoder.prepare(expert, fitted_segments(expert, arena, scaling, config))
            undo.pop_all()
        self.model, self._arena, self._config = adapted, arena, config
        self._layers, self._scaling, self._decoder = layers, scaling, decoder
        return prepared

    def _prepared(self, expert: Expert) -> Any:
        assert self._arena is not None
        assert self._decoder is not None
        segments = fitted_segments(expert, self._arena, self._scaling, self._config)
        return self._decoder.prepare(expert, segments)

    def _make_resident(self, name: str) -> None:
        entry = self._entry(name)
        assert self._arena is not None
        check_layers(self._layers, self.adapter_name)
        self._arena.check()
        if any(parameter.requires_grad for parameter in self._arena.parameters.values()):
            raise MetroFastError(
                "the adapter's parameters require gradients, and after a swap they would belong to "
                "another expert: call requires_grad_(False)"
            )
        if entry.expert is None:
            self._read_again(name, entry)
        try:
            self._decode(entry)
        except FormatError:  # Its bytes were changed in memory: restore the whole previous expert.
            if self.resident is not None:
                self._decode(self._entry(self.resident))
            raise
        self._entries.move_to_end(name)

    def _read_again(self, name: str, entry: Entry) -> None:
        assert entry.path is not None
        expert = Expert.load(entry.path)
        expert.verify()
        entry.prepared = self._prepared(expert)
        entry.expert, entry.nbytes = expert, expert.nbytes
        self._drop_beyond_the_limit(keep=name)

    def _decode(self, entry: Entry) -> None:
        assert self._arena is not None
        assert self._decoder is not None
        assert entry.expert is not None
        self._decoder.decode(entry.expert, entry.prepared)
        self._arena.bump()

    def _entry(self, name: str) -> Entry:
        if name not in self._entries:
            known = ", ".join(map(repr, self.names)) or "an empty list of experts"
            raise MetroFastError(f"the pool has no expert {name!r}, only {known}")
        return self._entries[name]

    def _check_room(self, nbytes: int) -> None:
        """Check that an expert fits in addition to the experts that cannot be dropped."""
        if self.max_bytes is None:
            return
        kept = sum(e.nbytes for e in self._entries.values() if e.path is None)
        if kept + nbytes > self.max_bytes:
            raise MetroFastError(
                f"an expert of {nbytes:,} bytes does not fit max_bytes = {self.max_bytes:,}, since "
                f"{kept:,} bytes are taken by experts without a path, which cannot be dropped: "
                "raise max_bytes, or add experts by their paths"
            )

    def _drop_beyond_the_limit(self, keep: str) -> None:
        kept = (keep, self.resident)
        for name, entry in self._entries.items():
            if self.max_bytes is None or self.nbytes <= self.max_bytes:
                return
            if entry.path is not None and entry.expert is not None and name not in kept:
                entry.expert = entry.prepared = None
