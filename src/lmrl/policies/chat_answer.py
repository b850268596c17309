"""Decide whether an endpoint's reply is an answer: the one place for agents and partners.

| reply | meaning |
|---|---|
| text, or a list of chunks | the text, or the text chunks; thoughts are removed |
| an `error`, at the top or in the choice, or a `finish_reason` that tells of a fault | no answer |
| a refusal, a stopped filter, a call of a tool (none is offered) | no answer |
| nothing, null, white space, or thoughts alone | no answer |
| a thought that was cut off or never closed | no answer |
| no JSON, no choice, no message | no answer |
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lmrl.policies.thoughts import without_thoughts

_CUT_OFF = frozenset({"length", "max_tokens", "model_length", "max_output_tokens", "model_context_window_exceeded"})
_FAULTS = (
    "error", "abort", "cancel", "content_filter", "refusal", "safety", "recitation", "blocklist", "prohibited_content",
    "spii", "sensitive", "malformed_function_call", "insufficient_system_resource", "network_error",
)  # fmt: skip
_TEXTS = frozenset({"text", "output_text"})


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of a model."""

    text: str
    """Not empty, without thoughts and without white space around it."""
    is_cut_off: bool
    """Whether it ended at the token limit."""


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """Why there is no answer."""

    cause: str
    """One sentence, which may quote the server."""
    is_said: bool = True
    """Whether a model said something that is no answer; another seed may help."""


@dataclass(frozen=True, slots=True)
class Completion:
    """A chat completion that was read."""

    outcome: Answer | NoAnswer
    tokens: tuple[int, int] | None
    """Tokens of the prompt and of the answer, if they were counted."""
    is_cut_off: bool = False
    """Whether it ended at the token limit."""


def read_completion(content: bytes) -> Completion:
    """Read an endpoint's reply with status 200."""
    try:
        sent = json.loads(content)
    except (ValueError, RecursionError):
        sent = None
    if not isinstance(sent, dict):
        return Completion(_malformed(content), None)
    choices = sent.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    error = sent.get("error") or choice.get("error")
    message = choice.get("message")
    if error:
        return Completion(NoAnswer(f"an error instead of an answer: {_complaint(error)}", is_said=False), _tokens(sent))
    if not isinstance(message, dict):
        return Completion(_malformed(content), None)
    ended = str(choice.get("finish_reason") or "").lower()
    return Completion(_read_message(message, ended), _tokens(sent), ended in _CUT_OFF)


def _read_message(message: Mapping[str, Any], ended: str) -> Answer | NoAnswer:
    """Return the text of a message, and how it ended."""
    refusal, raw = message.get("refusal") or _refusal(message.get("content")), _text(message.get("content"))
    if ended.startswith(_FAULTS):
        return NoAnswer(
            f"an answer that was stopped (finish_reason {ended!r}){_quoted(refusal or message.get('error'))}"
        )
    if refusal:
        return NoAnswer(f"a refusal{_quoted(refusal)}")
    if message.get("tool_calls") or message.get("function_call"):
        return NoAnswer("a call of a tool instead of an answer, though none is offered")
    if raw is None:
        return NoAnswer(f"content that is not text{_quoted(message.get('content'))}")
    # JSON can hold halves of characters, which nothing can write down again.
    spoken = without_thoughts(raw.encode(errors="replace").decode())
    text = spoken.text.strip()
    if spoken.is_thinking or not text:
        return NoAnswer(_silence(message, ended, has_thoughts=spoken.has_thoughts, is_thinking=spoken.is_thinking))
    return Answer(text, ended in _CUT_OFF)


def _silence(message: Mapping[str, Any], ended: str, *, has_thoughts: bool, is_thinking: bool) -> str:
    """Say why nothing was said."""
    own = ("reasoning_content", "reasoning", "reasoning_details", "thinking", "thinking_blocks", "thought")
    thought = has_thoughts or any(message.get(name) for name in own) or _has_thinking(message.get("content"))
    if ended in _CUT_OFF:
        sent = "a thought that was cut off" if thought else "nothing"
        return f"{sent} at the token limit (finish_reason {ended!r}); raise max_tokens of its sampling"
    if is_thinking:
        return "a thought that was never closed"
    return "a thought without an answer" if thought else "an empty answer"


def _text(content: Any) -> str | None:
    """Return the text of a content; `None` if it has another form."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    chunks = [content] if isinstance(content, dict) else content
    if not isinstance(chunks, list) or not all(isinstance(chunk, str | dict) for chunk in chunks):
        return None
    return "".join(chunk if isinstance(chunk, str) else _chunk(chunk) for chunk in chunks)


def _chunk(chunk: Mapping[str, Any]) -> str:
    """Return the text of a chunk; nothing if it is a thought, a picture, or the like."""
    said = chunk.get("text") if chunk.get("type", "text") in _TEXTS and not chunk.get("thought") else ""
    if isinstance(said, dict):  # as in the API of assistants
        said = said.get("value")
    return said if isinstance(said, str) else ""


def _refusal(content: Any) -> Any:
    """Return the refusal among the chunks of a content."""
    chunks = content if isinstance(content, list) else ()
    return next((c.get("refusal") for c in chunks if isinstance(c, dict) and c.get("type") == "refusal"), None)


def _has_thinking(content: Any) -> bool:
    return isinstance(content, list) and any(
        isinstance(chunk, dict) and (chunk.get("thought") or chunk.get("type") not in _TEXTS) for chunk in content
    )


def _tokens(sent: Mapping[str, Any]) -> tuple[int, int] | None:
    used = sent.get("usage")
    counts = used if isinstance(used, dict) else {}
    prompt, answer = counts.get("prompt_tokens"), counts.get("completion_tokens")
    return (prompt, answer) if isinstance(prompt, int) and isinstance(answer, int) else None


def _malformed(content: bytes) -> NoAnswer:
    return NoAnswer(f"an answer that is not a chat completion: {content.decode(errors='replace')}", is_said=False)


def _complaint(error: Any) -> str:
    """Write a server's error: its code and message, or as it is."""
    if isinstance(error, dict) and error.get("message"):
        code = error.get("code") or error.get("type")
        return f"{error['message']} ({code})" if code else str(error["message"])
    return error if isinstance(error, str) else json.dumps(error)


def _quoted(said: Any) -> str:
    return f": {_complaint(said)}" if said else ""
