"""What the arguments of `compress` may be, and what they say of a group."""

from metro_fast.errors import MetroFastError
from metro_fast.experts.compression.groups import Rule
from metro_fast.ops.ternarize import native_alpha

SCOPES = ("role", "global", "tensor")
QUANTIZERS = ("compeft", "stc", "sign", "prune")
PROFILES = ("default", "size")


def read_rule(
    quantize: str, density: float | None, alpha: float | str | None, *, upstream: bool
) -> Rule:
    """What the arguments of `compress` say of each group.

    Raises:
        TypeError: If alpha is neither a number nor a known rule.
        MetroFastError: If they do not go together.
    """
    if quantize not in QUANTIZERS:
        raise MetroFastError(f"quantize is {quantize!r}, expected one of {', '.join(QUANTIZERS)}")
    if quantize != "compeft" and alpha is not None:
        raise MetroFastError(
            f"alpha is {alpha!r}, but quantize={quantize!r} finds its scale itself: leave it out"
        )
    if quantize == "sign":
        if upstream or density not in (None, 1):
            what = "upstream is True" if upstream else f"density is {density}"
            raise MetroFastError(f"{what}, but quantize='sign' keeps every entry: leave it out")
        density = 1.0
    least_squares = quantize in ("stc", "sign")
    native = None if least_squares else native_alpha(1.0 if alpha is None else alpha)
    return Rule(0.2 if density is None else density, native, upstream)
