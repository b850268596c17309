"""Concurrent requests to an OpenAI-compatible chat endpoint, with retries, limits and a count of the cost.

Failures that may pass are tried again: a lost connection, a time-out, a text that is not an answer (`chat_answer`),
and the statuses 408, 409, 429 and 5xx. Every other status is final. An endpoint that does not answer is an
`EndpointError` and never an answer. The key is read from the environment for each request, and is kept nowhere.
"""

import random
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import httpx2

from lmrl.config.types import ConfigError, Positive, PositiveCount, Seed, Text, checked
from lmrl.policies.chat_answer import Answer, NoAnswer, read_completion
from lmrl.policies.chat_settings import (
    NAME,
    Key,
    Retries,
    checked_address,
    checked_price,
    checked_sampling,
    is_local,
    retry_after,
)
from lmrl.policies.system_role import rejects_system, without_system

_PASSING = frozenset({408, 409, 429})
_SHOWN = 300  # characters of a server's complaint
_COUNTS = ("requests", "retries", "cut_off", "unmetered", "prompt_tokens", "completion_tokens")


Objection = Callable[[Answer], str | None]
"""Tells why an answer is not one after all, for whom it is meant; `None` if it is one."""


class EndpointError(ConfigError):
    """The endpoint refused a request, or kept failing. A command ends with this one sentence."""

    answered: Mapping[int, str] = {}
    """The answers to other requests of the same call so far, by their place."""


class _Stopped(Exception):
    """Another request has failed for good: this one is not needed any more."""


