"""experts.merge of 4 x 16 M parameters to dense, against PEFT's and ComPEFT's on dense tensors.

Run: `pytest benches/bench_merge.py --benchmark-enable`. The peers' tensors are ternary already, as
ours are; ComPEFT's TIES is written from its description, not from anyone's code.
"""

import numpy as np
import pytest

from metro_fast import _core
from metro_fast.experts import compress, merge, similarity
from metro_fast.experts.merging.members import Members

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.usefixtures("one_thread")

COUNT, EXPERTS = 16 << 20, 4
GROUP = "TIES of 4 x 16.8 M to dense, 1 thread"


@pytest.fixture(scope="module")
def experts():
    rng = np.random.default_rng(0)
    state = [rng.standard_normal((4096, COUNT // 4096), np.float32) for _ in range(EXPERTS)]
    return [compress({"w": values}, kind="other", density=0.2) for values in state]


@pytest.fixture(scope="module")
def dense(experts):
    return [torch.from_numpy(expert.arrays()["w"].reshape(-1)) for expert in experts]


@pytest.mark.benchmark(group=GROUP)
@pytest.mark.parametrize("level", ["scalar", "avx2", "avx512"])
def test_ours(benchmark, simd, experts, level):
    simd(level)
    benchmark.pedantic(lambda: merge(experts, method="ties", num_threads=1), rounds=7)


@pytest.mark.benchmark(group=GROUP)
def test_ours_by_compefts_rule(benchmark, experts):
    benchmark.pedantic(
        lambda: merge(experts, method="ties", sign_ties="compeft", num_threads=1), rounds=5
    )


@pytest.mark.benchmark(group=GROUP)
def test_peft_disjoint_merge(benchmark, dense):
    from peft.utils.merge_utils import calculate_majority_sign_mask, disjoint_merge

    def run():
        stacked = torch.stack(dense)
        return disjoint_merge(stacked, calculate_majority_sign_mask(stacked))

    benchmark.pedantic(run, rounds=3)


@pytest.mark.benchmark(group=GROUP)
def test_peft_ties(benchmark, dense):
    """With its trimming, which ternary experts do not need."""
    from peft.utils.merge_utils import ties

    benchmark.pedantic(lambda: ties(dense, torch.ones(EXPERTS), 0.2), rounds=1)


@pytest.mark.benchmark(group=GROUP)
def test_compefts_ties(benchmark, dense):
    def run():
        stacked = torch.stack(dense)
        sign = torch.sign(stacked.sum(0))
        sign[sign == 0] = torch.sign(sign.sum())
        chosen = stacked * torch.where(sign > 0, stacked > 0, stacked < 0)
        return chosen.sum(0) / (chosen != 0).sum(0).clamp(min=1)

    benchmark.pedantic(run, rounds=3)


@pytest.mark.benchmark(group=GROUP)
def test_copy_of_the_output(benchmark):
    source, out = np.ones(COUNT, np.float32), np.zeros(COUNT, np.float32)
    benchmark(np.copyto, out, source)


@pytest.mark.benchmark(group="dot of 2 x 16.8 M, 1 thread")
def test_packed_dot(benchmark, experts):
    members = Members({str(i): expert for i, expert in enumerate(experts[:2])}, 1)
    pieces = np.array([[0, members.count, 0]], np.int64)
    benchmark(lambda: _core.dot_products(members.planes, pieces, 1, members.count, 1))
    benchmark.extra_info["note"] = "three pairs: each with itself too"


@pytest.mark.benchmark(group="dot of 2 x 16.8 M, 1 thread")
def test_torch_dot(benchmark, dense):
    benchmark(torch.dot, dense[0], dense[1])


@pytest.mark.benchmark(group="similarity of 200 experts of 1 M")
def test_similarity(benchmark):
    rng = np.random.default_rng(0)
    pair = [
        compress({"w": rng.standard_normal((1000, 1000), np.float32)}, kind="other", density=0.2)
        for _ in range(20)
    ]
    benchmark.pedantic(lambda: similarity(pair * 10, num_threads=1), rounds=2)
