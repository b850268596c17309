"""The prompt of a language model that plays the partner of a dialogue.

A task's configuration has a block `partner_prompt`:

    system    the partner's role and its limits; may be left out
    template  the question, asked anew in every turn
    examples  worked ones, may be left out: a list of mappings with `reply` and a value for each field of the template,
              or a text, which stands where the others name `{examples}`, or else behind the system's

A name in braces is a field: `{utterance}` is the agent's newest utterance, `{dialogue}` the whole dialogue so
far, as lines `agent: ...` and `partner: ...`, and every other name is looked up in the partner's brief, the JSON object
that the environment puts first in the history. Two braces (`{{`) stand for one.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Any

from lmrl.text.trajectory import History

NAME = "task.partner_prompt"
"""Where the block is in the configuration."""
HEARD = ("utterance", "dialogue")
"""The fields that are not the brief's."""

Message = dict[str, str]
"""One message of a chat: `role` and `content`."""


@dataclass(frozen=True, slots=True)
class Situation:
    """The partner's view when it is asked."""

    brief: Mapping[str, str]
    """The partner's secrets, by name."""
    earlier: tuple[str, ...]
    """The lines of the dialogue before the newest one."""
    utterance: str
    """The agent's newest utterance, on one line, so that nobody can put words into the other's mouth."""

    @classmethod
    def from_history(cls, history: History) -> "Situation":
        """Read an environment's view for its partner: the brief, and then the dialogue.

        Raises:
            ValueError: the first turn is no JSON object.
        """
        try:
            brief = json.loads(history[0].text)
        except ValueError:
            brief = None
        if not isinstance(brief, dict):
            raise ValueError(f"a partner is shown its brief first, a JSON object, but got {history[0].text[:200]!r}")
        said = history[1:]
        is_asked = bool(said) and not said[-1].is_action
        lines = [f"{'partner' if turn.is_action else 'agent'}: {one_line(turn.text)}" for turn in said]
        newest = one_line(said[-1].text) if is_asked else ""
        fields = {name: _readable(value) for name, value in brief.items()}
        return cls(fields, tuple(lines[:-1] if is_asked else lines), newest)

    def fields(self) -> dict[str, str]:
        """Return the value of each field."""
        newest = [f"agent: {self.utterance}"] if self.utterance or self.earlier else []
        return {**self.brief, "utterance": self.utterance, "dialogue": "\n".join([*self.earlier, *newest])}

    def shorter(self) -> "Situation | None":
        """Forget the oldest line, or half of the newest utterance if there is no other. `None`: nothing is left."""
        if self.earlier:
            return Situation(self.brief, self.earlier[1:], self.utterance)
        half = self.utterance[: len(self.utterance) // 2]
        return Situation(self.brief, (), half) if self.utterance else None


@dataclass(frozen=True, slots=True)
class Template:
    """A text with fields."""

    name: str
    """Where it is in the configuration."""
    pieces: tuple[tuple[str, str | None], ...]
    """Literal texts, each with the field that follows it."""

    @classmethod
    def read(cls, name: str, text: Any) -> "Template":
        """Find the fields of a text.

        Raises:
            ValueError: it is no text, or a brace in it is none of a field.
        """
        if not isinstance(text, str):
            raise ValueError(f"{name} must be a text, got {text!r}")
        try:
            parsed = list(Formatter().parse(text.strip()))
        except ValueError as error:
            raise ValueError(f"{name}: {error}; write {{{{ or }}}} for a brace that belongs to the text") from None
        for _, field, form, conversion in parsed:
            if field is not None and (not field.isidentifier() or form or conversion):
                raise ValueError(f"{name}: a field is a plain name in braces, got {{{field}}}; write {{{{ for a brace")
        return cls(name, tuple((literal, field) for literal, field, _, _ in parsed))

    @property
    def fields(self) -> frozenset[str]:
        """The names in braces."""
        return frozenset(field for _, field in self.pieces if field is not None)

    def including(self, examples: "Template") -> "Template":
        """Return the text with another one in the place of the field `examples`."""
        pieces: list[tuple[str, str | None]] = []
        for literal, field in self.pieces:
            pieces += [(literal, None), *examples.pieces] if field == "examples" else [(literal, field)]
        return Template(self.name, tuple(pieces))

    def fill(self, values: Mapping[str, str]) -> str:
        """Put the values in the places of their fields.

        Raises:
            ValueError: a field has no value; the message names it.
        """
        unknown = sorted(self.fields - set(values))
        if unknown:
            raise ValueError(f"{self.name}: unknown field {{{unknown[0]}}}; known are {', '.join(sorted(values))}")
        return "".join(literal + (values[field] if field is not None else "") for literal, field in self.pieces).strip()


@dataclass(frozen=True, slots=True)
class PartnerPrompt:
    """A task's instructions for a model that plays the partner."""

    system: Template
    template: Template
    examples: tuple[tuple[str, str], ...]
    """Questions, and the reply to each."""

    @classmethod
    def from_mapping(cls, prompt: Mapping[str, Any] | None) -> "PartnerPrompt":
        """Read the block `partner_prompt` of a task's configuration.

        Raises:
            ValueError: there is none, or a part of it cannot be used; the message names it.
        """
        if prompt is None:
            raise ValueError(f"{NAME}: this task has none, so no model can play a partner in it; use partner=embedded")
        unknown = sorted(set(prompt) - {"system", "template", "examples"})
        if unknown or not prompt.get("template"):
            raise ValueError(f"{NAME} must have template, and may have system and examples, got {', '.join(prompt)}")
        template = Template.read(f"{NAME}.template", prompt["template"])
        if not template.fields & set(HEARD):
            raise ValueError(
                f"{NAME}.template needs {{utterance}} or {{dialogue}}, "
                "or the partner would never see what the agent said"
            )
        system = Template.read(f"{NAME}.system", prompt.get("system") or "")
        examples = prompt.get("examples") or ()
        if isinstance(examples, str):
            shown = Template.read(f"{NAME}.examples", examples)
            if "examples" not in system.fields | template.fields:
                system = Template(system.name, (*system.pieces, ("\n\n", "examples")))
            return cls(system.including(shown), template.including(shown), ())
        if not isinstance(examples, Sequence):
            raise ValueError(f"{NAME}.examples must be a text or a list, got {examples!r}")
        return cls(
            system, template, tuple(_example(index, template, example) for index, example in enumerate(examples))
        )

    def messages(self, situation: Situation) -> tuple[Message, ...]:
        """Return the chat that asks for the partner's reply.

        Raises:
            ValueError: a field has no value; the message names it.
        """
        fields = situation.fields()
        system = self.system.fill(fields)
        told = [{"role": "system", "content": system}] if system else []
        for question, reply in self.examples:
            told += [{"role": "user", "content": question}, {"role": "assistant", "content": reply}]
        return (*told, {"role": "user", "content": self.template.fill(fields)})


def plain(messages: Sequence[Message]) -> str:
    """Write a chat as one text, for models that know no roles; each reply follows its question on the same line."""
    text = ""
    for message in messages:
        space = " " if message["role"] == "assistant" else "\n\n" if text else ""
        text += space + message["content"]
    return text


def one_line(text: str) -> str:
    """Return a text on one line, with single spaces, and without halves of characters, which cannot be written."""
    return " ".join(text.encode(errors="replace").decode().split())


def _example(index: int, template: Template, example: Any) -> tuple[str, str]:
    """Read one example: a value for each field of the template, and the reply."""
    name = f"{NAME}.examples[{index}]"
    if not isinstance(example, Mapping) or not isinstance(example.get("reply"), str):
        raise ValueError(f"{name} must have reply, a text, and a value for each field of the template")
    given = {field: value for field, value in example.items() if field != "reply"}
    values = {field: value.strip() if isinstance(value, str) else _readable(value) for field, value in given.items()}
    wrong = sorted(set(values) ^ template.fields)
    if wrong:
        problem = "is no field of the template" if wrong[0] in values else "has no value"
        raise ValueError(f"{name}: {{{wrong[0]}}} {problem}")
    return template.fill(values), example["reply"].strip()


def _readable(value: Any) -> str:
    """Write a JSON value as a person would: a list as its entries with commas."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_readable, value))
    return one_line(value) if isinstance(value, str) else json.dumps(value)
