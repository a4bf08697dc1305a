"""The types that mypy reveals: arrays in, arrays out; tensors in, tensors out."""

import re
from pathlib import Path

import pytest

ARRAY, TENSOR = "ndarray", "Tensor"
PRELUDE = """
from collections.abc import Iterator
import numpy as np
import numpy.typing as npt
import torch
from metro_fast import data, experts, ops, prompts, robustness, scoring
a: npt.NDArray[np.int64]
f: npt.NDArray[np.float32]
class Net(torch.nn.Module): ...
net: Net
t: torch.Tensor
"""
# A user's settings, not the project's: PEFT is followed; transformers takes a minute and is not.
CONFIG = """
[mypy]
mypy_path = {path}
ignore_missing_imports = True
follow_imports = silent
[mypy-transformers.*]
follow_imports = skip
"""
CASES = [
    # ops: each with an array and with a tensor
    ("ops.corrupt_spans(a)", f"SpanBatch[{ARRAY}]"),
    ("ops.corrupt_spans(t)", f"SpanBatch[{TENSOR}]"),
    ("ops.corrupt_spans(a).input_ids", ARRAY),
    ("ops.corrupt_spans(t, seed=1).input_ids", TENSOR),
    ("ops.corrupt_spans(a, attention_mask=True).attention_mask", f"{ARRAY} | None"),
    ("ops.mask_tokens(a, mask_token_id=3, vocab_size=9)", f"MaskBatch[{ARRAY}]"),
    ("ops.mask_tokens(t, mask_token_id=3, vocab_size=9).masked_positions", TENSOR),
    ("ops.replaced_token_labels(a, a, a)", f"ReplacedBatch[{ARRAY}]"),
    ("ops.replaced_token_labels(t, t, t).labels", TENSOR),
    ("ops.sample_replacements(f)", ARRAY),
    ("ops.sample_replacements(t)", TENSOR),
    ("ops.ternarize(f, density=0.1)", f"Ternary[{ARRAY}]"),
    ("ops.ternarize(t, density=0.1).trits", TENSOR),
    ("ops.ternarize(t, density=0.1).scale", "float"),
    ("ops.pack(a)", ARRAY),
    ("ops.pack(t)", TENSOR),
    ("ops.unpack(a, 3)", ARRAY),
    ("ops.unpack(t, 3)", TENSOR),
    ("ops.unpack(a, 3, dtype=torch.bfloat16)", TENSOR),
    ("ops.unpack(a, 3, dtype='float16')", ARRAY),
    ("ops.unpack(a, 3, out=t)", TENSOR),
    ("ops.compute_input_and_target_lengths(512)", "tuple[int, int]"),
    ("ops.ul2_denoisers()", "tuple[Denoiser, ...]"),
    ("ops.SpanLengths.poisson(3.0)", "SpanLengths"),
    # data
    ("data.DataCollatorForSpanCorruption()([])", f"dict[str, {TENSOR}]"),
    ("data.DataCollatorForUL2()([])", f"dict[str, {TENSOR}]"),
    ("data.DataCollatorForMetro()([])", f"dict[str, {TENSOR}]"),
    ("data.span_vocabulary()", "Vocabulary"),
    ("data.TokenCorpus('x')[0]", "dict[str, Any]"),
    ("data.EpochCell().get()", "int"),
    # experts
    ("experts.compress('x')", "Expert"),
    ("experts.Expert.load('x').arrays()", f"dict[str, {ARRAY}]"),
    ("experts.Expert.load('x').state_dict()", f"dict[str, {TENSOR}]"),
    ("experts.load_expert(net, 'x')", "Net | PeftModel"),
    ("experts.merge(['x'])", "TaskVector"),
    ("experts.similarity(['x'])", "Similarity"),
    ("experts.ExpertPool(net)", "ExpertPool"),
    ("experts.export({'a': 'x'}, 'y')", "list[Path]"),
    # evaluation
    ("prompts.InstructionSet.load('x')", "InstructionSet"),
    ("prompts.InstructionSet.load('x')[0].render(prompts.Item('1', {})).answer", "int | None"),
    ("prompts.read_mmlu('x').task", "Task"),
    ("prompts.import_flan('x').report.by_reason", "dict[str, int]"),
    ("robustness.Report.load('x')", "Report"),
    ("robustness.Report.load('x').summary('y').mean", "float"),
    ("robustness.Report.load('x').cells[0].outcomes[0].scores", "tuple[float, ...] | None"),
    ("robustness.load_reports('x')", "list[Report]"),
    ("robustness.write_samples(robustness.Report.load('x'), 'y')", "list[Path]"),
    ("scoring.accuracy([0], [0])", "float"),
]


@pytest.fixture(scope="module")
def revealed(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The types of all expressions, from one run of mypy; without modules and array parameters."""
    api = pytest.importorskip("mypy.api")
    root = Path(__file__).resolve().parents[2]
    snippet = tmp_path_factory.mktemp("types") / "snippet.py"
    lines = [f"reveal_type({expression})" for expression, _ in CASES]
    snippet.write_text(PRELUDE + "\n".join(lines))
    config = snippet.with_name("mypy.ini")
    config.write_text(CONFIG.format(path=root / "python"))
    out, errors, _ = api.run(["--config-file", str(config), str(snippet)])
    types = re.findall(r'Revealed type is "(.*)"', out)
    assert len(types) == len(CASES), out + errors
    return [_shorten(kind) for kind in types]


def _shorten(kind: str) -> str:
    kind = re.sub(r"(\w+\.)+(?=\w)", "", kind)
    kind = kind.rpartition(", fallback=")[2].removesuffix("]") if "fallback=" in kind else kind
    return re.sub(r"ndarray\[(?:[^\[\]]|\[(?:[^\[\]]|\[[^\[\]]*\])*\])*\]", "ndarray", kind)


@pytest.mark.slow  # mypy reads the types of torch and PEFT once, 5 to 14 s
@pytest.mark.parametrize("place", range(len(CASES)), ids=[expression for expression, _ in CASES])
def test_the_type_is_revealed(revealed: list[str], place: int) -> None:
    assert revealed[place] == CASES[place][1]
