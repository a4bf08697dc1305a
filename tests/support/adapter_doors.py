"""The doors of experts with every kind of adapter, each beside stock PEFT.

`python tests/support/adapter_doors.py --write docs/adapter-types.md` writes the tables of the page.
"""

import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import peft
import torch
from peft.tuners.lora import LoraLayer

import adapter_kinds
from adapter_kinds import Case
from metro_fast import MetroFastError
from metro_fast.experts import (
    ExpertPool,
    add_to_base,
    compress,
    decompress,
    export,
    load_expert,
    merge,
)
from metro_fast.experts.plain.plain import save_plain
from model_state import ModelState

TOKENS = torch.tensor([[3, 17, 41, 7, 8, 5, 11]])
DOORS = ("compress", "load_expert", "ExpertPool", "merge", "export", "add_to_base")
EQUAL, REFUSED, NOTHING = "equal", "refused", "-"
STACKED = {"alora_invocation_tokens", "layer_replication", "bias"}
"""Settings of LoRA that the weights of the base cannot hold, or of which PEFT loads one at once."""
NEAR = {"rtol": 1e-4, "atol": 1e-5}


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found = model(input_ids=TOKENS)
    found = found.logits if hasattr(found, "logits") else found
    return found[:, -TOKENS.shape[1] :]  # some prompts are in front of the tokens


def stock(case: Case, folder: Path) -> Any:
    """The base with an adapter, as stock PEFT loads it."""
    return peft.PeftModel.from_pretrained(case.base(), folder, autocast_adapter_dtype=False).eval()


