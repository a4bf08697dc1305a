"""Pages of experts: well formed, offline, and with the numbers that they were made from."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from metro_fast import MetroFastError
from metro_fast.experts import Expert, compress, similarity, tune_compression
from metro_fast.experts.pictures import expert_page, similarity_page, tuning_page
from metro_fast.experts.pictures.byte_shares import byte_shares
from metro_fast.experts.pictures.heat_map import heat_map
from metro_fast.experts.pictures.places import places_of

RNG = np.random.default_rng(5)
VOID = {"meta", "br", "link"}


class Page(HTMLParser):
    """Checks that elements are closed in order, and keeps the titles of shapes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.titles: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            # Nothing is fetched, nothing runs.
            assert name not in {"src", "href", "onclick"}
            assert "://" not in (value or "")
        assert tag != "script"

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "title" and "svg" in self.open:
            self.titles.append(data)


def lora(layers: int = 3, names: tuple[str, ...] = ("q", "v")) -> dict[str, np.ndarray]:
    state = {}
    for i in range(layers):
        for name in names:
            for factor, shape in (("A", (4, 40)), ("B", (40, 4))):
                key = f"base_model.model.layers.{i}.{name}.lora_{factor}.weight"
                state[key] = (1 + i / 4) * RNG.standard_normal(shape).astype(np.float32)
    return state


def test_the_page_of_an_expert_shows_every_tensor() -> None:
    state = lora()
    state["base_model.model.score.weight"] = RNG.standard_normal((2, 40)).astype(np.float32)
    expert = compress(state, density=0.2)
    page = Page(expert_page(expert, "<b>bold & brave</b>"))
    html = expert_page(expert, "<b>bold & brave</b>")
    assert "&lt;b&gt;bold &amp; brave&lt;/b&gt;" in html
    for row in expert.describe():
        if row["group"] == "dense":
            continue
        (place,) = places_of([row["tensor"]]).values()
        assert f"{', '.join(place)}: {100 * row['density']:.2f} %" in page.titles
        assert f"{', '.join(place)}: {row['scale']:.4g}" in page.titles
    shares = byte_shares(expert)
    assert sum(shares.values()) == expert.nbytes
    assert shares["dense tensors"] == 2 * 40 * 4
    for name, nbytes in shares.items():
        assert f"{name}: {nbytes:,} bytes" in html


def test_an_expert_that_kept_nothing_and_one_of_odd_names() -> None:
    with pytest.warns(UserWarning, match="group other is erased"):
        expert = compress({"w": np.ones(8, np.float32)}, kind="other", density=0.05)
    html = expert_page(expert, "empty")
    Page(html)
    assert "1 of 1 tensors have only zeros left" in html
    names = {f"x{i}<&>\"'": RNG.standard_normal(64).astype(np.float32) for i in range(50)}
    Page(expert_page(compress(names, kind="other"), "odd"))


def test_places_are_never_shared() -> None:
    names = [f"a.{i}.b.{j}.c.lora_{f}.weight" for i in range(3) for j in range(3) for f in "AB"]
    assert len(set(places_of(names).values())) == len(names)
    assert len(set(places_of(["w", "v", "w.1", "w.2"]).values())) == 4
    # The number of a factor's own folder does not make a layer.
    t5 = "base_model.model.encoder.block.11.layer.1.DenseReluDense.wi_0.lora_B.weight"
    assert places_of([t5])[t5] == ("encoder.block.11", "DenseReluDense.wi_0 B")


