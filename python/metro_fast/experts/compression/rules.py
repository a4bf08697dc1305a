"""The options of `compress`, and the rule for a group of tensors that they come to."""

from typing import Literal, TypeAlias, get_args

from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError
from metro_fast.experts.compression.groups import Rule
from metro_fast.ops.ternarize import native_alpha

Scope: TypeAlias = Literal["role", "global", "tensor"]
Quantizer: TypeAlias = Literal["compeft", "stc", "sign", "prune"]
Profile: TypeAlias = Literal["default", "size"]

SCOPES: tuple[str, ...] = get_args(Scope)
QUANTIZERS: tuple[str, ...] = get_args(Quantizer)
PROFILES: tuple[str, ...] = get_args(Profile)


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse a value that is not one of the choices.

    Raises:
        MetroFastError: If it is not; the message lists them.

    Example:
        >>> check_choice("scope", "role", SCOPES)
    """
    if value not in choices:
        raise MetroFastError(f"{name} is {quoted(value)}, expected one of {', '.join(choices)}")


def read_rule(
    quantize: str, density: float | None, alpha: float | str | None, *, upstream: bool
) -> Rule:
    """The rule for each group of tensors that the options of `compress` describe.

    Raises:
        TypeError: If alpha is neither a number nor the name of a rule.
        MetroFastError: If the options contradict each other.

    Example:
        >>> read_rule("stc", None, None, upstream=False)
        Rule(density=0.2, alpha=None, upstream=False)
        >>> read_rule("compeft", None, None, upstream=True)
        Rule(density=0.2, alpha=1.0, upstream=True)
    """
    check_choice("quantize", quantize, QUANTIZERS)
    if quantize != "compeft" and alpha is not None:
        raise MetroFastError(
            f"alpha is {quoted(alpha)}, but quantize={quoted(quantize)} finds its scale itself: "
            "leave it out"
        )
    if quantize == "sign":
        if upstream or density not in (None, 1):
            given = "upstream is True" if upstream else f"density is {density}"
            raise MetroFastError(f"{given}, but quantize='sign' keeps every entry: leave it out")
        density = 1.0
    if alpha is None:
        # The published code has no least squares, and its STC is another scale.
        alpha = 1.0 if upstream and quantize != "stc" else "least_squares"
    return Rule(0.2 if density is None else density, native_alpha(alpha), upstream)
