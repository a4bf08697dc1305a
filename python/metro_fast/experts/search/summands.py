"""Experts whose weighted sums are made again and again, packed or as they were trained."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metro_fast import _core
from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.initial import Initial, constant_of
from metro_fast.experts.adapters.peft_folder import parse_config
from metro_fast.experts.adapters.roles import role_of
from metro_fast.experts.adapters.scaling import lora_scaling, module_of
from metro_fast.experts.compression.compress import read_vector
from metro_fast.experts.compression.task_vector import Residual, TaskVector
from metro_fast.experts.expert import EXPERT_FILE, Expert
from metro_fast.experts.file.manifest import layout
from metro_fast.experts.hub.fetch import resolve_expert
from metro_fast.experts.merging.members import Members
from metro_fast.experts.merging.weighted_sum import SEARCH_EXPERTS, weighted_sum

Summand = Expert | TaskVector


def read_summand(source: Any) -> Summand:
    """A compressed expert as it is, anything else that `compress` takes as a task vector.

    Raises:
        TypeError: If it is neither.
        MetroFastError: If it cannot be read as an adapter.
    """
    if isinstance(source, Expert | TaskVector):
        return source
    if isinstance(source, str | Path):
        path = resolve_expert(source)
        if path.name == EXPERT_FILE or (path / EXPERT_FILE).exists():
            return Expert.load(path)
    return read_vector(source)


def names_of(sources: Sequence[Any]) -> list[str]:
    """Names of experts that were given in order: of their folders, if no two are equal, or numbers.

    Example:
        >>> names_of(["experts/qa", "experts/re"]), names_of(["a/x", "b/x"]), names_of([{}, {}])
        (['qa', 're'], ['a/x', 'b/x'], ['0', '1'])
    """
    paths = [Path(s) if isinstance(s, str | Path) else None for s in sources]
    names = [str(i) if path is None else path.name for i, path in enumerate(paths)]
    if len(set(names)) == len(names):
        return names
    return [str(i) if path is None else str(path) for i, path in enumerate(paths)]


@dataclass(frozen=True)
class _Tensor:
    """What must be alike in all of them."""

    shape: tuple[int, ...]
    initial: Initial
    dtype: str


class Summands:
    """LoRA or IA3 experts of one base and one layout.

    Compressed ones are held as two planes of bits, others as float32. IA3 vectors count as what
    they add to 1.

    Args:
        names: Names of the experts.
        sources: The experts, as `read_summand` gives them.
        num_threads: Threads to use; the machine's cores by default.

    Attributes:
        names: Names of the experts.
        starts: Of each tensor, by name, its first entry of `flat`.
        shapes: Its shape.
        flat: float32, the last sum.
        config: The bytes of the first adapter_config.json.

    Raises:
        MetroFastError: If they do not fit each other; the message names the expert and the tensor.

    Example:
        >>> from metro_fast.experts import compress
        >>> plain = {"m.ia3_l": np.float32([1.5, 1.0])}
        >>> both = Summands(["a", "b"], [compress(plain, density=0.5), read_summand(plain)])
        >>> both.add(np.array([0.0, 2.0]))
        >>> both.tensor("m.ia3_l").tolist()
        [2.0, 1.0]
    """

    def __init__(
        self, names: Sequence[str], sources: Sequence[Summand], num_threads: int | None = None
    ) -> None:
        if not sources:
            raise MetroFastError("no experts, expected at least one")
        self.names = tuple(names)
        self._tensors = _tensors(sources[0])
        self.shapes = {name: tensor.shape for name, tensor in self._tensors.items()}
        self.config = sources[0].config
        self._kind = _kind(sources[0])
        for name, source in zip(names, sources, strict=True):
            _check(name, source)
            _refuse_unlike(names[0], sources[0], name, source)
        sizes = [int(np.prod(shape)) for shape in self.shapes.values()]
        starts, count = layout(sizes)
        self.starts = dict(zip(self.shapes, starts, strict=True))
        self.flat = np.zeros(count, np.float32)
        self._part = np.zeros(0, np.float32)
        self._packed_at = [i for i, s in enumerate(sources) if isinstance(s, Expert)]
        packed = [s for s in sources if isinstance(s, Expert)]
        self._packed = Members(packed, num_threads) if packed else None
        self._plain = {
            i: self._flat_of(s) for i, s in enumerate(sources) if isinstance(s, TaskVector)
        }

    def add(self, weights: NDArray[np.float64]) -> None:
        """Write the weighted sum into `flat`, initial values included.

        Args:
            weights: float64 [experts].
        """
        if self._packed is None:
            self.flat[:] = 0
        else:
            weighted_sum(self._packed, weights[self._packed_at], self.flat, at_once=SEARCH_EXPERTS)
        if self._plain and not len(self._part):
            self._part = np.empty_like(self.flat)
        for i, values in self._plain.items():
            np.multiply(values, np.float32(weights[i]), out=self._part)
            np.add(self.flat, self._part, out=self.flat)
        for name, tensor in self._tensors.items():
            if constant_of(tensor.initial) != 0:
                self.tensor(name)[...] += constant_of(tensor.initial)

    def tensor(self, name: str) -> NDArray[np.float32]:
        """One tensor of the last sum, a view."""
        shape, start = self.shapes[name], self.starts[name]
        return self.flat[start : start + int(np.prod(shape))].reshape(shape)

    def vector(self) -> TaskVector:
        """A task vector of the last sum, with the first expert's dtypes and configuration."""
        residuals = {}
        for name, tensor in self._tensors.items():
            values = self.tensor(name) - constant_of(tensor.initial)
            role = role_of(name) or self._kind
            residuals[name] = Residual(values, tensor.dtype, role, tensor.initial)
        return TaskVector(self._kind, residuals, {}, None, self.config)

    @property
    def nbytes(self) -> int:
        """Bytes held of the experts themselves, without the sum."""
        packed = self._packed.planes if self._packed is not None else []
        planes = sum(plane.nbytes for planes in packed for plane in planes)
        return planes + sum(values.nbytes for values in self._plain.values())

    @property
    def dense_nbytes(self) -> int:
        """Bytes of the same experts as float32 state dicts."""
        return 4 * len(self.names) * sum(int(np.prod(shape)) for shape in self.shapes.values())

    def _flat_of(self, vector: TaskVector) -> NDArray[np.float32]:
        flat = np.zeros_like(self.flat)
        for name, start in self.starts.items():
            values = vector.residuals[name].values.reshape(-1)
            flat[start : start + values.size] = values
        return flat


