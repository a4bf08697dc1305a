"""Compress a PEFT adapter at several densities, and keep the smallest one that is good enough.

python examples/compress_adapter.py [ADAPTER_FOLDER]

Without a folder it makes an adapter with random factors, in place of a trained one.
"""

import sys
from pathlib import Path

from peft import LoraConfig, get_peft_model
from transformers import T5Config, T5ForConditionalGeneration, set_seed

from metro_fast import experts


def make_adapter(folder: Path) -> None:
    """Save a LoRA adapter with random factors."""
    set_seed(0)
    config = T5Config(vocab_size=500, d_model=128, d_kv=32, d_ff=256, num_layers=2, num_heads=4)
    lora = LoraConfig(r=8, target_modules=["q", "v"], init_lora_weights=False)
    get_peft_model(T5ForConditionalGeneration(config), lora).save_pretrained(folder)


def main(folder: Path) -> None:
    """Print bytes and fidelity by density, and save one expert."""
    if not folder.exists():
        make_adapter(folder)
    plain = sum(path.stat().st_size for path in folder.glob("adapter_model.*"))
    print(f"{folder}: {plain:,} bytes")
    for density in (0.05, 0.1, 0.2, 0.5):
        expert = experts.compress(folder, density=density)
        cosines = sorted(row.cosine for row in experts.fidelity(folder, expert))
        print(
            f"density {density:4.0%}: {expert.nbytes:7,} bytes, {plain / expert.nbytes:5.1f} times "
            f"smaller, {expert.bits_per_parameter:.2f} bits per parameter, cosine of the modules "
            f"{cosines[0]:.2f} to {cosines[-1]:.2f}"
        )
        # A cosine cannot replace a score: rate the loaded expert on your task here.
        if cosines[len(cosines) // 2] > 0.4:
            break
    output = folder.with_name(f"{folder.name}-small")
    expert.save(output)
    assert experts.Expert.load(output).nbytes == expert.nbytes
    print(f"saved {output}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "adapter"))
