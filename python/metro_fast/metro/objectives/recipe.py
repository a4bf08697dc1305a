"""The parts that an objective brings to a run: settings, collator, model, losses."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from metro_fast._training import Objective
from metro_fast.data.collator import Collator


@dataclass(frozen=True)
class ModelPlan:
    """The model that a run is to start with.

    Attributes:
        main: Settings of a new main model, or None if `init` is given.
        init: Folder or Hub name of the model to start from, or None for new weights.
        tokenizer: The tokenizer of the corpus.
        objective: The settings of the objective.
        auxiliary: The settings of the auxiliary model; None if the objective has none.
        seed: Seed of METRO's draws.
        attn_implementation: Attention of transformers, such as "sdpa"; None for its choice.
        sixteen_bit_weights: Whether weights of 16 bits that are loaded stay so.
    """

    main: PreTrainedConfig | None
    init: str | None
    tokenizer: PreTrainedTokenizerBase
    objective: Any
    auxiliary: Any
    seed: int
    attn_implementation: str | None
    sixteen_bit_weights: bool = False


@dataclass(frozen=True)
class Recipe:
    """One objective of pretraining.

    Attributes:
        name: Its name in `objective.name`.
        settings: The dataclass of the settings that it reads.
        documented_by: The classes whose docstrings say what the settings mean.
        has_auxiliary: Whether it trains an auxiliary model, and so reads the section `auxiliary`.
        check: Called with the settings of the objective and of the auxiliary model; raises if they
            do not fit together.
        collator: Called with tokenizer, settings and seed; makes the batches.
        model: Makes the model that is trained.
        losses: Makes the trainer's objective for that model.
    """

    name: str
    settings: type
    documented_by: tuple[type, ...]
    has_auxiliary: bool
    check: Callable[[Any, Any], None]
    collator: Callable[[PreTrainedTokenizerBase, Any, int], Collator]
    model: Callable[[ModelPlan], PreTrainedModel]
    losses: Callable[[Any], Objective]

    def __repr__(self) -> str:
        return f"Recipe({self.name!r})"
