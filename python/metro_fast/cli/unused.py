"""Options that would do nothing beside the others are refused, not dropped."""

from typing import Any

from metro_fast.errors import MetroFastError


def refuse_unused(ctx: Any, *names: str, without: str) -> None:
    """Refuse options that were given and would do nothing.

    A default that a file repeats, as `resolved_config.yaml` does, is not refused.

    Args:
        ctx: The running command.
        names: Parameters of the command.
        without: What they need, in the words of the command line: "--method ties".

    Raises:
        MetroFastError: If one of them was given; the message names it.
    """
    for option in ctx.command.params:
        source = getattr(ctx.get_parameter_source(option.name), "name", "DEFAULT")
        given = source == "COMMANDLINE" or (source == "DEFAULT_MAP" and _differs(option, ctx))
        if option.name in names and given:
            raise MetroFastError(
                f"{max(option.opts, key=len)} does nothing without {without}: leave it out, or "
                f"give {without}"
            )


def _differs(option: Any, ctx: Any) -> bool:
    """Whether a value of a file is another than the option's own default."""
    value, usual = ctx.params.get(option.name), option.default
    return value != usual and bool(value or usual)
