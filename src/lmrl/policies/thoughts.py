"""Find a model's thoughts in its text, for endpoints and models on this machine alike.

A partner's thoughts tell the hidden word, so the doubtful case is a thought: all that stands before a closing mark
without an opening one (chat templates may write the opening mark themselves), and all that stands behind an opening
mark that is never closed.
"""

import re
from dataclasses import dataclass

_NAMES = (
    "think|thinking|thought|thoughts|reasoning|reasoning_content|reflection|analysis|scratchpad|inner_monologue|"
    "antthinking|longcat_think"
)
_PAIRS = (
    # <think>, <seed:think>, <think:opensource>, <thinking type="...">
    (rf"<(?:\w+:)?(?:{_NAMES})(?:[:\s][^<>]*)?>", rf"</(?:\w+:)?(?:{_NAMES})(?:[:\s][^<>]*)?>"),
    (r"\[THINK\]", r"\[/THINK\]"),
    (r"\u25c1think\u25b7", r"\u25c1/think\u25b7"),
    (r"<\|(?:begin_of_thought|start_thinking|inner_prefix)\|>", r"<\|(?:end_of_thought|end_thinking|inner_suffix)\|>"),
    # Channels: everything but the final one, whose mark ends the thought.
    (
        r"(?:<\|start\|>assistant)?<\|channel\|>(?!\s*final\b)[^<]*",
        r"(?:<\|start\|>assistant)?<\|channel\|>\s*final\b[^<]*<\|message\|>",
    ),
    (r"<\|channel>", r"<channel\|>"),
    (r"<unused94>", r"<unused95>"),
    (r"\A(?-i:analysis)(?=(?-i:[A-Z]))", r"assistant\s*final"),  # channels whose marks a server has left out
    (r"\A\s*here(?:'s| is) my thought process:", r"here(?:'s| is) my response:"),
)
_MARK = re.compile("|".join(f"(?P<o{n}>{o})|(?P<c{n}>{c})" for n, (o, c) in enumerate(_PAIRS)), re.IGNORECASE)
_OPEN_AT_END = re.compile(rf"(?:{'|'.join(opening for opening, _ in _PAIRS)})\s*\Z", re.IGNORECASE)
_WRAPPING = re.compile(r"\A\s*<(answer|response)>(.*?)(?:</\1>\s*)?\Z", re.IGNORECASE | re.DOTALL)
_ENDING = re.compile(r"<\|(?:end|return|start|message|call|constrain)\|>")


@dataclass(frozen=True, slots=True)
class Spoken:
    """A model's text without its thoughts."""

    text: str
    """The text, with the white space around it."""
    is_thinking: bool
    """Whether the text ends inside a thought."""
    has_thoughts: bool
    """Whether anything was removed."""


def without_thoughts(text: str) -> Spoken:
    """Return a model's text besides its thoughts."""
    said, opened, place, found = "", None, 0, False
    for mark in _MARK.finditer(text):
        kind, number = str(mark.lastgroup)[0], str(mark.lastgroup)[1:]
        if opened is None:
            found = True
            if kind == "o":
                said, opened = said + text[place : mark.start()], number
            else:
                said, place = "", mark.end()
        elif (kind, number) == ("c", opened):
            opened, place = None, mark.end()
    if opened is None:
        said += text[place:]
    if found:
        said = _ENDING.sub("", said)
    wrapped = _WRAPPING.match(said)
    return Spoken(wrapped[2] if wrapped else said, opened is not None, found)


def opening_mark(prompt: str) -> str:
    """Return the mark at the end of a prompt by which a chat format begins a thought for the model; or nothing."""
    mark = _OPEN_AT_END.search(prompt)
    return mark[0].strip() if mark else ""
