"""The partner of a dialogue played by a language model: behind an OpenAI-compatible endpoint, or on this machine.

Both are policies. A request's history is a `Dialogue` environment's view for its partner: the brief, and the dialogue
(`partner_prompt`). A request without a history asks for nothing and gets an empty text. Replies are one line of
printable ASCII, which ends in a line break, as the observations of the tasks do.

Replies are greedy unless sampling is asked for. Then they depend on the prompt alone: equal prompts of a batch are
asked once, and replies on disk are found by kind, model, settings and prompt. Sampled ones belong to the episode's seed
and turn as well, so that episodes differ, and an evaluation that is repeated stays the same.

A model that does not answer is an error, and never a reply, let alone a reward. Its thoughts are not
a reply either: it tells the hidden word.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lmrl.config.types import PathText, PositiveCount, Text, checked
from lmrl.partners.cache import ReplyCache, reply_key
from lmrl.partners.model import PartnerModel, weights_of
from lmrl.partners.prompt import NAME as PROMPT
from lmrl.partners.prompt import Message, PartnerPrompt, Situation
from lmrl.partners.reply import counted, spoken_line, unspeakable
from lmrl.policies.chat import Chat, ChatEndpoint, EndpointError
from lmrl.policies.chat_answer import Answer
from lmrl.policies.chat_settings import NAME, Retries
from lmrl.policies.core import Action, Request
from lmrl.policies.decoding import Decoding
from lmrl.policies.randomness import Uniforms


class PartnerError(EndpointError):
    """The partner's model did not answer."""


@dataclass(frozen=True, slots=True)
class Question:
    """One reply that is wanted."""

    situation: Situation
    messages: tuple[Message, ...]
    """The chat that asks for it."""
    stream: tuple[int, int]
    """Seed and turn, from which a sampled reply is drawn; (0, 0) where replies are greedy."""


class ModelPartner(ABC):
    """A partner whose replies come from a language model.

    Args:
        identity: kind, model and settings: all that a reply depends on beside the prompt; JSON values.
        prompt: the block `partner_prompt` of a task's configuration.
        is_sampled: whether replies are drawn at random.
        cache: the file in which replies are kept. `None`: none are.

    Raises:
        ValueError: the prompt cannot be used; the message names the mistake.
    """

    def __init__(
        self, *, identity: Mapping[str, Any], prompt: Mapping[str, Any] | None, is_sampled: bool, cache: str | None
    ) -> None:
        self.prompt = PartnerPrompt.from_mapping(prompt)
        known = {name: value for name, value in identity.items() if name not in ("url", "stamp")}
        self.settings: dict[str, Any] = {**known, "prompt": {} if prompt is None else dict(prompt)}
        """Identifies this partner on any machine, for the settings of an environment; JSON values."""
        self.cache = None if cache is None else ReplyCache(cache)
        self._identity, self._is_sampled = dict(identity), is_sampled
        self._counts: dict[str, int] = dict.fromkeys(("prompts", "repeated", "cached", "asked"), 0)

    @property
    def summary(self) -> dict[str, Any]:
        """The requests so far.

        Of `prompts` that had to be answered, `repeated` ones stood in the same batch before, `cached` ones were on
        disk, and `asked` ones were put to the model.
        """
        return {"kind": self._identity["kind"], "model": self._identity["model"], **self._counts}

    def act(self, requests: Sequence[Request]) -> list[Action]:
        """Return one reply per request, in order.

        Raises:
            PartnerError: the model did not answer.
            CacheError: the file of replies cannot be used.
            ValueError: a history has no brief, or the prompt a field that the brief has not.
        """
        asked = {index: self._question(request) for index, request in enumerate(requests) if request.history}
        keys = {index: self._key(question) for index, question in asked.items()}
        distinct = {keys[index]: question for index, question in asked.items()}
        known = self.cache.get(distinct) if self.cache is not None and distinct else {}
        missing = {key: question for key, question in distinct.items() if key not in known}
        try:
            replies = dict(zip(missing, self._answer(list(missing.values())), strict=True)) if missing else {}
        except PartnerError as error:
            self._keep({key: error.answered[index] for index, key in enumerate(missing) if index in error.answered})
            raise
        replies |= self._keep(replies)
        counts = (len(asked), len(asked) - len(distinct), len(known), len(missing))
        self._counts = {name: old + new for (name, old), new in zip(self._counts.items(), counts, strict=True)}
        said = {index: spoken_line((known | replies)[key]) for index, key in keys.items()}
        return [Action(said.get(index, "")) for index in range(len(requests))]

    def _keep(self, replies: Mapping[str, str]) -> dict[str, str]:
        """Put replies on disk, if that is wanted, and return the kept ones."""
        # A small local model may end its reply at once: that is silence, and not worth keeping.
        spoken = {key: reply for key, reply in replies.items() if reply.strip()}
        return {} if self.cache is None else self.cache.put(spoken, model=self._identity["model"])

    @abstractmethod
    def _answer(self, questions: Sequence[Question]) -> list[str]:
        """Return the model's reply to each question, in order."""

    def _question(self, request: Request) -> Question:
        situation = Situation.from_history(request.history)
        stream = (request.seed, request.turn) if self._is_sampled else (0, 0)
        return Question(situation, self.prompt.messages(situation), stream)

    def _key(self, question: Question) -> str:
        return reply_key(self._identity, question.messages, question.stream)


