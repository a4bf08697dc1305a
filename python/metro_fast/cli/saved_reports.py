"""Two reports that a command line names, by their folders or files."""

from pathlib import Path

from metro_fast._shown import quoted
from metro_fast.cli.distinct_names import distinct_names
from metro_fast.errors import MetroFastError
from metro_fast.robustness import Member, ModelCard, Report, read_cards
from metro_fast.robustness.results_file import results_files

__all__ = ["two_members"]


def two_members(first: Path, second: Path) -> tuple[Member, Member]:
    """Two reports with their models' cards, under names that differ.

    Args:
        first: A `results_*.json`, or a folder with exactly one.
        second: Another one.

    Returns:
        Both; if their models have one name, each is called by its folder as well.

    Raises:
        FileNotFoundError: If a folder has no results.
        FormatError: If a file is damaged.
        MetroFastError: If both are the same file, or a folder has several results.
    """
    files = [_one_file(path) for path in (first, second)]
    if files[0].samefile(files[1]):
        raise MetroFastError(
            f"both arguments are {files[0]}: give the results of two models, or of two evaluations"
        )
    reports = [Report.load(path) for path in files]
    names = [report.model_name for report in reports]
    if names[0] == names[1]:
        parts = [[*path.resolve().parent.parts, path.stem] for path in files]
        depth = 1 if parts[0][:-1] == parts[1][:-1] else 2
        places = distinct_names([each if depth == 1 else each[:-1] for each in parts], "/")
        names = [f"{name} ({place})" for name, place in zip(names, places, strict=True)]
    members = []
    for path, report, name in zip(files, reports, names, strict=True):
        known = read_cards(path.parent).get((report.model_name, report.model_hash))
        card = known or ModelCard(report.model_name, report.model_family)
        if name != card.name:
            card = ModelCard(**vars(card) | {"name": name})
            report = report.renamed(name)
        members.append(Member(card, report, report.preset))
    return members[0], members[1]


def _one_file(path: Path) -> Path:
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: give a results_*.json, or its folder")
    if not path.is_dir():
        return path
    found = results_files(path)
    if not found:
        raise FileNotFoundError(f"{path} has no results_*.json: evaluate into this folder first")
    if len(found) > 1:
        names = " and ".join(each.name for each in found[:4])
        more = f", and {len(found) - 4} more" if len(found) > 4 else ""
        raise MetroFastError(
            f"{quoted(str(path))} has the results of several models or readings ({names}{more}): "
            "give one of these files"
        )
    return found[0]
