"""`make gpu`'s script on the CPU with small sizes: its checks, its timings, its report."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

BENCHES = Path(__file__).resolve().parents[3] / "benches" / "gpu"

import checks
import metro_step
import report
import timings
from clock import interleaved, median_of

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", checks.CHECKS)
def test_the_checks_pass_on_the_cpu(name: str):
    found = checks.CHECKS[name](CPU, 11)
    assert found > 0 or name in ("packed LoRA", "graphs")


def test_a_check_fails_where_something_is_wrong(monkeypatch):
    right = checks.registered.unpack_out

    def wrong(packed, scale, out):
        right(packed, scale, out)
        out[-1] = 5

    monkeypatch.setattr(checks.registered, "unpack_out", wrong)
    with pytest.raises(AssertionError):
        checks.decoding(CPU, 11)


@pytest.mark.filterwarnings("ignore:the update of:UserWarning")
def test_the_promised_names_are_reported():
    found = [one for timing in timings.TIMINGS.values() for one in timing(CPU, timings.SMALL, 1e10)]
    found += metro_step.split(CPU, metro_step.SMALL)
    names = {one.name for one in found}
    promised = {"t4_decode_100m_5pct", "bms_decode_100m_5pct", "sample_logits_32k"}
    assert names >= promised | {"swap_100m_from_host", "swap_100m_from_device", "metro_step"}
    assert len(names) == len(found)
    for one in found:
        assert one.time_us > 0
        assert one.peer_ratio is None or one.peer_ratio > 0
        assert (one.peer == "") == (one.peer_ratio is None)


def test_the_report(tmp_path: Path):
    measurements = [
        report.result("a", 1e-3, peer="copy", theirs=2e-3, floor=5e-4),
        report.result("longer", 2.5e-6),
    ]
    assert (measurements[0].time_us, measurements[0].peer_ratio, measurements[0].floor_share) == (
        1000.0,
        2.0,
        0.5,
    )
    lines = report.table(measurements).splitlines()
    assert lines[1].split() == ["a", "1,000.0", "us", "copy", "2.00x", "50", "%"]
    assert lines[2].split() == ["longer", "2.5", "us", "-", "-", "-"]
    path = report.write(tmp_path, "NVIDIA H100 80GB HBM3", "2026-01-02", measurements, {"seed": 1})
    assert path.name == "gpu-nvidia-h100-80gb-hbm3-2026-01-02.json"
    content = json.loads(path.read_text())
    assert content["device"] == "NVIDIA H100 80GB HBM3"
    assert content["results"][0] == {
        "name": "a",
        "time_us": 1000.0,
        "peer": "copy",
        "peer_ratio": 2.0,
        "floor_share": 0.5,
    }


def test_clocks_take_turns():
    seen: list[str] = []
    works = {name: (lambda name=name: seen.append(name)) for name in "ab"}
    times = interleaved(works, CPU, rounds=3)
    assert set(times) == {"a", "b"}
    assert "".join(seen).count("ab") == 3  # three turns of both
    assert median_of(lambda: None, CPU, rounds=3) >= 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_one_line_says_so():
    command = [sys.executable, str(BENCHES / "run.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "gpu: torch sees no CUDA device here: nothing was run\n"
