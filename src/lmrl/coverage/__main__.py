"""Coverage of a task's embedded partner: `python -m lmrl.coverage --task twenty_questions questions.csv`."""

import argparse
import sys
from collections.abc import Sequence

from lmrl.config.compose import guarded
from lmrl.coverage.questions import trials
from lmrl.coverage.trial import Trial
from lmrl.system.signals import ended


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask, print the failures and the shares, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m lmrl.coverage", description=__doc__)
    parser.add_argument("file", help="a CSV file as in tests/data, or published conversations as JSON")
    parser.add_argument("--task", required=True, help="the task whose partner is asked, such as twenty_questions")
    parser.add_argument("--quiet", action="store_true", help="print the shares only")
    options = parser.parse_args(arguments)
    return guarded(lambda: _ask(options))


def _ask(options: argparse.Namespace) -> None:
    """Ask all questions of the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the task or the file cannot be used.
    """
    tries = trials(options.task, options.file)
    for tried in tries:
        if not (tried.is_right or options.quiet):
            print(_failure(tried))
    understood = sum(tried.is_understood for tried in tries) / len(tries)
    right = sum(tried.is_right for tried in tries) / len(tries)
    judged = f", {100 * right:.1f} % answered as expected" if any(tried.is_judged for tried in tries) else ""
    print(f"{len(tries):,} questions: {100 * understood:.1f} % understood{judged}")


def _failure(tried: Trial) -> str:
    """Describe one failure in a line."""
    wanted = f", expected {tried.expected}" if tried.expected else ""
    reason = f"{tried.reply}{wanted}" if tried.is_understood else "not understood"
    return f"{f'{tried.about}: ' if tried.about else ''}{' '.join(tried.utterance.split())} ({reason})"


if __name__ == "__main__":
    sys.exit(ended(main))
