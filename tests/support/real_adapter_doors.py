"""The doors of experts with adapters that others have trained, where ../shared/data has them.

`python tests/support/real_adapter_doors.py --write docs/adapter-types.md` writes their table.
"""

import copy
import functools
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

import adapter_kinds
from adapter_doors import DOORS, EQUAL, NEAR, Row, line
from adapter_kinds import Case
from metro_fast.experts import (
    ExpertPool,
    add_to_base,
    compress,
    decompress,
    export,
    load_expert,
    merge,
)
from metro_fast.experts.adapters.state_file import read_state
from metro_fast.experts.adapters.updates import modules
from metro_fast.experts.plain.plain import plain_tensors
from shared_files import DATA

BEGIN = "<!-- table: made by tests/support/real_adapter_doors.py -->\n"
END = "<!-- end -->\n"
DENSITIES = (0.5, 0.2)
"""The densities of the two experts that are made of each."""


@functools.cache
def _gpt2() -> torch.nn.Module:
    torch.manual_seed(0)
    ids = {"bos_token_id": 0, "eos_token_id": 0}
    config = GPT2Config(vocab_size=adapter_kinds.TOKENS, n_positions=16, **ids)
    model = GPT2LMHeadModel(config).eval()
    model.config._name_or_path = model.name_or_path = "gpt2"
    return model


def gpt2() -> torch.nn.Module:
    """GPT-2 small with random weights, few tokens and few positions."""
    return copy.deepcopy(_gpt2())


class FolderRow(Row):
    """The cells of a PEFT folder that exists."""

    def __init__(self, source: Path, folder: Path) -> None:
        super().__init__(Case({}, base=gpt2, named=("lacks base_model.model.transformer",)), folder)
        self.adapter = source

    def source(self, number: int) -> tuple[Path, float]:
        return self.adapter, DENSITIES[number - 1]


class FileRow(Row):
    """The cells of a file that PEFT does not read, or of a folder that is not PEFT's."""

    def __init__(self, source: Path, folder: Path, kind: str | None) -> None:
        super().__init__(Case({}, base=gpt2, named=("adapter_config.json", "peft_type")), folder)
        self.adapter, self.kind = source, kind

    def _compress(self) -> None:
        self.experts = [compress(self.adapter, kind=self.kind, density=d) for d in DENSITIES]
        for number, expert in enumerate(self.experts):
            decompress(expert, self.folder / f"plain{number}.safetensors")
            found = read_state(self.folder / f"plain{number}.safetensors")
            source = read_state(self.adapter)
            if len(source) == 1:  # an array has a name of its own in the expert
                source = dict(zip(found, source.values(), strict=True))
            assert found.keys() == source.keys()
            start = 1.0 if self.kind == "ia3" else 0.0
            for name, trits in expert.trits().items():
                kept = np.sign(source[name].float32() - start) * np.abs(trits)
                np.testing.assert_array_equal(np.sign(found[name].float32() - start), kept)

    def _load(self) -> None:
        self._on_base(lambda base: load_expert(base, self.experts[0]))

    def _pool(self) -> None:
        self._on_base(lambda base: ExpertPool(base).add("one", self.experts[0]))

    def _merge(self) -> None:
        """The mean of the tensors, or of the products of both factors of a LoRA."""
        merged = {name: t.float32() for name, t in plain_tensors(merge(self.experts)).items()}
        parts = [{n: a.astype(np.float64) for n, a in e.arrays().items()} for e in self.experts]
        for names in modules(merged).values():
            found, one, two = (_update(tensors, names) for tensors in (merged, *parts))
            np.testing.assert_allclose(found, (one + two) / 2, **NEAR)

    def _export(self) -> None:
        export({"one": self.experts[0]}, self.folder / "served")

    def _add(self) -> None:
        self._on_base(lambda base: add_to_base(base, self.experts[0]))


def _update(tensors: dict, names: tuple[str, ...]) -> np.ndarray:
    if len(names) == 1:
        return tensors[names[0]]
    a, b = (tensors[name] for name in names)
    return b.reshape(-1, a.shape[0]) @ a.reshape(a.shape[0], -1)


ROWS = {
    "gpt2_tigrinya_lora": "folder",
    "gradience_tiny_lora": "folder",
    "sd15_lora_analog/analog_svd_rank4.safetensors": "lora",
    "t0_3b_ia3_tfew/t03b_ia3_finish.pt": "ia3",
    "t5v11_base_prompts/rte.npy": None,
    "t5v11_base_prompts/sst2.npy": None,
    "roberta_imdb_pfeiffer": None,
    "roberta_imdb_pfeiffer/pytorch_adapter.bin": "other",
}
"""Paths below adapters, and their kind."""


def real_line(source: Path, folder: Path, kind: str | None) -> str:
    """A row of the table."""
    name = str(source.relative_to((DATA / "adapters").resolve()))
    row = FolderRow(source, folder) if kind == "folder" else FileRow(source, folder, kind)
    cells = row.cells()
    assert cells["compress"] != EQUAL or len(row.experts) == 2
    return line(name, cells)


def table() -> str:
    """The table of the page."""
    head = "| | " + " | ".join(f"`{door}`" for door in DOORS) + " |"
    lines = [head, "|---" * (len(DOORS) + 1) + "|"]
    for path, kind in ROWS.items():
        with tempfile.TemporaryDirectory() as folder:
            source = (DATA / "adapters" / path).resolve()
            lines.append(real_line(source, Path(folder), kind))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    if sys.argv[1:2] != ["--write"]:
        sys.exit("use --write FILE")
    file = Path(sys.argv[2])
    before, rest = file.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END, 1)[1]
    file.write_text(before + BEGIN + table() + END + after, encoding="utf-8")
