"""Coverage of the embedded buyer, for `python -m lmrl.coverage --task car_dealer`."""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

from lmrl.coverage.trial import Trial
from lmrl.tasks.car_dealer.parser import parse

COLUMNS = ("utterance", "acts", "terms", "features")
DECISIVE = {"quote", "discount", "refuse", "accept", "deny", "affirm"}
"""Acts that change the sale: finding one that the utterance does not contain is a mistake."""


def trials(path: Path) -> Iterator[Trial]:
    """Parse the utterances of a CSV file with the acts, terms and features that are to be found.

    Raises:
        ValueError: a column is missing.
    """
    with path.open(encoding="utf-8", newline="") as lines:
        rows = csv.DictReader(lines)
        missing = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
        if missing:
            raise ValueError(f"{path}: there is no column {missing[0]}; it needs {', '.join(COLUMNS)}")
        for row in rows:
            speech = parse(row["utterance"])
            expected = " ".join(filter(None, (row["acts"], row["terms"], row["features"])))
            is_right, found = is_found(row), " ".join(sorted(speech.acts))
            yield Trial(row["utterance"], "", bool(speech.acts), f"heard as {found}", expected, is_right)


def is_found(row: Mapping[str, str]) -> bool:
    """Return whether the parser finds the acts of a row, no other that would change the sale, and the same terms."""
    said, acts = parse(row["utterance"]), set(row["acts"].split())
    amounts = said.amounts
    terms = {
        f"price={amounts.price}": amounts.price is not None,
        f"over={amounts.over_percent or 0:g}": amounts.over_percent is not None,
        f"off=${amounts.off_dollars}": amounts.off_dollars is not None,
        f"off={amounts.off_percent or 0:g}%": amounts.off_percent is not None,
        "meet": amounts.meets_budget,
    }
    named = said.denied if "deny" in acts else said.features
    return (
        (acts <= said.acts or (acts == {"talk"} and bool(said.acts)))
        and not (said.acts - acts) & DECISIVE
        and [term for term, is_told in terms.items() if is_told] == [term for term in [row["terms"]] if term]
        and named == set(row["features"].split(";")) - {""}
    )
