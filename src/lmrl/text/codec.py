"""Text to token ids and back, with the few facts about a tokenizer that acting and training must agree on."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

from lmrl.text.trajectory import History, Turn

_AT_ONCE = 4096
"""Texts that the tokenizer writes in one call: several times as fast as one by one."""
_KEPT = 300_000
"""Texts whose ids are remembered."""


class Codec:
    """A tokenizer as the rest of lmrl sees it.

    Every turn is encoded on its own, in training and while acting, so that no token straddles two turns and a
    training row is exactly the sequence of generation. Turns that a model sampled keep their ids and are never encoded.

    Args:
        tokenizer: any Hugging Face tokenizer that has a pad token.

    Raises:
        ValueError: the tokenizer has no pad token.
    """

    def __init__(self, tokenizer: Any) -> None:
        if tokenizer.pad_token_id is None:
            raise ValueError("the tokenizer has no pad token; load it with lmrl.models.tokenizer.load, which adds one")
        self.tokenizer = tokenizer
        self._cache: dict[str, tuple[int, ...]] = {}

    @property
    def pad_id(self) -> int:
        """The id that fills short rows; it is never sampled and never trained."""
        return int(self.tokenizer.pad_token_id)

    @property
    def size(self) -> int:
        """How many ids there are, added tokens included."""
        return len(self.tokenizer)

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """The ids that end an utterance: every token with a line break in it, and the end-of-text token."""
        stops = {i for i in range(self.size) if "\n" in self.decode((i,))}
        if self.tokenizer.eos_token_id is not None:
            stops.add(int(self.tokenizer.eos_token_id))
        stops.discard(self.pad_id)
        return frozenset(stops)

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the ids of one turn's text; special tokens written inside the text are treated as plain text."""
        ids = self._cache.get(text)
        if ids is None:
            self._keep([text], self._encode_all([text]))
            ids = self._cache[text]
        return ids

    def remember(self, texts: Iterable[str]) -> None:
        """Encode many texts at once, which is several times as fast as one by one; `encode` then finds them."""
        new = list(dict.fromkeys(text for text in texts if text not in self._cache))
        for some in (new[first : first + _AT_ONCE] for first in range(0, len(new), _AT_ONCE)):
            self._keep(some, self._encode_all(some))

    def _encode_all(self, texts: list[str]) -> list[list[int]]:
        return self.tokenizer(texts, add_special_tokens=False, split_special_tokens=True)["input_ids"]

    def _keep(self, texts: list[str], encoded: list[list[int]]) -> None:
        """Remember ids; observations repeat a lot, but a long run must not grow for ever."""
        if len(self._cache) + len(texts) > _KEPT:
            self._cache.clear()
        self._cache.update((text, tuple(ids)) for text, ids in zip(texts, encoded, strict=True))

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of `ids`, byte for byte as far as the tokenizer allows."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)

    def utterance(self, ids: Sequence[int]) -> str:
        """Return the text of an action that was sampled, in the form in which environments expect actions: as a line.

        A model may end it with the end-of-text token instead of a line break; that token is then no part of the text.
        """
        text = self.decode(ids)
        end = self.tokenizer.eos_token_id
        if end is None or not ids or ids[-1] != end or text.endswith("\n"):
            return text
        line = self.decode(ids[:-1])
        return line if line.endswith("\n") else f"{line}\n"

    def turn(self, turn: Turn) -> tuple[int, ...]:
        """Return the ids of a turn: those that were sampled, else those of its text."""
        return self.encode(turn.text) if turn.tokens is None else turn.tokens

    def history(self, history: History) -> list[int]:
        """Return the ids of a whole history, turn after turn."""
        return [i for turn in history for i in self.turn(turn)]

    def check(self, texts: Iterable[str]) -> None:
        """Make sure that the tokenizer can write every text of a task.

        Raises:
            ValueError: a text does not survive encoding and decoding; the message shows it.
        """
        every = list(texts)
        for some in (every[first : first + _AT_ONCE] for first in range(0, len(every), _AT_ONCE)):
            encoded = self._encode_all(some)
            decoded = self.tokenizer.batch_decode(
                encoded, skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
            for text, ids, said in zip(some, encoded, decoded, strict=True):
                self._check_one(text, ids, said)
            self._keep(some, encoded)

    def _check_one(self, text: str, ids: Sequence[int], said: str) -> None:
        """Make sure that a text came back from the tokenizer as it was."""
        # SentencePiece tokenizers put a space in front of a text that has none, and drop it again: not a loss.
        if not ids or said not in (text, text.removeprefix(" ")):
            raise ValueError(
                f"the tokenizer cannot encode this task: {text!r} comes back as {said!r}; "
                "choose another model, or model=tiny, whose tokenizer is built from the task's own text"
            )
