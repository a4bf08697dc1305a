"""Every door is all or nothing: a refusal leaves every tensor and module of the model as it was."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest

from metro_fast import MetroFastError
from metro_fast.experts import (
    ExpertPool,
    add_to_base,
    compress,
    load_expert,
    load_experts,
    task_vector,
)

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
pytest.importorskip("transformers")

from model_state import ModelState
from refusals import (
    FAULTS,
    HARMLESS_IN_A_POOL,
    base_doors,
    doors,
    good,
    llama,
    lora,
    moved,
)
from strangers import with_other_config

DOORS = {name: (model, call) for name, model, call in doors()}


def refused(model: Any, call: Callable[[], Any], kinds: Any = MetroFastError) -> tuple[int, str]:
    """The number of tensors that were compared, none of which has changed, and the message."""
    before = ModelState(model)
    with pytest.raises(kinds) as caught:
        call()
    assert before.differences(ModelState(model)) == []
    return len(before.tensors), str(caught.value)


@pytest.mark.parametrize("door", DOORS)
def test_a_refusal_changes_nothing(door: str, capsys: pytest.CaptureFixture[str]) -> None:
    """FormatError is a MetroFastError; any other error of PEFT or torch would be a crash."""
    model, call = DOORS[door]
    tried = compared = 0
    for fault, make in FAULTS.items():
        if door == "a second of a pool" and fault in HARMLESS_IN_A_POOL:
            continue
        expert = make()
        count, message = refused(model, lambda expert=expert: call(expert))
        assert message, fault
        tried, compared = tried + 1, compared + count
    assert tried >= len(FAULTS) - len(HARMLESS_IN_A_POOL)
    with capsys.disabled():
        print(f"\n{door}: {tried} refusals tried, {compared} tensors compared, 0 changed", end="")


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interruption_changes_nothing(
    door: str, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the layers that were replaced and the weights that were not yet written."""
    model, call = DOORS[door]

    def interrupted(*args: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr(peft, "set_peft_model_state_dict", interrupted)
    monkeypatch.setattr("metro_fast.experts.search.slots.Slots.write", interrupted)
    monkeypatch.setattr("metro_fast.experts.pool.pool.fitted_segments", interrupted)
    refused(model, lambda: call(good()), error)


def test_the_model_still_works_after_all_of_it() -> None:
    """An expert that fits is accepted by the models that the refusals above were tried on."""
    wanted = load_expert(llama(), good()).state_dict()
    _, call = DOORS["load_expert"]
    found = call(good()).state_dict()
    assert list(found) == list(wanted)
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())


class Frozen(OrderedDict[str, Any]):
    """As the configuration of a model of diffusers: written once."""

    def update(self, *args: Any, **options: Any) -> None:
        raise TypeError("a frozen dict cannot be changed")

    clear = __delitem__ = update  # type: ignore[assignment]


def test_containers_that_refuse_to_be_written_are_left_alone() -> None:
    model = llama()
    model._internal_dict = Frozen([("sample_size", 64)])
    for _, call in list(base_doors(model))[:5]:
        refused(model, lambda call=call: call(FAULTS["an unknown start"]()))


def grouped() -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(6, 6, 3, groups=3), torch.nn.Linear(4, 4))


@pytest.mark.filterwarnings("ignore:LoRA adapter added to ConvNd layer with groups:UserWarning")
def test_a_grouped_convolution_leaves_no_layers_behind() -> None:
    """The rank must be a multiple of the groups; PEFT replaces other layers before it sees it."""
    config = peft.LoraConfig(r=3, target_modules=["0", "1"])
    expert = compress(moved(peft.get_peft_model(grouped(), config)), density=0.5)
    wrong = expert.config.replace(b'"r": 3', b'"r": 2')
    assert wrong != expert.config
    wrong_expert = with_other_config(expert, wrong)
    model = grouped()
    for call in (
        lambda: load_expert(model, wrong_expert),
        lambda: add_to_base(model, wrong_expert),
        lambda: load_experts(model, {"a": expert, "b": wrong_expert}),
        lambda: ExpertPool(model).add("a", wrong_expert),
        lambda: add_to_base(model, expert),  # PEFT cannot merge it, though it can be loaded
    ):
        refused(model, call)


def test_a_sum_that_is_not_finite_changes_nothing() -> None:
    """PEFT has merged other layers by then; float16 ends at 65504."""
    loud = peft.get_peft_model(llama(), lora())
    for name, parameter in loud.named_parameters():
        if "layers.1" in name and "v_proj.lora" in name:
            parameter.data.fill_(1e3)
        elif parameter.requires_grad:
            parameter.data.fill_(1e-3)
    model = llama(dtype=torch.float16)
    refused(model, lambda: add_to_base(model, compress(loud, density=1.0)))


def test_a_full_residual_that_does_not_fit_changes_nothing() -> None:
    """A sum beyond the dtype, two values for one weight, a name and a shape that are not there."""

    def residual(**changes: Any) -> Any:
        start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        end = {n: t.clone() for n, t in start.items()}
        for name, value in changes.items():
            key = {"norm": "model.norm.weight", "head": "lm_head.weight"}.get(name, name)
            end[key] = value
            start.setdefault(key, torch.zeros_like(value))
        return compress(end, kind="full", initial=start, density=1.0)

    model = llama()
    shift = torch.linspace(-1, 1, 640).reshape(40, 16)
    cases = {
        "one weight in the model and two": residual(head=model.lm_head.weight.detach() + shift),
        "has no extra.weight": residual(**{"extra.weight": torch.ones(4)}),
    }
    for message, expert in cases.items():
        for call in (load_expert, add_to_base):
            _, text = refused(model, lambda call=call, expert=expert: call(model, expert))
            assert message in text


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_a_residual_whose_sum_is_not_finite_changes_nothing() -> None:
    model = llama(dtype=torch.float16)
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    vector = task_vector({n: t + 0.5 for n, t in start.items()}, kind="full", initial=start)
    vector.residuals["model.norm.weight"].values[...] = 7e4
    _, message = refused(model, lambda: add_to_base(model, vector))
    assert "model.norm.weight does not fit the model's dtype torch.float16" in message


@pytest.mark.parametrize("state", ["merged", "mixed", "taken", "not a module"])
def test_models_with_adapters_in_other_states(state: str) -> None:
    expert = good()
    if state == "merged":  # PEFT would unmerge it, which rounds the weights of the base
        model = load_expert(llama(), expert)
        model.merge_adapter()
        _, message = refused(model, lambda: load_expert(model, expert, "other"))
        assert "call unmerge_adapter() first" in message
    elif state == "mixed":
        model = peft.get_peft_model(llama(), lora(), mixed=True)
        for call in (load_expert, lambda m, e: load_experts(m, {"a": e})):
            _, message = refused(model, lambda call=call: call(model, expert))
            assert "PeftMixedModel" in message
    elif state == "taken":  # by the method of transformers, which makes no PeftModel
        model = llama()
        model.add_adapter(lora(), adapter_name="default")
        _, message = refused(model, lambda: load_expert(model, expert))
        assert "has an adapter 'default' already" in message
        for _, call in list(base_doors(model))[2:5]:
            _, message = refused(model, lambda call=call: call(expert))
            assert "adapter" in message
    else:
        with pytest.raises(TypeError, match="the model is a NoneType, expected a torch module"):
            load_expert(None, expert)
