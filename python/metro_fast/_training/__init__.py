"""The trainer that METRO and finetuning share: summed losses, exact counts, exact resume.

`SummedLossTrainer` divides sums of losses by counts over the whole accumulation window and all
ranks. An `Objective` gives it the sums and counts of each batch; `metro` and `tuning` bring the
objectives. This package is internal: the public names are those of these two rooms.
"""

from metro_fast._extras import require
from metro_fast._training.private_methods import check_private_methods

require("torch", "train")
check_private_methods(require("transformers", "train"))
require("accelerate", "train")

from metro_fast._training.arguments import SummedLossArguments  # noqa: E402
from metro_fast._training.objective import Objective, StepResult  # noqa: E402
from metro_fast._training.seq2seq import Seq2SeqObjective  # noqa: E402
from metro_fast._training.trainer import SummedLossTrainer  # noqa: E402

__all__ = [
    "Objective",
    "Seq2SeqObjective",
    "StepResult",
    "SummedLossArguments",
    "SummedLossTrainer",
]
