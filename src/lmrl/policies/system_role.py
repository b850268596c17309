"""Chats for models that know no role `system`, as the chat formats of Gemma and early Mistral models."""

import re
from collections.abc import Mapping, Sequence

_NO_SYSTEM = re.compile(
    r"system\W+(?:(?:role|message|prompt|instruction)s?\b)?.{0,20}\b(?:not (?:supported|allowed|enabled)|unsupported)"
    r"|(?:not support|unsupported|invalid).{0,60}\bsystem\b|developer instructions? (?:is|are) not enabled"
    r"|only user and (?:assistant|model) roles|valid role: user|roles must alternate",
    re.IGNORECASE | re.DOTALL,
)
"""How vLLM, llama.cpp and hosted models say that a chat must not begin with the role `system`."""


def without_system(messages: Sequence[Mapping[str, str]]) -> tuple[Mapping[str, str], ...]:
    """Return a chat for models that know no role `system`: its text begins the first turn of the user."""
    if len(messages) < 2 or messages[0]["role"] != "system":
        return tuple(messages)
    first = {"role": "user", "content": f"{messages[0]['content']}\n\n{messages[1]['content']}"}
    return (first, *messages[2:])


def rejects_system(complaint: str) -> bool:
    """Tell whether a server complains of the role `system`."""
    return bool(_NO_SYSTEM.search(complaint))