class EndpointPartner(ModelPartner):
    """A partner behind an OpenAI-compatible endpoint.

    Args:
        prompt: the block `partner_prompt` of a task's configuration.
        endpoint: the arguments of `ChatEndpoint` by name, `retries` those of `Retries`; without `sampling`, replies are
            greedy and have at most 128 tokens.
        first_line: whether only the first line of the model's text is the reply.
        cache: the file in which replies are kept. `None`: none are.

    Raises:
        ValueError: a setting cannot be used; the message names it.
    """

    def __init__(
        self,
        *,
        prompt: Mapping[str, Any] | None,
        endpoint: Mapping[str, Any],
        first_line: bool = False,
        cache: PathText | None = None,
    ) -> None:
        PartnerPrompt.from_mapping(prompt)  # a task without a partner needs no key
        self._arguments = {"sampling": {"temperature": 0.0, "max_tokens": 128}, **endpoint}
        self.endpoint, self.first_line = _connect(self._arguments), first_line
        # A name alone does not tell which model it is: another server may call another one the same.
        identity = {"kind": "endpoint", "model": self.endpoint.model, "sampling": self.endpoint.sampling}
        super().__init__(
            identity={**identity, "first_line": first_line, "url": self.endpoint.url},
            prompt=prompt,
            is_sampled=self.endpoint.sampling.get("temperature") != 0,
            cache=cache,
        )
        self._uniforms = Uniforms()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "endpoint"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, endpoint=_connect(state["_arguments"]))  # connections cannot travel

    @property
    def summary(self) -> dict[str, Any]:
        """The requests so far, see `ModelPartner.summary` and `ChatEndpoint.usage`."""
        return {**super().summary, **self.endpoint.usage}

    def _answer(self, questions: Sequence[Question]) -> list[str]:
        chats, first = [Chat(question.messages, self._seed(question)) for question in questions], self.first_line
        try:
            replies = self.endpoint.complete(chats, self._objection)
        except EndpointError as error:
            failure = PartnerError(
                f"the partner {str(error).removeprefix('the model ')}".replace(NAME, "partner.endpoint")
            )
            failure.answered = {i: counted(said, first_line=first) for i, said in error.answered.items()}
        else:
            return [counted(reply, first_line=first) for reply in replies]
        raise failure

    def _objection(self, answer: Answer) -> str | None:
        """Tell why an answer is not a reply. Servers that open a thought in the prompt may send it without any mark."""
        is_whole = not answer.is_cut_off or (self.first_line and "\n" in answer.text)
        if not is_whole:
            return f"an answer that was cut off and may be an unfinished thought; raise {NAME}.sampling.max_tokens"
        return unspeakable(counted(answer.text, first_line=self.first_line))

    def _seed(self, question: Question) -> int:
        return int(self._uniforms.draw(*question.stream, 1)[0] * 2**31)


