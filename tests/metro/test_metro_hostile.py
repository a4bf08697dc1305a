"""A METRO model under a demanding user: odd batches, draws, wrappers, modes and sizes."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from metro_cases import (
    COUNTS,
    LENGTHS,
    MASK,
    VOCAB,
    MetroCollator,
    Rows,
    arguments,
    metro_batch,
    metro_config,
    metro_model,
)
from metro_fast.errors import MetroFastError
from metro_fast.metro import MetroForPretraining, MetroTrainer

SHARING = ("none", "token", "token_rel_norm", "disentangled")


def batch(**changes: Any) -> dict[str, Any]:
    return {**MetroCollator()([Rows()[i] for i in range(4)]), **changes}


def total(output: Any) -> torch.Tensor:
    return output.mlm.sum + output.lm.sum + 50 * output.rtd.sum


def test_padding_on_the_left_or_inside_is_refused() -> None:
    b = {name: v.flip(1) if v.ndim == 2 else v for name, v in batch().items()}
    b["masked_positions"] = (b["input_ids"] == MASK).flatten().nonzero().squeeze(1)
    with pytest.raises(MetroFastError, match=r"row 0 of attention_mask has padding before a token"):
        metro_model()(**{**b, "num_masked": None})
    b = batch(**dict.fromkeys(COUNTS))
    b["attention_mask"][2, 3], b["labels"][2, 3] = 0, -100
    keep = b["masked_positions"] != 2 * b["labels"].shape[1] + 3
    with pytest.raises(MetroFastError, match=r"row 2 of attention_mask has padding before"):
        metro_model()(**{**b, "masked_positions": b["masked_positions"][keep]})


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"epoch": 1.5}, TypeError, r"epoch is 1\.5, expected an integer"),
        ({"epoch": torch.tensor(1.0)}, TypeError, r"epoch is torch\.float32"),
        ({"epoch": torch.tensor([1, 2])}, MetroFastError, r"epoch has shape \(2,\)"),
        ({"epoch": -1}, MetroFastError, r"epoch is -1"),
        ({"auxiliary": "drop"}, MetroFastError, "auxiliary is 'drop', expected trained, frozen"),
    ],
)
def test_odd_arguments_are_named(
    change: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        metro_model()(**batch(**change))


def test_an_attention_mask_of_other_numbers_is_refused() -> None:
    b = batch(num_encoder_tokens=None)
    b["attention_mask"][0, 3] = 2
    with pytest.raises(MetroFastError, match="attention_mask holds 2, expected 0 or 1"):
        metro_model()(**b)


@pytest.mark.parametrize("masked", ["none", "one", "all", "a row of one token"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"decoding_target": "all", "rtd_head": "both", "weighted_lm_loss": True},
        {"decoding_target": "masked_only", "rtd_head": "decoder", "rtd_target": "masked"},
    ],
)
def test_every_weight_has_a_finite_gradient_whatever_is_masked(
    masked: str, options: dict[str, Any]
) -> None:
    rows = torch.tensor([[5, 6, 7, 8, 9], [5, 6, 0, 0, 0]]).numpy()
    if masked == "a row of one token":
        rows = rows[:1, :1]
    where = {"none": rows < 0, "one": rows == 8}.get(masked, rows > 0)
    model = metro_model(**options).train()
    output = model(**metro_batch(rows, where, range(len(rows))))
    losses = [getattr(output, name) for name in ("mlm", "lm", "rtd", "rtd_decoder")]
    sum(loss.sum for loss in losses if loss is not None).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("options", [{"sampling_top_k": 3, "exclude_original": True}, {}])
def test_draws_do_not_depend_on_the_batch_in_any_type(options: dict[str, Any]) -> None:
    rows = [Rows()[i] for i in range(4)]
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        model = metro_model(**options).to(dtype).eval()
        together = model(**MetroCollator()(rows)).sampled_ids
        alone = [model(**MetroCollator()([row])).sampled_ids for row in rows]
        assert torch.equal(together, torch.cat(alone)), dtype


def test_a_second_pass_for_the_draw_restores_every_mode() -> None:
    model = metro_model(sampling_mode="eval").train()
    model.auxiliary.encoder.block[0].eval()
    modes = [part.training for part in model.modules()]
    model(**batch())
    assert [part.training for part in model.modules()] == modes
    model.mlm_head.projection.bias.data.fill_(float("nan"))
    with pytest.raises(MetroFastError, match="logits has NaN"):
        model(**batch())
    assert [part.training for part in model.modules()] == modes


@pytest.mark.parametrize("sharing", SHARING)
def test_ties_and_values_survive_what_is_done_to_a_model(sharing: str, tmp_path: Path) -> None:
    model = metro_model(embedding_sharing=sharing)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    total(model(**batch())).backward()
    optimizer.step()
    expected = total(model.eval()(**batch()))
    ties = len({id(p) for p in model.parameters()})

    torch.save(model, tmp_path / "model.pt")
    loaded = torch.load(tmp_path / "model.pt", weights_only=False)
    fresh = metro_model(seed=1, embedding_sharing=sharing).eval()
    fresh.load_state_dict(model.state_dict())
    copied = copy.deepcopy(model)
    copied.tie_weights()
    copied.tie_weights()
    model.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    for other in (loaded, fresh, copied, MetroForPretraining.from_pretrained(tmp_path / "shards")):
        assert len({id(p) for p in other.parameters()}) == ties
        assert torch.equal(total(other(**batch())), expected)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("sharing", SHARING)
def test_checkpointing_of_both_kinds_changes_no_gradient(sharing: str, reentrant: bool) -> None:
    models = [metro_model(embedding_sharing=sharing).train() for _ in range(2)]
    models[1].gradient_checkpointing_enable({"use_reentrant": reentrant})
    for model in models:
        total(model(**batch())).backward()
    for first, second in zip(*(m.parameters() for m in models), strict=True):
        scale = float(first.grad.abs().max())
        torch.testing.assert_close(second.grad, first.grad, rtol=0, atol=2e-6 * scale)


def test_ids_that_fill_up_a_multiple_are_never_drawn() -> None:
    model = metro_model(forbidden_token_ids=[0, MASK])
    model.resize_token_embeddings(pad_to_multiple_of=64)
    assert model.config.vocab_size == 128
    assert model.config.forbidden_token_ids == [0, MASK, *range(VOCAB, 128)]
    model.mlm_head.projection.bias.data[VOCAB:] = 1e3
    assert (model(**batch()).sampled_ids < VOCAB).all()


def test_needed_ids_cannot_be_cut_off() -> None:
    model = metro_model(main={"eos_token_id": 50}, forbidden_token_ids=[0, *range(4, 51)])
    for size, match in ((50, "cut off 50, the id of eos: keep at least 51"), (0, "cut off 0")):
        with pytest.raises(MetroFastError, match=match):
            model.resize_token_embeddings(size)
    model = metro_model(forbidden_token_ids=[0, *range(3, 60)])
    with pytest.raises(MetroFastError, match="nothing would be left to draw"):
        model.resize_token_embeddings(2)
    assert model.config.vocab_size == model.main.shared.num_embeddings == VOCAB
    model(**batch())


def test_a_wrapped_main_model_trains_and_is_not_saved_in_part(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    model = metro_model()
    model.main = peft.get_peft_model(model.main, peft.LoraConfig(r=2, target_modules=["q"]))
    total(model(**batch())).backward()
    with pytest.raises(MetroFastError, match=r"the main model is a Peft.*merge_and_unload"):
        model.save_main(tmp_path / "main")
    assert not (tmp_path / "main").exists()
    model.main = model.main.merge_and_unload()
    model.save_main(tmp_path / "main")
    assert (tmp_path / "main" / "model.safetensors").exists()


def test_saving_onto_a_file_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        metro_model().save_pretrained(tmp_path / "file")
    assert (tmp_path / "file").read_text() == ""


def trainer(folder: Path, **options: Any) -> MetroTrainer:
    return MetroTrainer(
        metro_model(**options),
        arguments(folder, max_steps=4, save_strategy="steps", save_steps=4),
        train_dataset=Rows(),
        eval_dataset=Rows(LENGTHS[:4], seed=1),
        data_collator=MetroCollator(),
    )


@pytest.mark.parametrize("stage", ["auxiliary_dropped_from", "auxiliary_frozen_from"])
def test_a_finished_run_is_evaluated_as_it_ended(stage: str, tmp_path: Path) -> None:
    first = trainer(tmp_path, **{stage: 2})
    first.train()
    first.data_collator.set_epoch(0)
    expected = first.evaluate()
    again = trainer(tmp_path, **{stage: 2})
    again.train(resume_from_checkpoint=True)  # nothing is left to train
    again.data_collator.set_epoch(0)
    found = again.evaluate()
    assert found["eval_loss"] == expected["eval_loss"]
    assert ("eval_mlm_loss" in found) == (stage == "auxiliary_frozen_from")


def test_a_model_init_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(MetroFastError, match="model_init is given"):
        MetroTrainer(None, arguments(tmp_path), model_init=lambda: metro_model())


def test_a_config_alone_makes_a_model_of_its_own() -> None:
    config = metro_config()
    first, second = MetroForPretraining(config), MetroForPretraining(copy.deepcopy(config))
    first.resize_token_embeddings(128)
    assert second.config.vocab_size == VOCAB
