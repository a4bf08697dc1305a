"""Span corruption under a stock `transformers.Trainer`: our collator, and nothing else of ours.

python examples/stock_trainer.py
"""

import numpy as np
from torch.utils.data import Dataset
from transformers import T5Config, T5ForConditionalGeneration, Trainer, TrainingArguments, set_seed

from metro_fast.data import DataCollatorForSpanCorruption, EpochCallback
from metro_fast.ops import Vocabulary

VOCABULARY, SENTINELS = 200, 16


class Rows(Dataset):
    """Token ids, and a `sample_id` that keys the noise of a row in every epoch, worker and rank."""

    def __init__(self, count: int) -> None:
        rng = np.random.default_rng(0)
        self.rows = rng.integers(4, VOCABULARY - SENTINELS, (count, 68), dtype=np.uint16)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict:
        return {"input_ids": self.rows[index], "sample_id": index}


def main() -> None:
    """Train a tiny T5 for two epochs."""
    set_seed(0)
    model = T5ForConditionalGeneration(
        T5Config(
            vocab_size=VOCABULARY,
            d_model=32,
            d_kv=8,
            d_ff=64,
            num_layers=2,
            num_heads=4,
            decoder_start_token_id=0,
        )
    )
    collator = DataCollatorForSpanCorruption(
        vocabulary=Vocabulary(
            sentinel_first=VOCABULARY - 1, num_sentinels=SENTINELS, eos_token_id=1, pad_token_id=0
        ),
        seed=0,
    )
    arguments = TrainingArguments(
        output_dir="stock-trainer",
        num_train_epochs=2,
        per_device_train_batch_size=8,
        learning_rate=3e-3,
        logging_steps=4,
        save_strategy="no",
        report_to="none",
        remove_unused_columns=False,  # the Trainer would remove `sample_id`
        # transformers' T5 ignores the number of tokens that the Trainer counts, so keep one
        # forward pass per step here, or use MetroTrainer, which counts them itself.
        gradient_accumulation_steps=1,
    )
    trainer = Trainer(
        model,
        arguments,
        train_dataset=Rows(64),
        data_collator=collator,
        callbacks=[EpochCallback(collator)],  # a stock Trainer does not pass on the epoch
    )
    trainer.train()
    print(f"trained for {trainer.state.global_step} steps")


if __name__ == "__main__":
    main()
