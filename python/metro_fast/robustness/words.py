"""Numbers in words, as sentences and pages show them."""

from metro_fast.robustness.statistics import Interval

__all__ = ["interval", "p_value", "percent", "points"]


def percent(share: float, digits: int = 1) -> str:
    """A share as percent.

    Example:
        >>> percent(0.546)
        '54.6 %'
    """
    return f"{100 * share:.{digits}f} %"


def points(difference: float) -> str:
    """A difference of shares in points, with its sign.

    Example:
        >>> points(-0.0316)
        '−3.2'
    """
    text = f"{100 * difference:+.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", "−")  # noqa: RUF001 - a minus sign


def p_value(p: float) -> str:
    """A p value with its relation sign, to three decimals; smaller ones are an upper bound.

    Example:
        >>> p_value(0.0123), p_value(2e-9)
        ('= 0.012', '< 0.001')
    """
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def interval(ends: Interval) -> str:
    """An interval of differences, in points.

    Example:
        >>> interval(Interval(-0.01, 0.025))
        '[−1.0, +2.5]'
    """
    return f"[{points(ends.low)}, {points(ends.high)}]"
