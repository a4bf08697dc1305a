"""The page of the curves, read a second time: its points are those of the files."""

import json
import math
import re
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from metro_fast.errors import FormatError, MetroFastError, MissingExtraError
from metro_fast.metro import draw_curves

NAMES = ("mlm_loss", "lm_loss", "rtd_loss", "loss", "aux_accuracy", "rtd_auc", "rtd_recall")
NAMES += ("replace_ratio", "learning_rate", "rtd_decoder_loss")


def write_run(folder: Path, seed: int, steps: int = 40) -> Path:
    """A run whose figures move like waves, with an evaluation every twenty steps."""
    folder.mkdir(parents=True)
    lines: list[dict[str, Any]] = []
    for step in range(5, steps + 1, 5):
        figures = {
            name: abs(math.sin(seed + i + step / 9)) * 10 ** (i % 3 - 1)
            for i, name in enumerate(NAMES)
        }
        lines.append({**figures, "epoch": step / 7, "step": step})
        if step % 20 == 0:
            lines.append({f"eval_{n}": v * 1.1 for n, v in figures.items()} | {"step": step})
    lines.append({"train_loss": 3.0, "train_runtime": 9.0, "step": steps})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text)
    return folder


def expected_points(folder: Path, name: str) -> list[tuple[int, float]]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [(line["step"], line[name]) for line in lines if name in line]


