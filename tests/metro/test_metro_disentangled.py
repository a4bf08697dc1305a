"""DeBERTaV3's gradient-disentangled sharing under any optimizer, however it is given."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from metro_cases import MetroCollator, Rows, arguments, metro_model
from metro_fast.errors import MetroFastError
from metro_fast.metro import MetroTrainer, follow_auxiliary

ALONE = {"embedding_sharing": "disentangled", "lm_weight": 0.0, "rtd_weight": 0.0}
OPTIMIZERS: dict[str, Any] = {
    "adamw with decay": lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.5),
    "sgd with momentum and decay": lambda p: torch.optim.SGD(
        p, lr=1e-4, momentum=0.9, weight_decay=0.5
    ),
    "adafactor": lambda p: torch.optim.Adafactor(p, lr=1e-2, eps=(None, 0.1), weight_decay=0.5),
}


def batch(epoch: int = 0) -> dict[str, Any]:
    return {**MetroCollator()([Rows()[i] for i in range(4)]), "epoch": epoch}


def backward(model: Any, rows: dict[str, Any]) -> None:
    output = model(**rows)
    (output.mlm.sum + output.lm.sum + 50 * output.rtd.sum).backward()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_decay_and_scale_act_on_the_difference(name: str) -> None:
    """Against explicit tables E and D, where the main model reads E.detach() + D."""
    model = metro_model(embedding_sharing="disentangled")
    reference = copy.deepcopy(model)
    optimizer = OPTIMIZERS[name](model.parameters())
    follow_auxiliary(model, optimizer)
    table = reference.main.shared.weight
    difference = torch.nn.Parameter(torch.zeros_like(table))
    others = [p for p in reference.parameters() if p is not table]
    second = OPTIMIZERS[name]([*others, difference])
    for epoch in range(3):
        backward(model, batch(epoch))
        optimizer.step()
        optimizer.zero_grad()
        backward(reference, batch(epoch))
        difference.grad, table.grad = table.grad, None
        second.step()
        second.zero_grad()
        with torch.no_grad():
            table.copy_(reference.auxiliary.shared.weight + difference)
    assert difference.abs().max() > 1e-3
    for weight, state in model.state_dict().items():
        torch.testing.assert_close(state, reference.state_dict()[weight], rtol=0, atol=2e-5)


def trainer(folder: Path, model: Any, **options: Any) -> MetroTrainer:
    given = {n: options.pop(n) for n in ("optimizers", "optimizer_cls_and_kwargs") if n in options}
    return MetroTrainer(
        model,
        arguments(folder, per_device_train_batch_size=4, max_steps=2, **options),
        train_dataset=Rows(),
        data_collator=MetroCollator(),
        **given,
    )


def apart(model: Any) -> float:
    return float((model.main.shared.weight - model.auxiliary.shared.weight).detach().abs().max())


@pytest.mark.parametrize("given", ["ours", "optimizer", "class", "adafactor", "attached"])
def test_the_main_table_follows_every_optimizer_exactly_once(given: str, tmp_path: Path) -> None:
    """Without a loss of its own the main table must stay equal to the auxiliary one."""
    model = metro_model(**ALONE)
    start = model.main.shared.weight.detach().clone()
    options: dict[str, Any] = {"learning_rate": 1e-2}
    if given in ("optimizer", "attached"):
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.5)
        options["optimizers"] = (optimizer, None)
        if given == "attached":
            follow_auxiliary(model, optimizer)
    elif given == "class":
        options["optimizer_cls_and_kwargs"] = (torch.optim.SGD, {"lr": 1e-2})
    elif given == "adafactor":
        options["optim"] = "adafactor"
    run = trainer(tmp_path, model, **options)
    for _ in range(2):  # the second run uses the optimizer of the first
        run.train()
        assert float((model.main.shared.weight.detach() - start).abs().max()) > 1e-3
        assert apart(model) == 0.0


def test_wrong_uses_are_refused() -> None:
    token = metro_model(embedding_sharing="token")
    with pytest.raises(MetroFastError, match="embedding_sharing is 'token', expected 'disent"):
        follow_auxiliary(token, torch.optim.SGD(token.parameters(), lr=0.1))
    model = metro_model(**ALONE)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    handles = follow_auxiliary(model, optimizer)
    with pytest.raises(MetroFastError, match="follows this optimizer already"):
        follow_auxiliary(model, optimizer)
    for handle in handles:
        handle.remove()
    follow_auxiliary(model, optimizer)
    model.resize_token_embeddings(128)
    with pytest.raises(MetroFastError, match=r"does not update main\.shared\.weight"):
        follow_auxiliary(model, torch.optim.SGD(metro_model().parameters(), lr=0.1))


def test_weights_are_taken_whole_or_not_at_all(tmp_path: Path) -> None:
    model = metro_model()
    with pytest.raises(MetroFastError, match=r"rtd_weight is -1\.0"):
        trainer(tmp_path, model, mlm_weight=3.0, rtd_weight=-1.0)
    assert (model.config.mlm_weight, model.config.rtd_weight) == (1.0, 50.0)


def test_a_model_in_fp16_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MetroFastError, match=r"auxiliary\.shared\.weight is torch.float16"):
        trainer(tmp_path, metro_model().half())
    trainer(tmp_path, metro_model().bfloat16()).train()