class Row:
    """The cells of one kind of adapter."""

    def __init__(self, case: Case, folder: Path) -> None:
        self.case, self.folder = case, folder

    def source(self, number: int) -> tuple[Path, float]:
        """The folder of the first or second adapter, and the density of its expert."""
        adapter = self.folder / f"adapter{number}"
        adapter_kinds.make(self.case, adapter, number)
        return adapter, 0.5

    def cells(self) -> dict[str, str]:
        """Each door's cell, or an error that fails the test."""
        found = {"compress": self._cell(self._compress)}
        if found["compress"] != EQUAL:
            return found | dict.fromkeys(DOORS[1:], NOTHING)
        for door, call in (
            ("load_expert", self._load),
            ("ExpertPool", self._pool),
            ("merge", self._merge),
            ("export", self._export),
            ("add_to_base", self._add),
        ):
            found[door] = self._cell(call)
        return found

    def _cell(self, call: Callable[[], None]) -> str:
        try:
            call()
        except MetroFastError as error:
            text, named = str(error).lower(), self.case.named
            said = next((name for name in named if name.lower() in text), None)
            if said is None:
                raise AssertionError(f"{error} does not name any of {named}") from error
            return REFUSED
        return EQUAL

    def _compress(self) -> None:
        self.experts = []
        for number in (1, 2):
            adapter, density = self.source(number)
            self.experts.append(compress(adapter, density=density))
            expert = self.experts[-1]
            source = peft.utils.load_peft_weights(adapter, device="cpu")
            plain = self.folder / f"plain{number}"
            decompress(expert, plain)
            found = peft.utils.load_peft_weights(plain, device="cpu")
            assert found.keys() == source.keys()
            for name in expert.dense:
                assert torch.equal(found[name], source[name]), name
            for name, trits in expert.trits().items():
                start = 1.0 if self.case.peft_type == "IA3" else 0.0
                signs = torch.sign(source[name] - start) * torch.from_numpy(trits).abs()
                assert torch.equal(torch.sign(found[name] - start), signs), name
            config = "adapter_config.json"
            assert (plain / config).read_bytes() == (adapter / config).read_bytes()
        self.expected = [logits(stock(self.case, self.folder / f"plain{n}")) for n in (1, 2)]
        base = logits(self.case.base())
        assert all((one - base).abs().max() > 1e-3 for one in self.expected), "it has no effect"

    def _load(self) -> None:
        self._on_base(lambda base: self._same(load_expert(base, self.experts[0]), 0))

    def _pool(self) -> None:
        def both(base: Any) -> None:
            pool = ExpertPool(base)
            for number, expert in enumerate(self.experts):
                pool.add(str(number), expert)
            for number in (1, 0):
                with pool.use(str(number)) as model:
                    self._same(model, number)

        self._on_base(both)

    def _merge(self) -> None:
        heads = [n for n in self.experts[0].dense if ".lora_" not in n]
        vector = merge(self.experts, heads_from=0 if heads else None)
        merged = self.folder / "merged"
        save_plain(vector, merged)
        torch.testing.assert_close(logits(stock(self.case, merged)), self._mean(), **NEAR)

    def _mean(self) -> torch.Tensor:
        """The logits of the mean of both adapters, by PEFT's means."""
        one, two = (peft.utils.load_peft_weights(self.folder / f"plain{n}") for n in (1, 2))
        model = stock(self.case, self.folder / "plain1")
        if self.case.peft_type != "LORA":
            mean = {name: (one[name] + two[name]) / 2 for name in one}
            peft.set_peft_model_state_dict(model, mean)
            return logits(model)
        if set(self.case.named) & STACKED:
            return logits(self._stacked(one, two))
        model.load_adapter(self.folder / "plain2", "second", autocast_adapter_dtype=False)
        base = self.case.base()
        with torch.no_grad():
            for module, layer in model.named_modules():
                if isinstance(layer, LoraLayer):
                    delta = layer.get_delta_weight("default") + layer.get_delta_weight("second")
                    name = module.removeprefix("base_model.model.")
                    base.get_submodule(name).weight += delta / 2
            for name in (n for n in one if ".lora_" not in n):  # heads_from is the first
                base.get_parameter(name.removeprefix("base_model.model.")).copy_(one[name])
        return logits(base)

    def _stacked(self, one: dict[str, Any], two: dict[str, Any]) -> Any:
        """The mean of two LoRA of rank 4 and alpha 8 as one of rank 8 and alpha 8."""
        options = self.case.options | {"r": 8, "lora_alpha": 8}
        config = adapter_kinds.config_of(self.case._replace(options=options))
        model = peft.get_peft_model(self.case.base(), config, autocast_adapter_dtype=False)
        axis = {name: 0 if ".lora_A." in name else 1 for name in one if ".lora_" in name}
        both = {name: torch.cat([one[name], two[name]], axis[name]) for name in axis}
        peft.set_peft_model_state_dict(model, one | both)
        return model.eval()

    def _export(self) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*LoRAX and TGI", UserWarning)
            (folder,) = export({"one": self.experts[0]}, self.folder / "served")
        torch.testing.assert_close(logits(stock(self.case, folder)), self.expected[0], **NEAR)

    def _add(self) -> None:
        def add(base: Any) -> None:
            sum_ = logits(add_to_base(base, self.experts[0]))
            merged = stock(self.case, self.folder / "plain1").merge_and_unload(safe_merge=True)
            assert torch.equal(sum_, logits(merged))
            torch.testing.assert_close(sum_, self.expected[0], **NEAR)

        self._on_base(add)

    def _same(self, model: Any, number: int) -> None:
        assert torch.equal(logits(model), self.expected[number]), "not bit-equal to stock PEFT"

    def _on_base(self, call: Callable[[Any], None]) -> None:
        """Call a door with the base, which a refusal leaves as it was."""
        base = self.case.base()
        before = ModelState(base)
        try:
            call(base)
        except MetroFastError:
            assert not before.differences(ModelState(base))
            raise


BEGIN = "<!-- tables: made by tests/support/adapter_doors.py -->\n"


def kinds() -> dict[str, dict[str, Case]]:
    """The cases of each table, by its title."""
    return {
        "Types of PEFT": adapter_kinds.types(),
        "Settings of LoRA": adapter_kinds.settings(),
    }


def line(name: str, cells: Mapping[str, str]) -> str:
    """A row of a table."""
    return f"| `{name}` | " + " | ".join(cells[door] for door in DOORS) + " |"


def tables() -> str:
    """The tables of the page."""
    lines = []
    head = "| | " + " | ".join(f"`{door}`" for door in DOORS) + " |"
    for title, cases in kinds().items():
        lines += [f"## {title}", "", head, "|---" * (len(DOORS) + 1) + "|"]
        for name, case in cases.items():
            with tempfile.TemporaryDirectory() as folder:
                lines.append(line(name, Row(case, Path(folder)).cells()))
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    if sys.argv[1:2] != ["--write"]:
        sys.exit("use --write FILE")
    file = Path(sys.argv[2])
    page = file.read_text(encoding="utf-8")
    file.write_text(page[: page.index(BEGIN)] + BEGIN + "\n" + tables(), encoding="utf-8")
