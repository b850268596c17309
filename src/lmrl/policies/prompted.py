"""A prompted chat model as a policy: told the rules and some examples, it answers each turn anew, without training.

    system message  who it is, the rules, what actions look like, what an answer looks like, worked examples
    user message    the turns that the policy remembers, as a transcript

Every turn is such a chat of two messages; the model keeps nothing between turns. Its answer is a JSON object, of which
one key is the action (the others let it think first), or the bare action. The action is stripped and ends in a line
break. An answer that cannot be read may be asked for again, and is in the end played as an empty action, which the
environment calls invalid. A failing endpoint and an unusable answer are errors and never actions; so is an
answer that was cut off before its action was whole.

Source: the GPT-4 rows of Abdulhai et al. 2023 (arXiv 2311.18232) and their scripts in LMRL-Gym's repository.
Differences from these: retries are limited instead of endless; a JSON object is found in a text around it; the rules
and examples are in the system message; and the maze's rules name all four moves (there "move up" stands twice and
"move down" is missing).
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lmrl.config.types import Count, checked
from lmrl.policies.chat import Chat, ChatEndpoint
from lmrl.policies.chat_answer import Answer
from lmrl.policies.chat_settings import NAME
from lmrl.policies.core import Action, Request
from lmrl.policies.randomness import Uniforms
from lmrl.text.trajectory import History, Turn

_LABEL = re.compile(r"^(?:your answer|answer|action)\s*:", re.IGNORECASE)
_DECODER = json.JSONDecoder(strict=False)  # models write line breaks into their texts as they are


@dataclass(frozen=True, slots=True)
class Example:
    """One worked decision."""

    history: History
    """The turns up to an observation."""
    answer: Mapping[str, str]
    """The right answer by key (`thought`, `action`)."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A task's instructions for a model that has never seen it."""

    system: str
    """Who the model is."""
    rules: str
    """The rules and the aim."""
    actions: str
    """The form of an action."""
    examples: tuple[Example, ...]
    """Worked decisions."""

    @classmethod
    def from_mapping(cls, prompt: Mapping[str, Any] | None) -> "Prompt":
        """Read the block `prompt` of a task's configuration.

        Raises:
            ValueError: there is none, a part is missing or unknown, or an example does not end in an observation.
        """
        if prompt is None:
            raise ValueError("task.prompt: this task has no prompt, so a model cannot be told its rules")
        parts = {"system", "rules", "actions", "examples"}
        if set(prompt) != parts:
            raise ValueError(f"task.prompt must consist of {', '.join(sorted(parts))}, got {', '.join(sorted(prompt))}")
        examples = tuple(_example(index, dict(example)) for index, example in enumerate(prompt["examples"]))
        return cls(prompt["system"].strip(), prompt["rules"].strip(), prompt["actions"].strip(), examples)


