"""Format numbers and time spans for the tables that lmrl writes."""

import math

UNKNOWN = "\N{EN DASH}"
"""The text of a cell whose value is unknown."""


def number(value: float | None, digits: int = 2) -> str:
    """Format a number with `digits` decimals, or a dash if it is unknown."""
    return UNKNOWN if value is None or not math.isfinite(value) else f"{value:,.{digits}f}"


def percent(value: float | None) -> str:
    """Format a rate in percent, or a dash if it is unknown."""
    return UNKNOWN if value is None or not math.isfinite(value) else f"{100 * value:.1f} %"


def duration(seconds: float | None) -> str:
    """Format a time span in its two largest units, or a dash if it is unknown."""
    if seconds is None or not math.isfinite(seconds):
        return UNKNOWN
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