def _kind(source: Summand) -> str:
    return source.manifest.kind if isinstance(source, Expert) else source.kind


def _tensors(source: Summand) -> dict[str, _Tensor]:
    if isinstance(source, Expert):
        return {t.name: _Tensor(t.shape, t.initial, t.dtype) for t in source.manifest.tensors}
    return {n: _Tensor(r.values.shape, r.initial, r.dtype) for n, r in source.residuals.items()}


def _check(name: str, source: Summand) -> None:
    if _kind(source) not in ("lora", "ia3"):
        raise MetroFastError(
            f"expert {name} is of kind {_kind(source)!r}: only LoRA and IA3 are composed"
        )
    if source.dense:
        raise MetroFastError(
            f"expert {name} has the dense tensor {next(iter(source.dense))} (a head, or a module "
            "that was trained whole), of which no weighted sum is made"
        )
    given = next((n for n, t in _tensors(source).items() if t.initial == "given"), None)
    if given is not None:
        raise MetroFastError(f"expert {name} was made with initial= ({given}): make it without")


def _refuse_unlike(first: str, one: Summand, other: str, two: Summand) -> None:
    if _kind(one) != _kind(two):
        raise MetroFastError(f"expert {other} is {_kind(two)}, expert {first} {_kind(one)}")
    configs = [parse_config(s.config) if s.config is not None else {} for s in (one, two)]
    bases = [config.get("base_model_name_or_path") for config in configs]
    if bases[0] != bases[1]:
        raise MetroFastError(
            f"expert {other} is of the base {bases[1]}, expert {first} of {bases[0]}: no sum of "
            "updates of different models means anything"
        )
    a, b = _tensors(one), _tensors(two)
    for name in sorted(set(a) | set(b)):
        if name not in a or name not in b:
            raise MetroFastError(f"only one of the experts {first} and {other} has {name}")
        if a[name].shape != b[name].shape or a[name].initial != b[name].initial:
            raise MetroFastError(
                f"{name} has shape {b[name].shape} in expert {other}, {a[name].shape} in {first}: "
                "A and B are summed apart, which needs one rank; merge(..., space='delta') does not"
            )
        if _kind(one) == "lora" and all("r" in config for config in configs):
            scalings = [lora_scaling(config, module_of(name)) for config in configs]
            if scalings[0] != scalings[1]:
                raise MetroFastError(
                    f"expert {other} scales {module_of(name)} by {scalings[1]:g}, expert {first} "
                    f"by {scalings[0]:g} (lora_alpha, r or use_rslora): B cannot be summed as it is"
                )


def checksum(source: Summand) -> int:
    """Of everything that is summed or scored of an expert, for a file of a search."""
    if isinstance(source, Expert):
        return _core.crc32c(source.file)
    total = zlib.crc32(source.config or b"")
    tensors = {name: residual.values for name, residual in source.residuals.items()}
    for name, values in (tensors | {n: t.bytes for n, t in source.dense.items()}).items():
        data = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        total = _core.crc32c(data, zlib.crc32(name.encode(), total))
    return total
