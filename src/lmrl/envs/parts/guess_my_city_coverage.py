"""Asks the embedded citizen a file of questions: `python -m lmrl.envs.parts.guess_my_city_coverage questions.csv`.

The file is as `guess_my_city_partner.questions` reads it. Every question that failed is printed: it was not answered
(the citizen is not sure, or must not tell), or not as the file expects.
"""

import argparse
import re
import sys
from collections.abc import Sequence

from lmrl.envs.parts.guess_my_city_partner import is_informative, questions, replies, understood


def is_expected(name: str, question: str, expected: str) -> bool:
    """Tell whether a city's answers, if not all of them, contain the expected words, or if none are, are answers."""
    said = replies(name, question)
    if not expected:
        return all(map(is_informative, said))
    holds = all if expected in ("Yes", "No") else any
    return holds(re.search(rf"(?<!\w){re.escape(expected)}(?!\w)", text, re.IGNORECASE) for text in said)


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask, print what failed and the shares, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "file", help="questions with the columns name, question and answer, or raw conversations as JSON"
    )
    parser.add_argument("--quiet", action="store_true", help="print the shares only")
    options = parser.parse_args(arguments)
    asked = list(questions(options.file))
    answered = [is_expected(brief["name"], question, expected) for brief, question, expected in asked]
    for (brief, question, expected), is_right in zip(asked, answered, strict=True):
        if not is_right and not options.quiet:
            said = replies(brief["name"], question)[0].strip()
            wanted = f" (expected: {expected})" if expected else ""
            print(f"{brief['name']}: {' '.join(question.split())} -> {said}{wanted}", file=sys.stdout)
    count = max(len(asked), 1)
    known = sum(understood(question) for _, question, _ in asked)
    shares = f"{known / count:.1%} understood, {sum(answered) / count:.1%} answered as they should be"
    print(f"{len(asked):,} questions: {shares}", file=sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
