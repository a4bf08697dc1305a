"""Models whose weights are elsewhere (offloaded, meta, sharded): no door takes them."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from metro_fast import MetroFastError
from metro_fast.experts import add_to_base, compress, load_expert, task_vector

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
accelerate = pytest.importorskip("accelerate")
pytest.importorskip("transformers")

from model_state import ModelState
from refusals import base_doors, good, llama

CPU = torch.device("cpu")


def offloaded(folder: Path) -> Any:
    """Each layer's weights come to the device for the time of its call."""
    return accelerate.cpu_offload(llama(), execution_device=CPU)


def on_disk(folder: Path) -> Any:
    model = llama()
    accelerate.disk_offload(model, folder, execution_device=CPU)
    return model


def device_map(folder: Path) -> Any:
    """A part of the model on disk, as from_pretrained(device_map=...) leaves it."""
    model = llama(tied=False)
    places = {"model.embed_tokens": "cpu", "model.layers.0": "cpu", "model.layers.1": "disk"}
    places |= {"model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "cpu"}
    return accelerate.dispatch_model(model, places, main_device="cpu", offload_dir=folder)


def behind_another_hook(folder: Path) -> Any:
    model = llama()
    layer = model.model.layers[1].mlp.up_proj
    accelerate.hooks.add_hook_to_module(layer, accelerate.hooks.ModelHook())
    hook = accelerate.hooks.AlignDevicesHook(execution_device="cpu", offload=True)
    accelerate.hooks.add_hook_to_module(layer, hook, append=True)
    return model


def meta(folder: Path) -> Any:
    with accelerate.init_empty_weights():
        return llama()


def one_meta(folder: Path) -> Any:
    model = llama()
    norm = model.model.norm
    norm.weight = torch.nn.Parameter(norm.weight.to("meta"), requires_grad=False)
    return model


def zero3(folder: Path) -> Any:
    """DeepSpeed leaves an empty tensor, and marks it."""
    model = llama()
    weight = model.model.layers[0].mlp.up_proj.weight
    weight.data = torch.empty(0)
    weight.ds_status = "NOT_AVAILABLE"
    return model


def group_offloading(folder: Path) -> Any:
    """The registry that diffusers' `enable_group_offload` puts on each module."""
    model = llama()
    model.model.norm._diffusers_hook = SimpleNamespace(hooks={"group_offloading": object()})
    return model


MODELS: dict[Callable[[Path], Any], str] = {
    offloaded: "is offloaded by accelerate",
    on_disk: "is offloaded by accelerate",
    device_map: "is offloaded by accelerate",
    behind_another_hook: "model.layers.1.mlp.up_proj is offloaded by accelerate",
    meta: r"has no data here \(it is on the meta device\)",
    one_meta: r"model.norm.weight has no data here",
    zero3: "model.layers.0.mlp.up_proj.weight is sharded over processes",
    group_offloading: "model.norm has the hook group_offloading of diffusers",
}


@pytest.mark.parametrize("make", MODELS)
def test_no_door_takes_them(make: Callable[[Path], Any], tmp_path: Path) -> None:
    model = make(tmp_path)
    before = ModelState(model)
    start = llama(tied=make is not device_map).state_dict()
    tuned = {name: tensor + 0.5 for name, tensor in start.items()}
    full = compress(tuned, kind="full", initial=start, density=1.0)
    vector = task_vector(tuned, kind="full", initial=start)
    calls = {name: lambda call=call: call(good()) for name, call in base_doors(model)} | {
        "load_expert of a residual": lambda: load_expert(model, full, initial=start),
        "add_to_base of a residual": lambda: add_to_base(model, full, initial=start),
        "add_to_base of a full merge": lambda: add_to_base(model, vector, initial=start),
    }
    assert len(calls) == 10
    for name, call in calls.items():
        with pytest.raises(MetroFastError, match=MODELS[make]):
            call()
        assert before.differences(ModelState(model)) == [], name


def test_a_second_expert_is_refused_too(tmp_path: Path) -> None:
    """A model may be offloaded after it got its first expert."""
    model = load_expert(llama(), good())
    accelerate.cpu_offload(model, execution_device=CPU)
    before = ModelState(model)
    with pytest.raises(MetroFastError, match="is offloaded by accelerate"):
        load_expert(model, good(), "second")
    assert before.differences(ModelState(model)) == []


@pytest.mark.parametrize("wrap", ["compile", "parallel"])
def test_wrappers_that_rename_tensors_are_named(wrap: str) -> None:
    model = llama()
    wrapped = torch.compile(model) if wrap == "compile" else torch.nn.DataParallel(model)
    message = "is compiled" if wrap == "compile" else "pass model.module"
    before = ModelState(model)
    for name, call in base_doors(wrapped):
        with pytest.raises(MetroFastError, match=message):
            call(good())
        assert before.differences(ModelState(model)) == [], name


def test_a_model_with_a_device_map_and_all_its_weights_is_taken() -> None:
    """`device_map="cpu"` and hooks that move inputs alone leave the weights where they are."""
    model = accelerate.dispatch_model(llama(), {"": "cpu"}, main_device="cpu", force_hooks=True)
    assert model.hf_device_map == {"": "cpu"}
    inputs = torch.arange(1, 9)[None]
    with torch.no_grad():
        found = load_expert(model, good())(input_ids=inputs).logits
        wanted = load_expert(llama(), good())(input_ids=inputs).logits
    assert torch.equal(found, wanted)