class Page(HTMLParser):
    """Every tag of a page with its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))


def drawn(html: str) -> dict[tuple[str, str, str], list[tuple[float, float]]]:
    """(figure, run, kind) -> the points of the page, in steps and units of the figure."""
    found: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for svg in re.findall(r'<svg class="chart".*?</figure>', html, re.S):
        tree = ET.fromstring(svg.removesuffix("</figure>"))
        inner = next(part for part in tree.iter("svg") if "data-figure" in part.attrib)
        x0, x1, y0, y1 = map(float, inner.attrib["data-limits"].split())
        height = float(inner.attrib["height"])
        for line in tree.iter("polyline"):
            places = [tuple(map(float, p.split(","))) for p in line.attrib["points"].split()]
            key = (inner.attrib["data-figure"], line.attrib["data-run"], "training")
            found[key] = [(x0 + x * (x1 - x0), y1 - y * (y1 - y0)) for x, y in places]
        for circle in tree.iter("circle"):
            x, y = float(circle.attrib["cx"].rstrip("%")) / 100, float(circle.attrib["cy"]) / height
            key = (inner.attrib["data-figure"], circle.attrib["data-run"], "evaluation")
            found.setdefault(key, []).append((x0 + x * (x1 - x0), y1 - y * (y1 - y0)))
    return found


def test_the_points_of_the_page_are_those_of_the_files(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "one <&>", 0), write_run(tmp_path / "two", 1, steps=60)]
    html = draw_curves(runs, tmp_path / "curves.html").read_text()
    points = drawn(html)
    assert len(points) == len(NAMES) * 2 * 2
    for (name, run, kind), found in points.items():
        prefix = "eval_" if kind == "evaluation" else ""
        expected = expected_points(tmp_path / run, prefix + name)
        assert len(found) == len(expected)
        reach = max(value for _, value in expected)
        for (x, y), (step, value) in zip(found, expected, strict=True):
            assert x == pytest.approx(step, abs=0.01)
            assert y == pytest.approx(value, abs=reach / 1000)


def test_the_page_loads_nothing_and_its_legend_and_table_name_the_runs(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "a", 0), write_run(tmp_path / "b", 1)]
    html = draw_curves(runs, tmp_path / "curves.html").read_text()
    tags = Page(html).tags
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in tags}
    assert not [a for _, attributes in tags for a in ("src", "href") if a in attributes]
    strokes = {a["data-run"]: a["stroke"] for tag, a in tags if tag == "polyline"}
    assert len(set(strokes.values())) == 2
    legend = re.search(r'<p class="legend">.*?</p>', html, re.S)
    assert legend is not None
    for name, stroke in strokes.items():
        assert re.search(rf'stroke="{stroke}".*?</svg>{name}</span>', legend[0])
    nats = expected_points(tmp_path / "a", "mlm_loss")[-1][1]
    assert f"<td>{nats:.4g} ({nats / math.log(2):.4g})</td>" in html
    assert "bits</text>" in html


def test_bits_are_at_the_height_of_their_nats(tmp_path: Path) -> None:
    html = draw_curves([write_run(tmp_path / "a", 0)], tmp_path / "curves.html").read_text()
    chart = next(part for part in html.split("<figure") if 'data-figure="lm_loss"' in part)
    nats = re.findall(r'<text class="tick" x="0" dx="-8" y="([\d.]+)"[^>]*>([\d.]+)<', chart)
    bits = re.findall(r'<text class="tick" x="100%" dx="8" y="([\d.]+)">([\d.]+)', chart)
    (ya, a), (yb, b) = (map(float, pair) for pair in (nats[0], nats[-1]))
    for y, value in bits:
        at = a + (float(y) - ya) * (b - a) / (yb - ya)
        assert float(value) * math.log(2) == pytest.approx(at, abs=0.01 * abs(a - b))
    assert len(bits) >= 2


def test_runs_of_one_name_are_told_apart_by_their_paths(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / part / "run", i) for i, part in enumerate("ab")]
    html = draw_curves(runs, tmp_path / "curves.html").read_text()
    assert {run for _, run, _ in drawn(html)} == {"a/run", "b/run"}
    with pytest.raises(MetroFastError, match="is given twice"):
        draw_curves([runs[0], tmp_path / "b" / ".." / "a" / "run"], tmp_path / "curves.html")


def test_what_is_not_finite_is_counted_and_not_drawn(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", 0)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"loss": NaN, "mlm_loss": Infinity, "step": 45}\n')
    html = draw_curves([folder], tmp_path / "curves.html").read_text()
    assert "Values that are not finite are not drawn: a 2." in html
    assert len(drawn(html)["loss", "a", "training"]) == 8


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (None, FileNotFoundError, r"has neither metrics\.jsonl nor trainer_state\.json: give"),
        ("", MetroFastError, "has no loss yet"),
        ('{"step": 1, "loss": 2.0}\n{"step": 2, "lo', FormatError, "line 2 of .* is damaged"),
        ('{"loss": 2.0}\n', FormatError, "line 1 of .* an integer `step`"),
        ("[1]\n", FormatError, "line 1 of .* an integer `step`"),
        (b"\xff\n", FormatError, "line 1 of .* is damaged"),
    ],
)
def test_other_folders_and_damaged_files_are_refused(
    tmp_path: Path, content: str | bytes | None, error: type[Exception], message: str
) -> None:
    if content is not None:
        data = content if isinstance(content, bytes) else content.encode()
        (tmp_path / "metrics.jsonl").write_bytes(data)
    with pytest.raises(error, match=message):
        draw_curves([tmp_path], tmp_path / "curves.html")
    assert not (tmp_path / "curves.html").exists()
    with pytest.raises(MetroFastError, match="no run to draw"):
        draw_curves([], tmp_path / "curves.html")


def test_a_png_without_matplotlib_is_refused_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    page = tmp_path / "curves.html"
    with pytest.raises(MissingExtraError, match=r"pip install 'metro_fast\[plot\]'"):
        draw_curves([write_run(tmp_path / "a", 0)], page, png=tmp_path / "curves.png")
    assert not page.exists()


def test_the_png_has_the_lines_of_each_run(tmp_path: Path) -> None:
    image = pytest.importorskip("matplotlib.image")
    runs = [write_run(tmp_path / "a", 0), write_run(tmp_path / "b", 1)]
    draw_curves(runs, tmp_path / "curves.html", png=tmp_path / "curves.png")
    pixels = (image.imread(tmp_path / "curves.png")[:, :, :3] * 255).round().astype(int)
    for color in ((0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)):
        assert (abs(pixels - color).max(-1) == 0).sum() > 500


def test_a_checkpoint_of_any_trainer_is_a_run_too(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", 0)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    pages = [draw_curves([folder], tmp_path / "curves.html").read_text()]
    (folder / "metrics.jsonl").unlink()
    state = folder / "trainer_state.json"
    state.write_text(json.dumps({"log_history": lines, "epoch": 1.0}))
    pages.append(draw_curves([folder], tmp_path / "curves.html").read_text())
    assert pages[0] == pages[1]
    for damaged in ("{", "{}", '{"log_history": 3}'):
        state.write_text(damaged)
        with pytest.raises(FormatError, match=r"trainer_state\.json is damaged"):
            draw_curves([folder], tmp_path / "curves.html")
    state.write_text('{"log_history": [{"loss": 1.0}]}')
    with pytest.raises(FormatError, match=r"line 1 of .* an integer `step`"):
        draw_curves([folder], tmp_path / "curves.html")
