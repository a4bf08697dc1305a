"""The metadata that a combination of experts keeps."""

import warnings
from collections.abc import Mapping

from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.tensors import StateDict

_RECORDS = ("ss_", "sshs_", "modelspec.")
"""Prefixes of keys under which kohya's and other tools describe one training run. No reader takes
the weights' meaning from them, and no two runs have the same ones."""

_RANKS = ("ss_network_",)
"""Records of ranks and alphas among them."""


def common_metadata(
    experts: Mapping[str, Mapping[str, str]], *, same_ranks: bool = True
) -> dict[str, str]:
    """The metadata of a weighted sum of experts: what all of them carry.

    Args:
        experts: `Expert.metadata` or `TaskVector.metadata` by the names that messages give them.
        same_ranks: Whether the sum has the experts' own ranks. If it does not, metadata from which
            readers take ranks and scalings would be wrong for it.

    Returns:
        The entries that all have with one value. Records of a training run are left out where
        they differ, or state ranks that change, with a warning.

    Warns:
        UserWarning: Naming such records.

    Raises:
        MetroFastError: If they differ in any other entry, or have one while ranks change: readers
            such as diffusers take scalings from it, so the sum of the tensors is not the sum of
            the updates.

    Example:
        >>> common_metadata({"a": {"ss_seed": "1", "k": "v"}, "b": {"ss_seed": "1", "k": "v"}})
        {'k': 'v', 'ss_seed': '1'}
    """
    keys = sorted({key for metadata in experts.values() for key in metadata} - {"format"})
    first = next(iter(experts.values()), {})
    kept: dict[str, str] = {}
    left: list[str] = []
    for key in keys:
        value = first.get(key)
        other = next((name for name, m in experts.items() if m.get(key) != value), None)
        record = key.startswith(_RECORDS)
        if other is None and not record and not same_ranks:
            raise MetroFastError(
                f"the files of the experts carry the metadata {quoted(key[:80])}, from which "
                "readers may "
                "take ranks and scalings: a merge that changes ranks cannot keep it; merge with "
                "space='factors', or save the adapters without it"
            )
        stale = key.startswith(_RANKS) and not same_ranks
        if other is None and value is not None and not stale:
            kept[key] = value
        elif record:
            left.append(key)
        else:
            raise MetroFastError(
                f"the metadata {quoted(key[:80])} of expert {other} differs from that of expert "
                f"{next(iter(experts))}: readers may take ranks and scalings from it, so their "
                "sum would have no right value; save the adapters with the same metadata"
            )
    if left:
        some = ", ".join(repr(key[:80]) for key in left[:3])
        more = f" and {len(left) - 3} more" if len(left) > 3 else ""
        warnings.warn(
            "the result does not keep the records of training that differ between the experts"
            f"{'' if same_ranks else ', or state their ranks'}: {some}{more}",
            stacklevel=3,
        )
    # The library that the tensors are of, which a file may leave out.
    formats = {metadata["format"] for metadata in experts.values() if "format" in metadata}
    if len(formats) == 1:
        kept["format"] = formats.pop()
    return StateDict({}, kept).metadata
