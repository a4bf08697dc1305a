"""The parts of a METRO step: the auxiliary model, the sampling, the main model."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from clock import interleaved
from report import Result, result

from metro_fast import ops
from metro_fast.metro import MetroConfig, MetroForPretraining
from metro_fast.ops import torch as registered


@dataclass(frozen=True)
class Step:
    """A model and a batch.

    Attributes:
        vocabulary: Tokens.
        width: The model's width.
        layers: Of encoder and decoder.
        rows: The number of rows of the batch.
        length: The length of a row.
    """

    vocabulary: int
    width: int
    layers: int
    rows: int
    length: int


FULL = Step(vocabulary=32_128, width=768, layers=12, rows=32, length=512)
SMALL = Step(vocabulary=100, width=32, layers=1, rows=2, length=24)


def split(device: torch.device, step: Step) -> Iterator[Result]:
    """Forward and backward of a whole step and of each model alone, and the draw of the tokens.

    The main model alone has no detection head; the step draws on the CPU, the part on the device.
    """
    torch.manual_seed(0)
    main = {
        "vocab_size": step.vocabulary,
        "d_model": step.width,
        "d_kv": max(8, step.width // 12),
        "d_ff": 4 * step.width,
        "num_layers": step.layers,
        "num_decoder_layers": step.layers,
        "num_heads": 12 if step.width > 64 else 4,
        "decoder_start_token_id": 0,
    }
    config = MetroConfig(main=main, auxiliary={"num_layers": max(1, step.layers // 3)})
    model = MetroForPretraining(config).to(device).train()
    ids = torch.randint(4, step.vocabulary, (step.rows, step.length))
    masks = ops.mask_tokens(ids, mask_token_id=3, vocab_size=step.vocabulary, seed=0)
    batch = {
        "input_ids": masks.input_ids.to(device),
        "attention_mask": torch.ones_like(ids).to(device),
        "labels": ids.to(device),
        "masked_positions": masks.masked_positions.to(device),
        "sample_ids": torch.arange(step.rows, device=device),
        "epoch": 0,
    }
    positions = batch["masked_positions"]

    def whole() -> None:
        model.zero_grad()
        with torch.autocast(device.type, torch.bfloat16):
            out = model(**batch)
        (out.mlm.sum + out.lm.sum + out.rtd.sum).backward()

    def auxiliary() -> torch.Tensor:
        model.zero_grad()
        with torch.autocast(device.type, torch.bfloat16):
            hidden = model.auxiliary(
                input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
            ).last_hidden_state
            rows = hidden.flatten(0, 1)[positions]
            logits = rows @ model.auxiliary.shared.weight.T
        loss = torch.nn.functional.cross_entropy(
            logits.float(), ids.to(device).flatten()[positions]
        )
        loss.backward()
        return logits.detach()

    def main() -> None:
        model.zero_grad()
        with torch.autocast(device.type, torch.bfloat16):
            model.main(
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                labels=batch["labels"],
            ).loss.backward()

    logits = auxiliary().bfloat16()
    pair = torch.tensor([0, 0], device=device)

    def draw() -> torch.Tensor:
        return registered.sample_replacements(logits, pair)

    works = {"whole": whole, "auxiliary": auxiliary, "draw": draw, "main": main}
    times = interleaved(works, device, rounds=9)
    yield result("metro_step", times["whole"])
    for part in ("auxiliary", "draw", "main"):
        yield result(
            f"metro_step_{part}", times[part], peer="the whole step", theirs=times["whole"]
        )
