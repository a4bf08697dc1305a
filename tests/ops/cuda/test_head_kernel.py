"""The Triton head: in Triton's interpreter it equals the CPU, and it compiles for GPUs."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from head_cases import CASES, inputs
from metro_fast.ops.torch import linear_cross_entropy_sample

SCRIPT = Path(__file__).resolve().parents[2] / "support/run_head_kernel.py"


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("head") / "found.pt"
    subprocess.run([sys.executable, SCRIPT, out], check=True, timeout=250)
    found: dict[str, Any] = torch.load(out)
    return found


@pytest.mark.parametrize("case", CASES)
def test_the_interpreted_kernel_equals_the_cpu(interpreted: dict[str, Any], case: str) -> None:
    tensors, options = inputs(case)
    greatest, mass, target, total, best, drawn = interpreted["cases"][case]
    expected = linear_cross_entropy_sample(*tensors, **options)
    logsumexp = greatest.double() + (mass.double() / 2.0**40).log()
    torch.testing.assert_close(logsumexp.float(), expected.logsumexp, rtol=1e-6, atol=1e-6)
    loss = (logsumexp - target).float()
    torch.testing.assert_close(loss, expected.loss, rtol=1e-6, atol=2e-6)
    assert torch.equal(best == tensors[2], expected.correct)
    if expected.sampled is None:
        assert set(drawn.tolist()) == {-1}
    else:
        assert torch.equal(drawn, expected.sampled)
    smoothed = linear_cross_entropy_sample(
        *tensors, label_smoothing=0.5, bias=options["bias"], softcap=options["softcap"]
    )
    share = 0.5 / 699
    again = logsumexp - (0.5 - share) * target - share * total
    torch.testing.assert_close(again.float(), smoothed.loss, rtol=1e-6, atol=1e-5)


def test_rows_from_which_nothing_is_drawn_are_named(interpreted: dict[str, Any]) -> None:
    first, second, third = interpreted["errors"]
    assert "NaN or inf at row 4" in first
    assert "NaN or inf at row 0" in second
    assert "nothing but -inf at row 0" in third


@pytest.mark.slow  # Triton and ptxas take 20 s
@pytest.mark.parametrize("capability", [80, 90])
def test_it_compiles(capability: int) -> None:
    from triton import compiler
    from triton.backends.compiler import GPUTarget

    from metro_fast.ops.cuda.head_kernel import _sweep

    constants = {
        "ROWS": 64, "BLOCK": 256, "INNER": 32, "BIAS": True, "SOFTCAP": False, "DRAWS": True,
        "NEVER": True, "EXCLUDE": True, "SAME_SCALE": False,
    }  # fmt: skip
    types = dict.fromkeys(("hidden", "weight", "bias"), "*bf16")
    types |= dict.fromkeys(("greatest_out", "target_out"), "*fp32")
    types |= dict.fromkeys(("rows", "width", "vocabulary"), "i32")
    types |= dict.fromkeys(("softcap", "scale_one", "scale_draw"), "fp32")
    types |= {"never": "*i8", "total_out": "*fp64"}
    signature = {
        name: "constexpr" if name in constants else types.get(name, "*i64")
        for name in _sweep.arg_names
    }
    source = compiler.ASTSource(fn=_sweep, signature=signature, constexprs=constants)
    built = compiler.compile(
        source,
        target=GPUTarget("cuda", capability, 32),
        options={"num_warps": 8, "enable_fp_fusion": False},
    )
    assert built.asm["cubin"]