def test_the_map_of_alike_experts_puts_them_together() -> None:
    base = [RNG.standard_normal(512).astype(np.float32) for _ in range(2)]
    by_name = {}
    for i in range(6):
        noise = 0.2 * RNG.standard_normal(512).astype(np.float32)
        by_name[f"e{i}"] = compress({"w": base[i % 2] + noise}, kind="other", density=0.3)
    found = similarity(by_name)
    html = similarity_page(found.names, found.matrix)
    page = Page(html)
    assert len(page.titles) == 36
    for i, one in enumerate(found.names):
        for j, two in enumerate(found.names):
            assert f"{one}, {two}: {found.matrix[i, j]:.3f}" in page.titles
    order = list(dict.fromkeys(title.split(",")[0] for title in page.titles))
    assert {int(name[1]) % 2 for name in order[:3]} in ({0}, {1})
    closest = found.pairs(-1)[0]
    assert f"The closest pair is {closest[0]} and {closest[1]}" in html
    Page(similarity_page(["alone"], np.ones((1, 1))))


@pytest.mark.parametrize(
    ("names", "matrix", "message"),
    [
        (["a"], np.eye(2), "1 names for a matrix of shape"),
        ([], np.eye(0), "0 names"),
        (["a", "b"], np.array([[1.0, 0.2], [0.3, 1.0]]), "not symmetric"),
        (["a", "b"], np.array([[1.0, 2.0], [2.0, 1.0]]), "from -1 to 1"),
        (["a", "b"], np.array([[1.0, np.nan], [np.nan, 1.0]]), "from -1 to 1"),
    ],
)
def test_a_matrix_that_does_not_hold_cosines(
    names: list[str], matrix: np.ndarray, message: str
) -> None:
    with pytest.raises(MetroFastError, match=message):
        similarity_page(names, matrix)


def test_the_page_of_a_grid_shows_every_candidate_once_per_picture() -> None:
    weights = {"w": RNG.standard_normal(4096).astype(np.float32)}
    scores = iter(range(100))
    found = tune_compression(
        weights,
        lambda expert: expert,
        lambda expert: float(next(scores)),
        kind="other",
        densities=(0.1, 0.5),
        alphas=(1, "least_squares"),
    )
    html = tuning_page(found)
    page = Page(html)
    for row in found.rows:
        alpha = "least squares" if isinstance(row.alpha, str) else f"{row.alpha:g}"
        start = f"density {100 * row.density:.3g} %, alpha {alpha}: {row.nbytes:,} bytes, "
        assert sum(title.startswith(start) for title in page.titles) == 1
    assert "Chosen: density 10 %, alpha 1" in html
    assert "it was not scored" in html
    # Equal scores, one candidate: nothing to scale axes by.
    flat = tune_compression(
        weights, lambda e: e, lambda e: 1.0, kind="other", densities=(0.1,), alphas=(1,)
    )
    Page(tuning_page(flat))


def test_colors_go_from_pale_to_full() -> None:
    picture = heat_map(["r"], ["a", "b", "c"], [[0.0, 1.0, -1.0]], description="", form=str)
    fills = re.findall(r'fill="(#\w{6})"', picture)
    assert fills[0] == "#f3f6f9"
    assert fills[1] == "#15508f"
    assert fills[2] == "#b5480f"


def test_pages_from_the_command_line(tmp_path: Path) -> None:
    from metro_fast.cli.expert_inspect import app as inspect_app
    from metro_fast.cli.expert_similarity import app as similarity_app

    for name in "ab":
        compress(lora(1), density=0.3).save(tmp_path / name)
    html = tmp_path / "new" / "page.html"
    done = CliRunner().invoke(inspect_app, [str(tmp_path / "a"), "--html", str(html)])
    assert done.exit_code == 0, done.output
    assert "checks: head" in done.output
    expert = Expert.load(tmp_path / "a")
    assert html.read_text("utf-8") == expert_page(expert, str(tmp_path / "a"))
    done = CliRunner().invoke(inspect_app, [str(tmp_path / "a"), "--no-verify"])
    assert done.exit_code == 0, done.output
    assert "checks:" not in done.output
    both = [str(tmp_path / name) for name in "ab"]
    done = CliRunner().invoke(similarity_app, [*both, "--html", str(html)])
    assert done.exit_code == 0, done.output
    found = similarity(both)
    assert found.names == ("a", "b")
    assert html.read_text("utf-8") == similarity_page(found.names, found.matrix)
