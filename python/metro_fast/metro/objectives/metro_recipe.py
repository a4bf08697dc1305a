"""METRO as a recipe: its settings, masks, model and losses."""

from dataclasses import field, fields, make_dataclass
from typing import Any, get_type_hints

from transformers import PreTrainedModel

from metro_fast._pretrained import explained
from metro_fast._shown import quoted
from metro_fast.data import DataCollatorForMetro
from metro_fast.data.collator import Collator
from metro_fast.metro.configuration import MetroConfig
from metro_fast.metro.modeling import MetroForPretraining
from metro_fast.metro.objectives.metro import MetroObjective
from metro_fast.metro.objectives.recipe import ModelPlan, Recipe
from metro_fast.metro.options import MetroOptions
from metro_fast.metro.sections import AUXILIARY_OPTIONS, AuxiliarySection
from metro_fast.metro.settings import Section
from metro_fast.metro.starting import never_drawn
from metro_fast.ops import Masking

LOSS_OPTIONS = tuple(
    option.name for option in fields(MetroOptions) if option.name not in AUXILIARY_OPTIONS.values()
)
MASK_OPTIONS = tuple(option.name for option in fields(Masking))


def _field(owner: type, name: str) -> tuple[str, Any, Any]:
    option = next(each for each in fields(owner) if each.name == name)
    return name, get_type_hints(owner)[name], field(default=option.default)


# Made from the two classes, so that a default is written in one place.
MetroSettings = make_dataclass(
    "MetroSettings",
    [
        *(_field(MetroOptions, name) for name in LOSS_OPTIONS),
        *(_field(Masking, name) for name in MASK_OPTIONS),
        ("whole_words", bool, False),
    ],
    bases=(Section,),
    frozen=True,
    kw_only=True,
    repr=False,
)


def _options(settings: Any, auxiliary: AuxiliarySection) -> dict[str, Any]:
    """The options of the model, from both sections."""
    return {
        **{name: getattr(settings, name) for name in LOSS_OPTIONS},
        **{option: getattr(auxiliary, name) for name, option in AUXILIARY_OPTIONS.items()},
    }


def _check(settings: Any, auxiliary: AuxiliarySection) -> None:
    MetroOptions(**_options(settings, auxiliary))
    # The kernel checks its numbers itself; the ids are only there to be had.
    DataCollatorForMetro(
        masking=_masking(settings), mask_token_id=1, pad_token_id=0, vocab_size=(1 << 31) - 1
    )


def _masking(settings: Any) -> Masking:
    return Masking(**{name: getattr(settings, name) for name in MASK_OPTIONS})


def _collator(tokenizer: Any, settings: Any, seed: int) -> Collator:
    return DataCollatorForMetro(
        tokenizer, masking=_masking(settings), whole_words=settings.whole_words, seed=seed
    )


def _model(plan: ModelPlan) -> PreTrainedModel:
    section = plan.auxiliary
    own: dict[str, Any] = {"dropout_rate": section.dropout_rate}
    if section.num_layers is not None:
        own["num_layers"] = section.num_layers
    options = {**_options(plan.objective, section), "sampling_seed": plan.seed}
    if plan.init is not None:
        model = MetroForPretraining.from_t5(
            plan.init,
            auxiliary=section.init or "first_layers",
            tokenizer=plan.tokenizer,
            auxiliary_config=own,
            dtype="auto" if plan.sixteen_bit_weights else None,
            **options,
        )
    else:
        with explained("a model of these settings"):
            assert plan.main is not None
            never = never_drawn(plan.tokenizer, plan.main.vocab_size)
            model = MetroForPretraining(
                MetroConfig(main=plan.main, auxiliary=own, forbidden_token_ids=never, **options)
            )
    if plan.attn_implementation is not None:
        with explained(f"attention {quoted(plan.attn_implementation)}"):
            model.set_attn_implementation(plan.attn_implementation)
    return model


def _losses(model: MetroForPretraining) -> MetroObjective:
    return MetroObjective(model.config)


METRO = Recipe(
    name="metro",
    settings=MetroSettings,
    documented_by=(MetroOptions, Masking, DataCollatorForMetro),
    has_auxiliary=True,
    check=_check,
    collator=_collator,
    model=_model,
    losses=_losses,
)
