"""Put a LoRA adapter on an encoder-decoder model."""

from typing import TYPE_CHECKING, Any

from metro_fast._extras import require
from metro_fast.errors import MetroFastError
from metro_fast.tuning.options import TuningOptions

if TYPE_CHECKING:
    from peft import PeftModel


def add_lora(model: Any, options: TuningOptions) -> "PeftModel":
    """Freeze a model and add a LoRA adapter (A random, B zero, so that nothing changes at first).

    Args:
        model: A transformers encoder-decoder.
        options: rank, alpha, lora_dropout, target_modules.

    Returns:
        The model with the adapter, which is the only part that trains.

    Raises:
        MissingExtraError: If peft is not installed.
        MetroFastError: If no module has one of the target names.
    """
    peft = require("peft", "peft")
    names = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    unknown = [name for name in options.target_modules if name.rpartition(".")[2] not in names]
    if unknown:
        raise MetroFastError(
            f"target_modules {unknown} are in no module of {type(model).__name__}: choose from "
            f"{', '.join(sorted(name for name in names if name and not name.isdigit()))}"
        )
    config = peft.LoraConfig(
        task_type="SEQ_2_SEQ_LM",
        r=options.rank,
        lora_alpha=options.alpha,
        lora_dropout=options.lora_dropout,
        target_modules=options.target_modules or "all-linear",
    )
    adapted: PeftModel = peft.get_peft_model(model, config)
    if options.lora_init_std:
        for name, parameter in adapted.named_parameters():
            if ".lora_A." in name:
                require("torch", "train").nn.init.normal_(parameter, std=options.lora_init_std)
    return adapted
