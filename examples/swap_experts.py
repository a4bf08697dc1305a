"""Serve requests for different experts from one model: `ExpertPool` swaps them in place.

python examples/swap_experts.py
"""

from concurrent.futures import ThreadPoolExecutor

import torch
from peft import LoraConfig, get_peft_model
from transformers import T5Config, T5ForConditionalGeneration, set_seed

from metro_fast.experts import ExpertPool, compress

CONFIG = T5Config(
    vocab_size=500,
    d_model=128,
    d_kv=32,
    d_ff=256,
    num_layers=2,
    num_heads=4,
    decoder_start_token_id=0,
)


def base() -> T5ForConditionalGeneration:
    """The model that all experts were trained on."""
    set_seed(0)
    return T5ForConditionalGeneration(CONFIG).eval()


def main() -> None:
    """Answer twelve requests for three experts from two threads."""
    for number, name in enumerate(("math", "code", "law")):
        model = base()
        set_seed(number + 1)  # random factors in place of training
        lora = LoraConfig(r=8, target_modules=["q", "v"], init_lora_weights=False)
        compress(get_peft_model(model, lora), density=0.1).save(f"experts/{name}")

    pool = ExpertPool(base(), max_bytes=10_000_000)
    for name in ("math", "code", "law"):
        pool.add(name, f"experts/{name}")

    ids = torch.arange(5, 21)[None]

    def answer(name: str) -> tuple[str, float]:
        # Requests for the same expert run together; one for another expert waits for its turn.
        with pool.use(name) as model, torch.no_grad():
            return name, float(model(input_ids=ids, labels=ids).loss)

    with ThreadPoolExecutor(2) as threads:
        answers = list(threads.map(answer, ["math", "code", "law"] * 4))
    for name, loss in sorted(set(answers)):
        print(f"{name}: loss {loss:.4f}")
    assert len(set(answers)) == 3  # each expert gave the same loss every time
    print(f"{pool.nbytes:,} bytes of experts in memory, {pool.resident!r} in the model")


if __name__ == "__main__":
    main()
