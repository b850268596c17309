"""Ask the embedded partner a file of questions: `python -m lmrl.coverage --task twenty_questions questions.csv`."""

import argparse
import sys
from collections.abc import Sequence

from lmrl.commands import guarded
from lmrl.coverage import Heard, partner_of, questions


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask, print what failed and the shares, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m lmrl.coverage", description=__doc__)
    parser.add_argument("file", help="a CSV file with the column question, or published conversations as JSON")
    parser.add_argument("--task", required=True, help="whose partner is asked, such as twenty_questions")
    parser.add_argument("--quiet", action="store_true", help="print the shares only")
    options = parser.parse_args(arguments)
    return guarded(lambda: _ask(options))


def _ask(options: argparse.Namespace) -> None:
    """Ask all questions of the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the task or the file cannot be used.
    """
    partner = partner_of(options.task)
    heard = [partner.hear(asked) for asked in questions(options.file)]
    if not heard:
        raise ValueError(f"{options.file}: there are no questions in it")
    for result in heard:
        if not result.is_right and not options.quiet:
            print(_failure(result))
    understood = sum(result.is_understood for result in heard) / len(heard)
    right = sum(result.is_right for result in heard) / len(heard)
    told = ""
    if any(result.asked.expected for result in heard):
        told = f", {100 * right:.1f} % answered as expected"
    print(f"{len(heard):,} questions: {100 * understood:.1f} % understood{told}")


def _failure(result: Heard) -> str:
    """Describe one failure in a line."""
    asked = result.asked
    about = ", ".join(asked.brief.values())
    reason = "not understood" if not result.is_understood else f"{result.reply}, expected {asked.expected}"
    return f"{f'{about}: ' if about else ''}{asked.question} ({reason})"


if __name__ == "__main__":
    sys.exit(main())
