"""METRO pretraining (arXiv 2305.12567): model, trainer, and `pretrain`."""

from metro_fast._extras import require

require("torch", "train")
require("transformers", "train")
require("accelerate", "train")

from transformers import AutoConfig, AutoModelForPreTraining  # noqa: E402

from metro_fast.metro.configuration import MetroConfig  # noqa: E402
from metro_fast.metro.configuration_metro_t0 import MetroT0Config  # noqa: E402
from metro_fast.metro.curves import draw_curves  # noqa: E402
from metro_fast.metro.disentangled import follow_auxiliary  # noqa: E402
from metro_fast.metro.heads import TokenLoss  # noqa: E402
from metro_fast.metro.modeling import MetroForPretraining  # noqa: E402
from metro_fast.metro.modeling_metro_t0 import (  # noqa: E402
    MetroT0EncoderModel,
    MetroT0ForConditionalGeneration,
)
from metro_fast.metro.modeling_outputs import MetroOutput  # noqa: E402
from metro_fast.metro.pretrain_config import PretrainConfig  # noqa: E402
from metro_fast.metro.pretraining import pretrain  # noqa: E402
from metro_fast.metro.strip import SentenceStrip  # noqa: E402
from metro_fast.metro.trainer import MetroTrainer  # noqa: E402
from metro_fast.metro.training_arguments import MetroTrainingArguments  # noqa: E402

__all__ = [
    "MetroConfig",
    "MetroForPretraining",
    "MetroOutput",
    "MetroT0Config",
    "MetroT0EncoderModel",
    "MetroT0ForConditionalGeneration",
    "MetroTrainer",
    "MetroTrainingArguments",
    "PretrainConfig",
    "SentenceStrip",
    "TokenLoss",
    "draw_curves",
    "follow_auxiliary",
    "pretrain",
]

AutoConfig.register(MetroConfig.model_type, MetroConfig, exist_ok=True)
AutoModelForPreTraining.register(MetroConfig, MetroForPretraining, exist_ok=True)
