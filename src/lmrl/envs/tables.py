"""Tables that a task keeps as CSV files in its folder."""

import csv
from functools import cache
from pathlib import Path


@cache
def rows(module: str, file: str) -> tuple[dict[str, str], ...]:
    """Return the rows of a CSV file, each by the names in the first line.

    Args:
        module: the `__file__` of a module in the folder of the CSV file.
        file: the name of the CSV file.

    Raises:
        ValueError: a row has more or fewer columns than the first line.
    """
    path = Path(module).with_name(file)
    read = tuple(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    for number, row in enumerate(read, start=2):
        if None in row or None in row.values():
            raise ValueError(f"{path}, line {number}: the number of columns differs from that of the first line")
    return read
