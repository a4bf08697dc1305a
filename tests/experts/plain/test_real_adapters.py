"""Adapters that others have trained at each door: the first table of docs/adapter-types.md."""

from pathlib import Path

import pytest

import real_adapter_doors
from shared_files import real_adapters

PAGE = (Path(__file__).parents[3] / "docs" / "adapter-types.md").read_text("utf-8")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # erased modules at these densities, and PEFT's own
@pytest.mark.parametrize(("path", "kind"), real_adapters(*real_adapter_doors.ROWS.items()))
def test_the_page_says_what_each_door_does(path: Path, kind: str | None, tmp_path: Path) -> None:
    row = real_adapter_doors.real_line(path, tmp_path, kind)
    assert row in PAGE.splitlines(), (
        f"{row}: run python tests/support/real_adapter_doors.py --write docs/adapter-types.md"
    )


def test_the_page_has_every_adapter() -> None:
    table = PAGE.split(real_adapter_doors.BEGIN)[1].split(real_adapter_doors.END)[0]
    rows = [row.split("`")[1] for row in table.splitlines()[2:]]
    assert rows == list(real_adapter_doors.ROWS)
