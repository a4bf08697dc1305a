"""One loaded base and one expert after the other on it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from metro_fast._adapter import load_adapter
from metro_fast._shown import quoted
from metro_fast.errors import FormatError, MetroFastError
from metro_fast.experts import EXPERT_FILE, Expert, ExpertPool, load_expert
from metro_fast.experts.adapters.peft_folder import CONFIG, PICKLED_WEIGHTS, WEIGHTS
from metro_fast.experts.hub.fetch import resolve_expert
from metro_fast.robustness.probe import probe_logits, warn_if_unchanged
from metro_fast.robustness.study.card import SwappedIn
from metro_fast.scoring import model_fingerprint

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["Source", "find_source", "swapped"]


class Source(NamedTuple):
    """An expert on disk: its path as it was given, where it is, and itself if it is compressed."""

    given: str
    path: Path
    expert: Expert | None

    @property
    def note(self) -> SwappedIn:
        """The part of a card about it."""
        if self.expert is None:
            return SwappedIn(self.given, _weights(self.path).stat().st_size)
        return SwappedIn(self.given, self.expert.nbytes, _density(self.expert))


def find_source(expert: str | Path | Source) -> Source:
    """Look for an expert before any model is asked.

    Args:
        expert: Folder or weights file of a compressed expert (or its name on the Hub,
            `hf://owner/name`), or folder of a plain PEFT adapter; or one that was found before.

    Returns:
        Where it is.

    Raises:
        OSError: If there is no such expert.
        FormatError: If a compressed one is damaged.
    """
    if isinstance(expert, Source):
        return expert
    path = resolve_expert(expert)
    if not path.exists():
        raise FileNotFoundError(f"{expert} does not exist")
    if path.is_file() or (path / EXPERT_FILE).is_file():
        return Source(str(expert), path, Expert.load(path))
    if (path / CONFIG).is_file():
        _weights(path)
        return Source(str(expert), path, None)
    raise FileNotFoundError(
        f"{expert} holds neither {EXPERT_FILE} nor {CONFIG}: give the folder of a compressed "
        "expert or of a PEFT adapter"
    )


def swapped(
    model: "PreTrainedModel",
    experts: Mapping[str, Source],
    *,
    reload: "Callable[[], PreTrainedModel] | None" = None,
) -> Iterator[tuple[str, Any]]:
    """Put one expert after the other on a model.

    Compressed experts of one configuration are in an `ExpertPool`, which decodes the next one into
    the place of the last. What it does not take (plain adapters, prompts, residuals of whole
    weights, other configurations) is loaded by itself. The outputs are those of each expert alone.

    Args:
        model: The base, without adapters, in evaluation mode.
        experts: The experts by the names of the models that they make.
        reload: Loads the base again, which is needed after a residual of whole weights: it is added
            to the base and cannot be removed exactly.

    Yields:
        The name and the model with each expert, until the next one is asked for.

    Raises:
        FormatError: If a file is damaged, or an expert was made for another model.
        MetroFastError: If the base was changed and there is no `reload`, or an expert does not fit.

    Warns:
        UserWarning: If an expert changes no logit.
    """
    known, before = model_fingerprint(model), probe_logits(model)
    base: Any = model
    pool: _Pool | None = None
    for name, source in experts.items():
        pooled = pool is not None and pool.added(name, source)
        if pool is not None and not pooled:
            base, pool = _without_expert(pool.pool.model), None
        if pool is None:
            if model_fingerprint(base) != known:
                base = _loaded_again(reload, name)
            fresh = _Pool(ExpertPool(base))
            pool = fresh if fresh.added(name, source) else None
        if pool is not None:
            adapted: Any = pool.with_expert(name)
        elif source.expert is not None:
            adapted = load_expert(base, source.expert)
        else:
            adapted = load_adapter(base, source.path)
        warn_if_unchanged(before, probe_logits(adapted.eval()), source.given)
        yield name, adapted
        if pool is None:
            base = _without_expert(adapted)
    if pool is not None:
        _without_expert(pool.pool.model)


@dataclass
class _Pool:
    """A pool of the experts of one configuration.

    A pool folds another alpha / r than its first expert's into B, which rounds once more, and its
    model has the configuration of its first expert, which is a part of a model's hash: so another
    configuration gets a pool of its own.
    """

    pool: ExpertPool
    config: bytes | None = None

    def added(self, name: str, source: Source) -> bool:
        """Add an expert, if the pool takes it."""
        expert = source.expert
        if expert is None or self.config not in (None, expert.config):
            return False
        try:
            self.pool.add(name, expert)
        except FormatError:
            raise
        except MetroFastError:  # load_expert takes more kinds, and says what it does not take
            return False
        self.config = expert.config
        return True

    def with_expert(self, name: str) -> Any:
        """The model with an expert."""
        self.pool.swap(name)
        return self.pool.model


def _loaded_again(reload: "Callable[[], PreTrainedModel] | None", name: str) -> Any:
    if reload is None:
        raise MetroFastError(
            f"the expert before {quoted(name)} changed the weights of the base: pass reload, which "
            "loads the base again"
        )
    return reload()


def _weights(folder: Path) -> Path:
    """The weights of a plain adapter, as PEFT prefers them."""
    for name in (WEIGHTS, PICKLED_WEIGHTS):
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(
        f"{folder} has {CONFIG}, but neither {WEIGHTS} nor {PICKLED_WEIGHTS}: give a whole adapter"
    )


def _without_expert(adapted: Any) -> Any:
    """The base, where PEFT can take an adapter off; otherwise whatever it is now."""
    unload = getattr(adapted, "unload", None)
    return adapted if unload is None else unload()


def _density(expert: Expert) -> float | None:
    """The share of weights that is not 0, of those that are stored as trits."""
    tensors, groups = expert.manifest.tensors, expert.manifest.groups
    total = sum(tensor.size for tensor in tensors)
    kept = sum(tensor.size * groups[tensor.group].density for tensor in tensors)
    return min(1.0, kept / total) if kept else None
