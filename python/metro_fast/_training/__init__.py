"""What every trainer of metro_fast shares: summed losses, exact counts, exact resume.

`SummedLossTrainer` divides sums of losses by counts over the whole accumulation window and all
ranks; `Objective` tells it what the sums and counts of a batch are. `metro` and `tuning` bring
the objectives. Internal: the public names are those of the two rooms.
"""

from metro_fast._extras import require

require("torch", "train")
require("transformers", "train")
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
