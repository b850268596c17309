"""Settings of a chat endpoint, checked before the first request."""

import ipaddress
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Annotated, Any

import httpx2
from pydantic import Field

from lmrl.config.types import NonNegative, PositiveCount, Share, check_fields, objection

NAME = "algo.policy.endpoint"
"""Where the settings are in the configuration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """How often, and after which waits, a failed request is sent again."""

    max: Annotated[int, Field(ge=0, le=100)] = 6
    """Further attempts after the first."""
    first: NonNegative = 1.0
    """The first wait in seconds."""
    factor: Annotated[float | int, Field(ge=1, le=10)] = 2.0
    """How much longer each further wait is."""
    longest: NonNegative = 60.0
    """The longest wait of our own choice. Each is shortened by up to a half, at random, so that requests spread."""
    patience: NonNegative = 600.0
    """The longest wait that a server may ask for (`Retry-After`); one that asks for more ends the run."""

    def __post_init__(self) -> None:
        check_fields(self)

    def delay(self, failures: int, asked: float | None, uniform: float) -> float:
        """Return the wait after a number of failures; at least the time that the server asked for.

        Args:
            failures: how many attempts have failed, at least 1.
            asked: the server's `Retry-After` in seconds.
            uniform: a random number in [0, 1).
        """
        if asked is not None:
            return asked + uniform * self.first
        return min(self.first * self.factor ** (failures - 1), self.longest) * (1 - uniform / 2)


@dataclass(frozen=True, slots=True)
class Key:
    """The key of an endpoint: only the name of its environment variable is kept, never its value."""

    variable: str | None
    """`None`: no key is sent."""

    def __post_init__(self) -> None:
        # A key that somebody wrote here by mistake is not repeated in the message.
        if self.variable is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", self.variable):
            raise ValueError(
                f"{NAME}.api_key_env must be the name of an environment variable in capitals, not a key itself"
            )

    def read(self) -> str:
        """Return the key, empty if there is none.

        Raises:
            ValueError: it cannot be a key. HTTP libraries quote headers that cannot be sent, so it must not reach them.
        """
        # Never in a variable: some reports of errors show those.
        if not re.fullmatch(r"[!-~]*", self._held()):
            raise ValueError(f"the environment variable {self.variable} holds characters that no key has")
        return self._held()

    def _held(self) -> str:
        return os.environ.get(self.variable, "").strip() if self.variable else ""

    def remove_from(self, text: str) -> str:
        """Return the text without the key."""
        key = self.read()
        return text.replace(key, "***") if key else text


def checked_address(base_url: str, key: Key) -> httpx2.URL:
    """Return the address of an endpoint to which the key, if there is one, may be sent.

    Raises:
        ValueError: it is no plain address (which the message does not repeat: it may hold a password), would get the
            key unencrypted, or needs one that is missing.
    """
    try:
        url = httpx2.URL(base_url)
    except httpx2.InvalidURL:
        url = httpx2.URL("")
    if url.scheme not in ("http", "https") or not url.host or url.userinfo or url.query or url.fragment:
        raise ValueError(
            f"{NAME}.base_url must be an address like https://host/v1, without user, password or query (keys come from "
            "the environment only)"
        )
    if key.variable is not None and not is_local(url.host):
        if url.scheme != "https":
            raise ValueError(f"{NAME}.base_url must begin with https: no key is sent to {url.host} unencrypted")
        if not key.read():
            raise ValueError(
                f"the environment variable {key.variable} ({NAME}.api_key_env) is not set; it must hold the key for "
                f"{url.host}"
            )
    return url


def is_local(host: str) -> bool:
    """Tell whether a host is this machine or in a private network: by its address, or a name without a domain."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith(".localhost")


def checked_sampling(sampling: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sampling fields of requests, without those that are `None`.

    Raises:
        ValueError: a number is out of its range, or a name belongs to the policy itself.
    """
    said = {name: value for name, value in sampling.items() if value is not None}
    for name in ("model", "messages", "stream", "n", "seed"):
        if name in said:
            raise ValueError(f"{NAME}.sampling.{name} cannot be set: the policy sets it")
    kinds = {"temperature": Annotated[float | int, Field(ge=0, le=2)], "top_p": Share, "max_tokens": PositiveCount}
    for name, kind in kinds.items():
        wrong = objection(said[name], kind) if name in said else None
        if wrong:
            raise ValueError(f"{NAME}.sampling.{name} {wrong}")
    return said


def checked_price(price: Mapping[str, float | int | None]) -> tuple[float, float] | None:
    """Return the price of a million prompt and completion tokens; `None` if it is unknown.

    Raises:
        ValueError: a price is negative, or only one of the two is known.
    """
    if set(price) - {"prompt", "completion"}:
        raise ValueError(f"{NAME}.price has only prompt and completion, got {sorted(price)}")
    prompt, completion = price.get("prompt"), price.get("completion")
    if prompt is None and completion is None:
        return None
    for name, dollars in (("prompt", prompt), ("completion", completion)):
        wrong = objection(dollars, NonNegative)
        if wrong:
            raise ValueError(f"{NAME}.price.{name} {wrong}")
    return float(prompt or 0), float(completion or 0)


def retry_after(header: str | None) -> float | None:
    """Return how many seconds a `Retry-After` header, a number or a date, asks to wait; `None` if it says nothing."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            until = parsedate_to_datetime(header)
        except ValueError:
            return None
        seconds = (until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return None if math.isnan(seconds) else max(seconds, 0.0)
