"""The training arguments of METRO."""

from dataclasses import dataclass, field

from metro_fast._training import SummedLossArguments


@dataclass
class MetroTrainingArguments(SummedLossArguments):
    """`transformers.TrainingArguments` with METRO's defaults (metro_t0's yaml files).

    Attributes:
        mlm_weight: Weight of the auxiliary model's loss; None takes the model config's (1).
        lm_weight: Weight of the decoder's loss; None takes the model config's (1).
        rtd_weight: Weight of replaced-token detection; None takes the model config's (50).
    """

    mlm_weight: float | None = field(default=None, metadata={"help": "None: the config's, 1."})
    lm_weight: float | None = field(default=None, metadata={"help": "None: the config's, 1."})
    rtd_weight: float | None = field(default=None, metadata={"help": "None: the config's, 50."})
    weight_decay: float = field(default=0.01, metadata={"help": "Decay of the matrices."})
    adam_beta2: float = field(default=0.98, metadata={"help": "Adam's second beta."})
    adam_epsilon: float = field(default=1e-6, metadata={"help": "Adam's epsilon."})