class LocalPartner(ModelPartner):
    """A partner on this machine: a Hugging Face model, sequence-to-sequence (FLAN-T5) or causal.

    The model is loaded when a reply is first needed that is not on disk, and once per process for all partners alike.
    A prompt that is too long loses its oldest lines, and then the end of the newest utterance: an agent's text never
    ends a run.

    Args:
        prompt: the block `partner_prompt` of a task's configuration.
        model: Hub id or folder.
        revision: of the Hub's model, a branch, tag or commit. `None`: its newest.
        sampling: `temperature`, `top_k` and `top_p`, as `Decoding` has them. `None`: replies are greedy.
        max_new_tokens: longest reply.
        max_prompt_tokens: longest prompt. `None`: as much as the model's window holds.
        chat: whether prompts are written in the model's chat format. `None`: if it has one; otherwise as plain text.
        first_line: whether a reply ends at its first line break. `None`: where prompts are plain text, since models
            without a chat format go on with a question of their own.
        dtype: `float32`, `bfloat16`, `float16`, or `auto`: bfloat16 on accelerators that have it, else float32.
        device: as PyTorch names it (`cpu`, `cuda:1`), or `auto`: an accelerator if there is one.
        batch_size: prompts that are computed at once.
        cache: the file in which replies are kept. `None`: none are.

    Raises:
        ValueError: a setting cannot be used, or there is no such folder; the message names it.
    """

    @checked
    def __init__(
        self,
        *,
        prompt: Mapping[str, Any] | None,
        model: PathText,
        revision: Text | None = None,
        sampling: Mapping[str, Any] | None = None,
        max_new_tokens: PositiveCount = 128,
        max_prompt_tokens: PositiveCount | None = None,
        chat: bool | None = None,
        first_line: bool | None = None,
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
        device: Text = "auto",
        batch_size: PositiveCount = 32,
        cache: PathText | None = None,
    ) -> None:
        try:
            decoding = Decoding(**{"temperature": 0.0, **(sampling or {})})
        except (ValueError, TypeError) as error:
            raise ValueError(f"partner.sampling: {error}") from None
        self.model = PartnerModel(
            weights=weights_of(model, revision, dtype=dtype, device=device),
            decoding=decoding,
            max_new_tokens=max_new_tokens,
            max_prompt_tokens=max_prompt_tokens,
            chat=chat,
            batch_size=batch_size,
        )
        self.first_line, self._shortened = first_line, 0
        super().__init__(
            identity={"kind": "local", **self.model.identity, "first_line": first_line},
            prompt=prompt,
            is_sampled=decoding.temperature != 0,
            cache=cache,
        )

    @property
    def summary(self) -> dict[str, Any]:
        """The requests so far, see `ModelPartner.summary`; `shortened` prompts were too long for the model."""
        return {**super().summary, "shortened": self._shortened}

    def _answer(self, questions: Sequence[Question]) -> list[str]:
        first_line = not self.model.writes_chats if self.first_line is None else self.first_line
        prompts = [self._fitting(question) for question in questions]
        replies = self.model.generate(prompts, [question.stream for question in questions], first_line=first_line)
        said = [counted(reply.text, first_line=first_line) for reply in replies]
        unfinished = [reply.is_thinking or (reply.has_thoughts and not said[i]) for i, reply in enumerate(replies)]
        if any(unfinished):
            failure = PartnerError(
                f"the partner {self.model.weights.path!r} does not answer: it thought for all of its "
                f"{self.model.max_new_tokens} tokens and said nothing; raise partner.max_new_tokens"
            )
            failure.answered = {i: text for i, text in enumerate(said) if not unfinished[i]}
            raise failure
        return said

    def _fitting(self, question: Question) -> list[int]:
        """Return the tokens of a prompt; of one that is too long, of its shortened form."""
        situation, room = question.situation, self.model.room
        tokens = whole = self.model.encode(question.messages)
        while room is not None and len(tokens) > room:
            shorter = situation.shorter()
            if shorter is None:
                raise ValueError(
                    f"{PROMPT} has {len(tokens)} tokens without any dialogue, but partner.model reads {room}"
                )
            situation = shorter
            tokens = self.model.encode(self.prompt.messages(situation))
        self._shortened += tokens is not whole
        return tokens


def _connect(arguments: Mapping[str, Any]) -> ChatEndpoint:
    """Build the endpoint; complaints name the partner's settings."""
    retries = arguments.get("retries")
    try:
        return ChatEndpoint(**{**arguments, "retries": None if retries is None else Retries(**retries)})
    except (ValueError, TypeError) as error:
        raise ValueError(f"partner.endpoint: {error}".replace(f"{NAME}.", "")) from None
