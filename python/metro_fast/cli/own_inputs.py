"""An output that would replace what the command reads is refused before anything is written."""

from pathlib import Path

from metro_fast._shown import shown
from metro_fast.errors import MetroFastError

__all__ = ["refuse_inputs"]

_MADE = (".html", ".csv", ".png", ".md")
"""Files that may be replaced in the folder of an input: pages, tables and pictures."""


def refuse_inputs(output: Path | None, option: str, *inputs: str | Path) -> None:
    """Refuse to write a file over an input, or over a file in the folder of one.

    Args:
        output: The file that is to be written; None is not refused.
        option: What names it on the command line, such as "--html".
        inputs: Files and folders that are read; those that are not there, such as names on the
            Hub, are passed over.

    Raises:
        MetroFastError: If it would replace one, or a file in its folder that is not a page, a
            table or a picture.

    Example:
        >>> refuse_inputs(Path("page.html"), "--html", "expert")
    """
    if output is None or not output.exists():
        return
    for each in map(Path, inputs):
        if not each.exists():
            continue
        within = each.is_dir() and output.resolve().is_relative_to(each.resolve())
        if output.samefile(each) or (within and output.suffix.lower() not in _MADE):
            raise MetroFastError(
                f"{option} is {shown(str(output), 300)}, which is read from {shown(str(each), 300)}"
                " and would be replaced: choose another file"
            )