class PromptedPolicy:
    """Asks a chat model for each action.

    Args:
        prompt: the block `prompt` of a task's configuration, see `Prompt`.
        endpoint: where the model is, and how it is asked.
        format: the form of an answer, `json` or `plain`.
        keys: the keys of a JSON answer; the last is the action.
        reasks: how often an answer that cannot be read is asked for again.

    Raises:
        ValueError: the prompt or a setting cannot be used; the message names it.
    """

    @checked
    def __init__(
        self,
        *,
        prompt: Mapping[str, Any] | None,
        endpoint: ChatEndpoint,
        format: Literal["json", "plain"] = "json",
        keys: Sequence[str] = ("thought", "action"),
        reasks: Count = 0,
    ) -> None:
        if isinstance(keys, str) or not keys or len(set(keys)) < len(keys):
            raise ValueError(f"algo.policy.keys must be a list of different names, got {keys!r}")
        self.endpoint, self.format, self.keys, self.reasks = endpoint, format, tuple(keys), reasks
        self.instructions = self._instructions(Prompt.from_mapping(prompt))
        self._uniforms = Uniforms()
        self._unparsable = 0

    @property
    def usage(self) -> dict[str, int | float | None]:
        """The requests and tokens so far, see `ChatEndpoint.usage`; `unparsable` actions were played as empty."""
        return {**self.endpoint.usage, "unparsable": self._unparsable}

    def act(self, requests: Sequence[Request]) -> list[Action]:
        """Return one action per request, in order.

        Raises:
            EndpointError: the endpoint refused a request or kept failing.
        """
        chats = [self._chat(request) for request in requests]
        answers = self.endpoint.complete(chats, self._objection)
        read = [self.read(answer) for answer in answers]
        for attempt in range(1, self.reasks + 1):
            missing = [index for index, action in enumerate(read) if action is None]
            again = [self._again(requests[i], chats[i], answers[i], attempt) for i in missing]
            for index, answer in zip(missing, self.endpoint.complete(again, self._objection), strict=True):
                read[index] = self.read(answer)
        self._unparsable += read.count(None)
        return [Action("" if action is None else action + "\n") for action in read]

    def read(self, answer: str) -> str | None:
        """Return the action that an answer names; `None` if it cannot be read."""
        return read_plain(answer) if self.format == "plain" else read_json(answer, self.keys[-1])

    def messages(self, history: History) -> tuple[dict[str, str], ...]:
        """Return the chat that asks for the action after a history."""
        question = f"{transcript(history)}\nYour answer:"
        return {"role": "system", "content": self.instructions}, {"role": "user", "content": question}

    def _objection(self, answer: Answer) -> str | None:
        """Tell why a cut-off answer is none: the last line of a text may be half a sentence of its reasons."""
        if answer.is_cut_off and (self.format == "plain" or self.read(answer.text) is None):
            return f"an answer that was cut off before its action was whole; raise {NAME}.sampling.max_tokens"
        return None

    def _chat(self, request: Request) -> Chat:
        return Chat(self.messages(request.history), self._seed(request, 0))

    def _again(self, request: Request, chat: Chat, answer: str, attempt: int) -> Chat:
        """Return the chat that asks once more after an answer that could not be read."""
        said = {"role": "assistant", "content": answer}
        asked = {"role": "user", "content": f"This cannot be read. {self._form()}"}
        return Chat((*chat.messages, said, asked), self._seed(request, attempt))

    def _seed(self, request: Request, attempt: int) -> int:
        """Return a seed for the endpoint: a function of episode, turn and attempt, so that no two are sampled alike."""
        return int(self._uniforms.draw(request.seed, request.turn, attempt + 1)[attempt] * 2**31)

    def _form(self) -> str:
        """Describe the form of an answer."""
        if self.format == "plain":
            return "Answer with your action alone, on one line."
        names = ", ".join(f'"{key}"' for key in self.keys)
        keys = f"the key {names}" if len(self.keys) == 1 else f"the keys {names}, in this order"
        return f'Answer with one JSON object and nothing else. It has {keys}; "{self.keys[-1]}" is played.'

    def _instructions(self, prompt: Prompt) -> str:
        """Write the system message."""
        parts = [prompt.system, prompt.rules, prompt.actions, self._form()]
        for number, example in enumerate(prompt.examples, start=1):
            missing = [key for key in self.keys if key not in example.answer]
            if missing:
                raise ValueError(f"algo.policy.keys: example {number} of task.prompt has no {missing[0]}")
            answer = example.answer[self.keys[-1]]
            if self.format == "json":
                answer = json.dumps({key: example.answer[key] for key in self.keys}, ensure_ascii=False)
            parts.append(f"Example {number}\n{transcript(example.history)}\nYour answer: {answer}")
        return "\n\n".join(parts)


def transcript(history: History) -> str:
    """Write a history as a person would read it; an action that could not be read shows as empty."""
    return "\n".join(f"{'Action' if turn.is_action else 'Observation'}: {turn.text.strip()}" for turn in history)


def read_json(answer: str, key: str) -> str | None:
    """Return the text under `key` of the last JSON object that has one; `None` if there is no such text.

    Models put objects into code fences or say something before and after them, and think aloud in objects of their
    own; the last one counts.
    """
    found, place = None, answer.find("{")
    while place >= 0:
        try:
            value, end = _DECODER.raw_decode(answer, place)
        except RecursionError:
            return None
        except ValueError:
            end = place + 1
        else:
            found = value.get(key, found)
        place = answer.find("{", end)
    if isinstance(found, bool) or not isinstance(found, str | int | float):
        return None
    return str(found).encode(errors="replace").decode().strip() or None  # halves of characters cannot be written


def read_plain(answer: str) -> str | None:
    """Return the last line that says something, without a label (`Action:`) and code fences; `None` if none does."""
    lines = [line.strip() for line in answer.splitlines()]
    said = [line for line in lines if line and not line.startswith("```")]
    return _LABEL.sub("", said[-1]).strip() or None if said else None


def _example(index: int, example: dict[str, Any]) -> Example:
    """Read one example: `history`, a list of texts in turn, and the parts of the right answer."""
    name = f"task.prompt.examples[{index}]"
    history = example.pop("history", None)
    if not isinstance(history, Sequence) or isinstance(history, str) or len(history) % 2 == 0:
        raise ValueError(f"{name}.history must be a list: observation, action, ..., observation")
    if not example or not all(isinstance(text, str) for text in [*history, *example.values()]):
        raise ValueError(f"{name} must have an answer, and texts only")
    turns = tuple(Turn(text, is_action=place % 2 == 1) for place, text in enumerate(history))
    return Example(turns, example)
