"""A stock Seq2SeqTrainer trains, evaluates and predicts on our batches."""

import numpy as np
import pytest
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments

from metro_fast import MetroFastError
from metro_fast.data import (
    DataCollatorForMetro,
    DataCollatorForSpanCorruption,
    DataCollatorForUL2,
    EpochCallback,
    TokenCorpus,
    write_corpus,
)
from metro_fast.metro import MetroConfig, MetroForPretraining, MetroTrainer, MetroTrainingArguments
from metro_fast.ops import Vocabulary

ROWS = [{"input_ids": [*range(20 + i, 60 + i)], "sample_id": i} for i in range(8)]
DECODER = Vocabulary(sentinel_first=4, sentinel_step=1, num_sentinels=16, decoder_start_token_id=0)
COLLATORS = {
    "span": DataCollatorForSpanCorruption,
    "decoder": lambda tokenizer, **o: DataCollatorForSpanCorruption(vocabulary=DECODER, **o),
    "ul2": lambda tokenizer, **o: DataCollatorForUL2(tokenizer, mode_tokens=None, **o),
    "metro": DataCollatorForMetro,
}


def trainer(tmp_path, model, rows, collator, tokenizer):
    arguments = Seq2SeqTrainingArguments(
        str(tmp_path),
        max_steps=2,
        per_device_train_batch_size=4,
        per_device_eval_batch_size=3,
        predict_with_generate=True,
        generation_max_length=9,
        remove_unused_columns=False,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )
    return Seq2SeqTrainer(
        model,
        arguments,
        train_dataset=rows,
        eval_dataset=rows,
        data_collator=collator,
        processing_class=tokenizer,
        compute_metrics=lambda predicted: {"width": predicted.predictions.shape[1]},
        callbacks=[EpochCallback(collator)],
    )


@pytest.mark.parametrize("source", ["rows", "corpus"])
@pytest.mark.parametrize("name", COLLATORS)
def test_it_trains_and_generates(tmp_path, tiny_t5, tiny_tokenizer, name, source):
    collator = COLLATORS[name](tiny_tokenizer, seed=1, model_inputs_only=True)
    rows = ROWS
    if source == "corpus":
        write_corpus(tmp_path / "corpus", [row["input_ids"] for row in ROWS])
        rows = TokenCorpus(tmp_path / "corpus", block_size=40, collator=collator)
    stock = trainer(tmp_path, tiny_t5, rows, collator, tiny_tokenizer)
    stock.train()
    assert stock.evaluate()["eval_width"] >= 9
    collator.set_epoch(0)
    result = stock.predict(rows)
    assert len(result.predictions) == 8
    collator.set_epoch(0)
    batch = collator(ROWS[:3])
    generated = tiny_t5.generate(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], max_length=9
    )
    found = result.predictions[:3, : generated.shape[1]]
    assert np.array_equal(found, generated.numpy())
    labels = result.label_ids[:3, : batch["labels"].shape[1]]
    assert np.array_equal(labels, batch["labels"].numpy())


@pytest.mark.parametrize("name", COLLATORS)
def test_the_option_takes_away_what_a_stock_model_does_not_take(tiny_tokenizer, name):
    whole = COLLATORS[name](tiny_tokenizer, seed=1)(ROWS)
    bare = COLLATORS[name](tiny_tokenizer, seed=1, model_inputs_only=True)(ROWS)
    wanted = {"input_ids", "attention_mask", "labels"}
    assert set(bare) == wanted | ({"decoder_input_ids"} if name == "decoder" else set())
    assert all(bare[key].equal(whole[key]) for key in bare)


def test_without_the_option_transformers_refuses_the_counts(tmp_path, tiny_t5, tiny_tokenizer):
    collator = DataCollatorForSpanCorruption(tiny_tokenizer)
    with pytest.raises(ValueError, match=r"not used by the model: .*'num_labels'"):
        trainer(tmp_path, tiny_t5, ROWS, collator, tiny_tokenizer).predict(ROWS)


def test_the_option_is_true_or_false(tiny_tokenizer):
    with pytest.raises(TypeError, match="model_inputs_only is 'yes', expected True or False"):
        DataCollatorForSpanCorruption(tiny_tokenizer, model_inputs_only="yes")


def test_our_own_trainer_says_which_option_takes_its_counts_away(tmp_path, tiny_tokenizer):
    size = len(tiny_tokenizer)
    main = {
        "vocab_size": size,
        "d_model": 8,
        "d_kv": 4,
        "num_heads": 2,
        "d_ff": 16,
        "num_layers": 1,
    }
    ours = MetroTrainer(
        MetroForPretraining(MetroConfig(main=main, auxiliary={"num_layers": 1})),
        MetroTrainingArguments(str(tmp_path), max_steps=1, save_strategy="no", disable_tqdm=True),
        train_dataset=ROWS,
        data_collator=DataCollatorForMetro(tiny_tokenizer, model_inputs_only=True),
    )
    with pytest.raises(MetroFastError, match="model_inputs_only"):
        ours.train()
