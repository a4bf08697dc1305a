"""A compressed expert in memory: the bytes of its file, checked."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metro_fast import _core
from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.initial import initial_checksum
from metro_fast.experts.adapters.peft_folder import CONFIG, EXPERT_FILE, PICKLED_WEIGHTS, WEIGHTS
from metro_fast.experts.adapters.tensors import RawTensor, dtype_name
from metro_fast.experts.adapters.tied import tied_groups
from metro_fast.experts.adapters.updates import ModuleFidelity
from metro_fast.experts.file.manifest import Manifest, TernaryTensor
from metro_fast.experts.file.segments import NATIVE, segments_of
from metro_fast.ops.draws import resolve_threads
from metro_fast.ops.ternarize import CHUNK

__all__ = ["ExpertFile", "entropy"]


class ExpertFile:
    """A compressed expert: 8 to 50 times smaller than its 16-bit adapter.

    It holds the very bytes of its file (docs/expert-format.md) and decodes them when asked.

    Attributes:
        manifest: Names, shapes, groups and origin.
        scales: float32 [groups].
        config: The bytes of adapter_config.json, or None if the expert is no PEFT adapter.
        block: uint8, the packed trits of all tensors, a view of the file.
        dense: The tensors that are kept whole, by name.
        estimated_fidelity: Of an expert made in this process, a row a module: about how well its
            update is kept (see `estimate_updates`; `fidelity` computes it exactly). Else ().

    Args:
        file: uint8, the bytes of an expert file.
        config: The bytes of adapter_config.json.

    Raises:
        FormatError: If the bytes are not a whole, undamaged expert file.

    Example:
        >>> from metro_fast.experts import compress
        >>> weights = np.random.default_rng(0).standard_normal((64, 512)).astype(np.float32)
        >>> expert = compress({"layer.weight": weights}, kind="other", density=0.05)
        >>> ExpertFile(expert.file).arrays()["layer.weight"].shape
        (64, 512)
    """

    def __init__(self, file: NDArray[np.uint8], config: bytes | None = None) -> None:
        manifest, scales, block, dense = _core.decode_expert(file)
        self.file = file
        self.config = config
        self.manifest = Manifest.from_json(manifest)
        self.scales = scales
        self.estimated_fidelity: tuple[ModuleFidelity, ...] = ()
        self.block = file[slice(*block)]
        self.dense = {
            entry.name: RawTensor.from_bytes(entry.dtype, entry.shape, file[slice(*place)])
            for entry, place in zip(self.manifest.dense, dense, strict=True)
        }

    def save(self, folder: str | Path) -> Path:
        """Write the expert's adapter_config.json and its weights.

        Each file is there whole or not at all, whenever the process dies, and the weights last:
        where they are, their configuration is.

        Args:
            folder: Made if it does not exist.

        Returns:
            The path of the weights file.

        Raises:
            MetroFastError: If the folder holds a plain adapter, which stock PEFT would load
                instead, or the configuration of another one.
            OSError: If the folder cannot be written to.
        """
        folder = Path(folder)
        for name in (WEIGHTS, PICKLED_WEIGHTS):
            if (folder / name).exists():
                raise MetroFastError(
                    f"{folder} holds {name}, which PEFT would load instead of the expert: "
                    "remove it or choose another folder"
                )
        config = folder / CONFIG
        if config.exists() and config.read_bytes() != self.config:
            raise MetroFastError(
                f"{folder} holds another {CONFIG}, with which its weights would be wrong if this "
                "save were cut short: remove it or choose another folder"
            )
        folder.mkdir(parents=True, exist_ok=True)
        if self.config is not None and not config.exists():
            _core.write_file(config, np.frombuffer(self.config, np.uint8))
        _core.write_file(folder / EXPERT_FILE, self.file)
        return folder / EXPERT_FILE

    def raw(
        self,
        dtype: Any = None,
        *,
        initial: dict[str, Any] | None = None,
        num_threads: int | None = None,
    ) -> dict[str, RawTensor]:
        """Decode every tensor, in the manifest's dtypes or in one float dtype.

        Dense tensors come as they are. Arguments and errors are those of `arrays`.

        Returns:
            Bytes with their dtype and shape, by name; what `arrays` and `state_dict` wrap.
        """
        target = None if dtype is None else dtype_name(dtype)
        threads = resolve_threads(num_threads, self.manifest.trits, CHUNK)
        given = self._given(initial)
        tensors: dict[str, RawTensor] = {}
        for name in sorted({target or tensor.dtype for tensor in self.manifest.tensors}):
            chosen = [t for t in self.manifest.tensors if (target or t.dtype) == name]
            tensors |= self._decode([t for t in chosen if t.initial != "given"], name, threads)
            if given:
                decoded = self._decode([t for t in chosen if t.initial == "given"], "F32", threads)
                for key, residual in decoded.items():
                    tensors[key] = RawTensor.rounded(np.asarray(given[key] + residual.data), name)
        for group in tied_groups(initial) if initial is not None else []:
            # Of a tied matrix one name is in the file; the base tells the others.
            kept = [name for name in group if name in tensors]
            if len(kept) == 1:
                tensors |= {name: tensors[kept[0]] for name in group if name not in self.dense}
        return {name: tensors[name] for name in sorted(tensors)} | self.dense

    def arrays(
        self,
        dtype: Any = None,
        *,
        initial: dict[str, Any] | None = None,
        num_threads: int | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Decode into numpy arrays.

        Args:
            dtype: float32, float16 or bfloat16 for all ternary tensors; their own by default.
            initial: The initial values that were given to `compress`, if any were. Names that are
                tied in it come out tied.
            num_threads: Threads to use; the machine's cores by default.

        Returns:
            Arrays by name; bfloat16 values come as float32, since numpy has no bfloat16.

        Raises:
            FormatError: If a stream is damaged.
            MetroFastError: If initial values are missing, or not those of `compress`.

        Example:
            >>> from metro_fast.experts import compress
            >>> expert = compress({"w": np.float32([[1, -3]])}, kind="other", density=0.5)
            >>> expert.arrays(np.float16)["w"].dtype
            dtype('float16')
        """
        tensors = self.raw(dtype, initial=initial, num_threads=num_threads)
        return {name: tensor.numpy() for name, tensor in tensors.items()}

    def state_dict(
        self,
        dtype: Any = None,
        *,
        initial: dict[str, Any] | None = None,
        num_threads: int | None = None,
    ) -> dict[str, Any]:
        """Decode into torch tensors on the CPU; arguments and errors are those of `arrays`.

        Returns:
            Tensors by name, each in its own dtype or in `dtype`; they are the caller's to change.
        """
        tensors = self.raw(dtype, initial=initial, num_threads=num_threads)
        return {name: tensor.torch() for name, tensor in tensors.items()}

    @property
    def steps(self) -> int:
        """S of docs/expert-format.md, 4.1: a stream codes 64 S trits."""
        return _core.block_info(self.block)[2]

    @property
    def nbytes(self) -> int:
        """Bytes of the weights file."""
        return self.file.nbytes

    @property
    def bits_per_parameter(self) -> float:
        """Bits of the whole weights file over all parameters, dense ones included."""
        return 8 * self.nbytes / max(1, self.manifest.parameters)

    def trits(self, num_threads: int | None = None) -> dict[str, NDArray[np.int8]]:
        """The trits of each ternary tensor.

        Args:
            num_threads: Threads to use; the machine's cores by default.

        Returns:
            int8 arrays of the tensors' shapes, each entry -1, 0 or 1, by name.

        Raises:
            FormatError: If a stream is damaged.
        """
        flat = np.empty(self.manifest.trits, np.int8)
        threads = resolve_threads(num_threads, self.manifest.trits, CHUNK)
        _core.unpack(self.block, 1.0, "i8", flat, threads)
        return {
            t.name: flat[t.start : t.start + t.size].reshape(t.shape) for t in self.manifest.tensors
        }

    def describe(self) -> list[dict[str, Any]]:
        """What `metro-fast expert inspect` shows.

        Returns:
            A row a tensor: tensor, group, dtype, shape, density, scale, bits. `density` is the
            share of nonzeros, and `bits` what an ideal coder would need for a parameter at that
            density, H(density) + density; of a dense tensor its own width.

        Raises:
            FormatError: If a stream is damaged.
        """
        rows: list[dict[str, Any]] = []
        trits = self.trits()
        for tensor in self.manifest.tensors:
            density = int(np.count_nonzero(trits[tensor.name])) / max(1, tensor.size)
            rows.append(
                {
                    "tensor": tensor.name,
                    "group": self.manifest.groups[tensor.group].name,
                    "dtype": tensor.dtype,
                    "shape": list(tensor.shape),
                    "density": density,
                    "scale": float(self.scales[tensor.group]),
                    "bits": entropy(density),
                }
            )
        for name, dense in self.dense.items():
            rows.append(
                {
                    "tensor": name,
                    "group": "dense",
                    "dtype": dense.dtype,
                    "shape": list(dense.shape),
                    "density": int(np.count_nonzero(dense.data)) / max(1, dense.data.size),
                    "scale": 1.0,
                    "bits": 8.0 * dense.data.itemsize,
                }
            )
        return rows

    def verify(self) -> None:
        """Decode everything, and check the zeros between tensors.

        Raises:
            FormatError: If a stream is damaged.
        """
        self._decode(
            list(self.manifest.tensors), "BF16", resolve_threads(None, self.manifest.trits, CHUNK)
        )

    def _decode(
        self, chosen: list[TernaryTensor], dtype: str, threads: int
    ) -> dict[str, RawTensor]:
        if not chosen:
            return {}
        names = {tensor.name for tensor in chosen}
        segments = segments_of(self.manifest, self.scales, write=lambda t: t.name in names)
        flat = np.empty(self.manifest.trits, NATIVE[dtype][1])
        segments.expand(self.block, dtype, flat, threads)
        bits = flat if dtype == "BF16" else flat.view(np.float16 if dtype == "F16" else np.float32)
        return {
            t.name: RawTensor(dtype, bits[t.start : t.start + t.size].reshape(t.shape))
            for t in chosen
        }

    def _given(self, initial: dict[str, Any] | None) -> dict[str, NDArray[np.float32]]:
        needed = [t for t in self.manifest.tensors if t.initial == "given"]
        if not needed:
            if initial is not None:
                raise MetroFastError("initial is given, but this expert was made without")
            return {}
        missing = [t.name for t in needed if t.name not in (initial or {})]
        if initial is None or missing:
            raise MetroFastError(
                f"this expert is a residual: pass initial=, with {missing[0]} and "
                f"{len(needed) - 1} others, as compress was given it"
            )
        given = {t.name: RawTensor.of(initial[t.name], t.name).float32() for t in needed}
        for tensor in needed:
            if given[tensor.name].shape != tensor.shape:
                raise MetroFastError(
                    f"initial {tensor.name} has shape {given[tensor.name].shape}, expected "
                    f"{tensor.shape}"
                )
        if initial_checksum(given) != self.manifest.base.initial_crc32c:
            raise MetroFastError("initial values are not those that compress was given")
        return given


def entropy(density: float) -> float:
    """Bits of a trit whose nonzeros have this density and signs are even: H(p) + p.

    Example:
        >>> round(entropy(0.05), 4)
        0.3364
    """
    if density in (0.0, 1.0):
        return density
    rest = 1 - density
    return density - density * math.log2(density) - rest * math.log2(rest)
