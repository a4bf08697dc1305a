"""An adapter with missing or superfluous weights is refused at every door that loads it."""

import copy
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
pytest.importorskip("nevergrad")

from safetensors.torch import load_file

from damaged import (
    command,
    composed,
    evaluated,
    finetuned,
    make_room,
    rewrite,
    searched,
    with_one_more,
    without,
)
from metro_fast._adapter import load_adapter
from metro_fast._pretrained import load_seq2seq
from metro_fast.errors import FormatError, MetroFastError
from metro_fast.experts import ExpertPool, add_to_base, compress, load_expert


@pytest.fixture
def room(tiny_t5: Any, tiny_tokenizer: Any, tmp_path: Path) -> Path:
    return make_room(tiny_t5, tiny_tokenizer, tmp_path)


def pooled(room: Path) -> None:
    pool = ExpertPool(load_seq2seq(room / "model"))
    pool.add("good", compress(room / "adapter-before", density=0.5))
    pool.add("bad", compress(room / "adapter", density=0.5))


ADAPTER_DOORS: dict[str, Callable[[Path], object]] = {
    "evaluate": lambda room: evaluated(room, "--expert", room / "adapter"),
    "evaluate, packed": lambda room: (
        compress(room / "adapter", density=0.5).save(room / "small"),
        evaluated(room, "--expert", room / "small"),
    ),
    "expert compose": composed,
    "expert tune": searched,
    "expert merge --base": lambda room: (
        compress(room / "adapter", density=0.5).save(room / "packed-again"),
        command(
            *("expert", "merge", room / "packed-again", "--base", room / "model"),
            *("--out", room / "merged"),
        ),
    ),
    "load_expert": lambda room: load_expert(
        load_seq2seq(room / "model"), compress(room / "adapter", density=0.5)
    ),
    "add_to_base": lambda room: add_to_base(
        load_seq2seq(room / "model"), compress(room / "adapter", density=0.5)
    ),
    "pool": pooled,
}
LORA = "base_model.model.encoder.block.1.layer.0.SelfAttention.q.lora_B.weight"


@pytest.mark.parametrize("door", ADAPTER_DOORS)
@pytest.mark.parametrize(
    ("change", "named"),
    [
        (without(LORA), LORA),
        (with_one_more(LORA.replace("block.1", "block.9")), LORA.replace("block.1", "block.9")),
    ],
    ids=["missing", "unexpected"],
)
def test_a_damaged_adapter_is_refused_by_name(
    change: Any, named: str, door: str, room: Path
) -> None:
    shutil.copytree(room / "adapter", room / "adapter-before")
    rewrite(room / "adapter" / "adapter_model.safetensors", change)
    with pytest.raises(MetroFastError, match=re.escape(named)):
        ADAPTER_DOORS[door](room)
    shutil.rmtree(room / "searched", ignore_errors=True)  # a search's log is of its own adapter
    shutil.rmtree(room / "adapter")
    shutil.copytree(room / "adapter-before", room / "adapter")
    ADAPTER_DOORS[door](room)  # the same door is open for the whole adapter


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("LoraConfig", {"r": 2, "target_modules": ["q"], "modules_to_save": ["final_layer_norm"]}),
        ("IA3Config", {"target_modules": ["k", "wo"], "feedforward_modules": ["wo"]}),
        ("PromptTuningConfig", {"num_virtual_tokens": 3}),
    ],
)
def test_whole_adapters_of_other_kinds_load_as_peft_loads_them(
    kind: str, options: dict[str, Any], tiny_t5: Any, tmp_path: Path
) -> None:
    config = getattr(peft, kind)(task_type="SEQ_2_SEQ_LM", **options)
    made = peft.get_peft_model(copy.deepcopy(tiny_t5), config)
    torch.manual_seed(0)
    for parameter in made.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3)
    made.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    inputs = {"input_ids": torch.tensor([[21, 22, 1]]), "labels": torch.tensor([[23, 1]])}
    theirs = peft.PeftModel.from_pretrained(copy.deepcopy(tiny_t5), tmp_path / "adapter").eval()
    ours = load_adapter(copy.deepcopy(tiny_t5), tmp_path / "adapter")
    with torch.no_grad():
        assert torch.equal(ours(**inputs).logits, theirs(**inputs).logits)
        assert not torch.equal(ours(**inputs).logits, tiny_t5(**inputs).logits)
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    lost = min(load_file(path))
    rewrite(path, without(lost))
    with pytest.raises(FormatError, match=re.escape(lost)):
        load_adapter(copy.deepcopy(tiny_t5), tmp_path / "adapter")


@pytest.mark.parametrize("change", [without(LORA), with_one_more("base_model.model.more.weight")])
def test_a_checkpoint_with_other_names_is_not_resumed(change: Any, room: Path) -> None:
    finetuned(room, "--method", "lora", "--rank", 2)
    resolved = room / "tuned" / "resolved_config.yaml"
    (folder,) = (room / "tuned" / "checkpoints").glob("checkpoint-*")
    rewrite(folder / "adapter_model.safetensors", change)
    mark = json.loads((folder / "metric_window.json").read_text())
    mark["files"]["adapter_model.safetensors"] = (
        (folder / "adapter_model.safetensors").stat().st_size
    )
    (folder / "metric_window.json").write_text(json.dumps(mark))
    with pytest.raises(FormatError, match=r"(lacks|has no place in the model for its) base_model"):
        command("finetune", "--config", resolved, "--steps", 2, "--resume")


# pytest.warns emits the warnings of transformers again, from here.
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
@pytest.mark.parametrize("packed", [False, True])
def test_an_expert_that_changes_nothing_is_said_so(packed: bool, room: Path) -> None:
    path = room / "adapter" / "adapter_model.safetensors"

    def scale(factor: float) -> None:
        rewrite(path, lambda t: t.update({n: w * factor for n, w in t.items() if "lora_B" in n}))
        if packed:
            shutil.rmtree(room / "again", ignore_errors=True)
            compress(room / "adapter", density=0.5).save(room / "again")

    folder = room / ("again" if packed else "adapter")
    scale(1e-3)  # a small change is one: no warning, which would be an error here
    evaluated(room, "--expert", folder)
    scale(1e-6)  # not zero, and below what another batch size does
    with pytest.warns(UserWarning, match="changes no logit by more than"):
        evaluated(room, "--expert", folder, "--model-name", "none")
