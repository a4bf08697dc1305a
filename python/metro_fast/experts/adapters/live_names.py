"""Names that LoRA tensors have in a model's `state_dict`, where they hold the adapter's name."""

import re
from collections.abc import Iterable

from metro_fast._shown import shown
from metro_fast.errors import MetroFastError

_LIVE = re.compile(
    r"(?P<role>.*\.lora_(?:embedding_)?[AB])\.(?!weight$|bias$)(?P<adapter>[^.]+)"
    r"(?P<end>\.weight|\.bias)?"
)


def saved_names(names: Iterable[str]) -> dict[str, str]:
    """The names under which PEFT saves LoRA tensors that still have their names in the model.

    PEFT itself loads such a file into an adapter of the same name; servers do not.

    Args:
        names: The names in a file that has an adapter_config.json.

    Returns:
        The new names by the old ones, of all tensors.

    Raises:
        MetroFastError: If the file holds several adapters, or the weights of the base too.

    Example:
        >>> saved_names(["q.lora_A.default.weight", "score.weight"])
        {'q.lora_A.default.weight': 'q.lora_A.weight', 'score.weight': 'score.weight'}
    """
    names = list(names)
    refuse_whole_model(names)
    found = {name: match for name in names if (match := _LIVE.fullmatch(name))}
    adapters = {match["adapter"] for match in found.values()}
    if len(adapters) > 1:
        some = ", ".join(shown(adapter) for adapter in sorted(adapters)[:3])
        raise MetroFastError(
            f"the file holds {len(adapters)} adapters ({some}): save each alone, with "
            "save_pretrained(..., selected_adapters=[name])"
        )
    new = {
        name: match["role"] + (match["end"] or "") if (match := found.get(name)) else name
        for name in names
    }
    if len(set(new.values())) < len(names):
        twice = next(old for old, name in new.items() if old != name and name in new)
        raise MetroFastError(f"the file holds {shown(twice)} also without the adapter's name")
    return new


def refuse_whole_model(names: Iterable[str]) -> None:
    """Refuse the state dict of a model with its adapter, which PEFT's own way of saving filters.

    Args:
        names: Names of tensors.

    Raises:
        MetroFastError: If names with an adapter's name in them are beside weights of the base.

    Example:
        >>> refuse_whole_model(["q.lora_A.default.weight", "q.base_layer.weight"])
        Traceback (most recent call last):
        ...
        metro_fast._core.MetroFastError: q.base_layer.weight is a weight of the base, and so this \
is the state dict of a whole model: give the model, peft.get_peft_model_state_dict(model), or the \
folder of its save_pretrained
    """
    names = list(names)
    live = {m["role"].rpartition(".lora_")[0] for name in names if (m := _LIVE.fullmatch(name))}
    for name in names:
        if ".base_layer." in name and name.partition(".base_layer.")[0] in live:
            raise MetroFastError(
                f"{shown(name)} is a weight of the base, and so this is the state dict of a whole "
                "model: give the model, peft.get_peft_model_state_dict(model), or the folder of "
                "its save_pretrained"
            )
