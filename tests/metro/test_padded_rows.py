"""Our trainers give padded rows the losses and the counts of bare ones."""

import pytest

from metro_fast.data import DataCollatorForMetro, DataCollatorForSpanCorruption
from metro_fast.metro import MetroConfig, MetroForPretraining, MetroTrainer, MetroTrainingArguments

TIMES = ("runtime", "per_second", "_time")
TEXTS = ["the capital of italy is rome", "a red cat sees one green bird and a fish", "yes"] * 4


@pytest.mark.parametrize("objective", ["metro", "span"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_no_loss(tmp_path, tiny_t5, tiny_tokenizer, objective, side):
    make = DataCollatorForMetro if objective == "metro" else DataCollatorForSpanCorruption
    padded = tiny_tokenizer(TEXTS, padding="max_length", max_length=20, padding_side=side)
    found = []
    for columns in (padded, tiny_tokenizer(TEXTS)):
        rows = [
            {name: column[row] for name, column in columns.items()} | {"sample_id": row}
            for row in range(len(TEXTS))
        ]
        model = tiny_t5
        if objective == "metro":
            model = MetroForPretraining(
                MetroConfig(main=tiny_t5.config.to_dict(), auxiliary={"num_layers": 1})
            )
            for parameter in model.parameters():
                parameter.data.fill_(0.01)
        trainer = MetroTrainer(
            model,
            MetroTrainingArguments(
                str(tmp_path), report_to="none", disable_tqdm=True, use_cpu=True
            ),
            eval_dataset=rows,
            data_collator=make(tiny_tokenizer, seed=2),
        )
        figures = trainer.evaluate()
        found.append({name: x for name, x in figures.items() if not name.endswith(TIMES)})
    assert found[0] == found[1]
    assert any("loss" in name for name in found[0])