@dataclass(frozen=True, slots=True)
class Chat:
    """One question."""

    messages: tuple[Mapping[str, str], ...]
    """The messages so far, each with `role` and `content`."""
    seed: int
    """Seed of the model's sampling, for endpoints that have one."""


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why an attempt brought no answer."""

    cause: str
    """One line without the key."""
    is_final: bool = False
    asked: float | None = None
    """How many seconds the server asked to wait."""
    is_said: bool = False
    """Whether a model said something that is no answer; another seed may help."""
    is_about_system: bool = False
    """Whether the model knows no role `system`."""


class ChatEndpoint:
    """One model behind `POST base_url/chat/completions`.

    Args:
        model: the model's name, as the endpoint calls it.
        base_url: where the endpoint is, up to and without `/chat/completions`.
        api_key_env: the name of the environment variable with the key. `None`: no key is sent. A local endpoint (this
            machine, a private network) needs no key.
        sampling: further fields of each request (`temperature`, `top_p`, `max_tokens`, ...), without `None` values.
        send_seed: whether requests carry a seed.
        concurrency: how many requests are under way at once.
        timeout: seconds for one attempt.
        retries: the waits after failures.
        price: US dollars for a million tokens, `prompt` and `completion`; `None` values: unknown.
        seed: seed of the waits.

    Raises:
        ValueError: a setting is out of range, or the key is missing.
    """

    @checked
    def __init__(
        self,
        *,
        model: Text,
        base_url: Text = "https://api.openai.com/v1",
        api_key_env: Text | None = "OPENAI_API_KEY",
        sampling: Mapping[str, Any] | None = None,
        send_seed: bool = True,
        concurrency: PositiveCount = 8,
        timeout: Positive = 60.0,
        retries: Retries | None = None,
        price: Mapping[str, float | int | None] | None = None,
        seed: Seed = 0,
    ) -> None:
        if not model:
            raise ValueError(f"{NAME}.model must be the name of a model")
        self.model, self.send_seed, self.concurrency, self.timeout = model, send_seed, concurrency, timeout
        self.key = Key(api_key_env)
        address = checked_address(base_url, self.key)
        self.url = str(address).rstrip("/") + "/chat/completions"
        self.is_local = is_local(address.host)
        self.sampling = checked_sampling(sampling or {})
        self.price = checked_price(price or {})
        self.retries = retries or Retries()
        self._knows_system, self._silent = True, f"the model {model!r} does not answer"
        self._chance = random.Random(seed)
        self._lock = threading.Lock()
        self._counts: dict[str, int] = dict.fromkeys(_COUNTS, 0)

    @property
    def usage(self) -> dict[str, int | float | None]:
        """The requests and tokens so far.

        `requests` were sent, of which `retries` repeated a failed one; `cut_off` answers ended at the token limit, and
        `unmetered` ones came without token counts. `cost` is in US dollars, and `None` where it cannot be known.
        """
        with self._lock:
            counts = dict(self._counts)
        cost = None
        if self.price is not None and not counts["unmetered"]:
            cost = (counts["prompt_tokens"] * self.price[0] + counts["completion_tokens"] * self.price[1]) / 1e6
        return {**counts, "cost": cost}

    def complete(self, chats: Sequence[Chat], objection: Objection | None = None) -> list[str]:
        """Return the model's answer to each chat, in order; never an empty text.

        Args:
            chats: the questions.
            objection: why an answer is none for the one who asks; it is then asked for again. `None`: each is one.

        Raises:
            EndpointError: a request was refused or kept failing; the others are given up.
            ValueError: the value of the environment variable cannot be a key.
        """
        if not chats:
            return []
        client, stop = self._client, threading.Event()
        pool = ThreadPoolExecutor(min(self.concurrency, len(chats)), thread_name_prefix="chat")
        try:
            futures = [pool.submit(self._ask, client, chat, objection, stop) for chat in chats]
            wait(futures, return_when=FIRST_EXCEPTION)
            error = next((e for future in futures if future.done() and (e := future.exception())), None)
            if error is not None:
                if isinstance(error, EndpointError):
                    done = {index: future for index, future in enumerate(futures) if future.done()}
                    error.answered = {i: future.result() for i, future in done.items() if not future.exception()}
                raise error
            return [future.result() for future in futures]
        finally:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)  # a request under way must not hold up the error

    def close(self) -> None:
        """Close the connections; the next question opens new ones."""
        if "_client" in vars(self):
            vars(self).pop("_client").close()

    @cached_property
    def _client(self) -> httpx2.Client:
        # Redirects are not followed, since they might lead the key elsewhere; local endpoints are behind no proxy.
        return httpx2.Client(
            auth=self._authorize,
            timeout=self.timeout,
            limits=httpx2.Limits(max_connections=self.concurrency, max_keepalive_connections=self.concurrency),
            trust_env=not self.is_local,
            follow_redirects=False,
        )

    def _authorize(self, request: httpx2.Request) -> httpx2.Request:
        key = self.key.read()
        if key:
            request.headers["Authorization"] = f"Bearer {key}"
        return request

    def _ask(self, client: httpx2.Client, chat: Chat, objection: Objection | None, stop: threading.Event) -> str:
        """Ask until there is an answer, it is refused, or there were too many failures."""
        failures = said = 0
        while True:
            has_system = self._knows_system
            self._count(requests=1, retries=int(failures > 0))
            outcome = self._attempt(client, self._body(chat, said, has_system=has_system), objection)
            if isinstance(outcome, str):
                return outcome
            failures += 1
            said += outcome.is_said
            if outcome.is_about_system and has_system and chat.messages[0]["role"] == "system":
                self._knows_system = False  # asked again at once: there is nothing to wait for
                continue
            if outcome.is_final:
                raise EndpointError(f"{self._silent}: POST {self.url}: {outcome.cause}")
            if failures > self.retries.max:
                times = "time" if failures == 1 else "times"
                raise EndpointError(f"{self._silent}: POST {self.url} failed {failures} {times}: {outcome.cause}")
            with self._lock:
                uniform = self._chance.random()
            delay = self.retries.delay(failures, outcome.asked, uniform)
            print(
                f"POST {self.url}: {outcome.cause}; attempt {failures + 1} of {self.retries.max + 1} in {delay:.1f} s",
                file=sys.stderr,
            )
            if stop.wait(delay):
                raise _Stopped

    def _body(self, chat: Chat, said: int, *, has_system: bool) -> dict[str, Any]:
        """Return the body of a request; after unusable answers with another seed."""
        messages = list(chat.messages) if has_system else list(without_system(chat.messages))
        seed = {"seed": (chat.seed + said) % 2**31} if self.send_seed else {}
        return {"model": self.model, "messages": messages, **self.sampling, **seed}

    def _attempt(self, client: httpx2.Client, body: Mapping[str, Any], objection: Objection | None) -> str | _Failure:
        """Send a request once. Failures are values: an exception would carry the request, and with it the key."""
        deadline = time.monotonic() + self.timeout
        try:
            with client.stream("POST", self.url, json=body) as response:
                content = b"".join(_until(deadline, response))
        except (httpx2.TimeoutException, TimeoutError):
            return _Failure(f"no answer within {self.timeout:g} s")
        except httpx2.RequestError as error:
            return _Failure(self._clean(f"{type(error).__name__}: {error}"))
        return self._read(content, objection) if response.status_code == 200 else self._refusal(response, content)

    def _refusal(self, response: httpx2.Response, content: bytes) -> _Failure:
        """Describe a status that is not 200."""
        status = response.status_code
        cause = f"{status} {response.reason_phrase}"
        if status in (401, 403) and self.key.variable is not None:
            cause += f" (is the key in {self.key.variable} right?)"
        is_final = status not in _PASSING and status < 500
        asked = retry_after(response.headers.get("retry-after"))
        if not is_final and asked is not None and asked > self.retries.patience:
            is_final = True
            cause += f" (it asks to wait {asked:g} s, more than {NAME}.retries.patience)"
        said = content.decode(errors="replace")
        is_about_system = status not in (401, 403, 429) and rejects_system(said)
        return _Failure(self._clean(f"{cause}: {said}"), is_final, asked, is_about_system=is_about_system)

    def _read(self, content: bytes, objection: Objection | None) -> str | _Failure:
        """Return the text of a chat completion, and count its tokens."""
        completion = read_completion(content)
        outcome = completion.outcome
        if isinstance(outcome, Answer) or outcome.is_said:
            prompt, answer = completion.tokens or (0, 0)
            self._count(prompt_tokens=prompt, completion_tokens=answer, unmetered=int(completion.tokens is None))
            self._count(cut_off=int(completion.is_cut_off))
        if isinstance(outcome, Answer):
            cause = objection(outcome) if objection is not None else None
            if cause is None:
                return outcome.text
            outcome = NoAnswer(cause)
        return _Failure(self._clean(outcome.cause), is_said=outcome.is_said)

    def _count(self, **counts: int) -> None:
        with self._lock:
            for name, count in counts.items():
                self._counts[name] += count

    def _clean(self, text: str) -> str:
        """Return a complaint on one line, short, and without the key that a server may have repeated."""
        text = " ".join(self.key.remove_from(text).split())
        return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def _until(deadline: float, response: httpx2.Response) -> Iterator[bytes]:
    """Yield an answer's bytes; the client's own time-out only limits the silence between two of them."""
    for part in response.iter_bytes():
        if time.monotonic() > deadline:
            raise TimeoutError
        yield part
