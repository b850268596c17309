"""Numbers and time spans as people read them, in every table that lmrl writes."""

import math

UNKNOWN = "\N{EN DASH}"
"""What a cell says about what is not known."""


def number(value: float | None, digits: int = 2) -> str:
    """Return a number with so many digits behind the point; a dash where it is unknown."""
    return UNKNOWN if value is None or not math.isfinite(value) else f"{value:,.{digits}f}"


def percent(value: float | None) -> str:
    """Return a rate in percent."""
    return UNKNOWN if value is None or not math.isfinite(value) else f"{100 * value:.1f} %"


def duration(seconds: float | None) -> str:
    """Return a time span in the two units that matter."""
    if seconds is None or not math.isfinite(seconds):
        return UNKNOWN
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
