"""Tests of what is an answer of an endpoint and what is not, for the agent and for a partner alike."""

import json
import socket
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import Behaviour, Handler, Server, completion, refuse, say, serving

from lmrl.config.checks import ConfigError, check_config
from lmrl.partners.partners import EndpointPartner, PartnerError
from lmrl.play.__main__ import main as play
from lmrl.policies.chat import EndpointError
from lmrl.policies.core import Action, Policy, Request
from lmrl.policies.prompted import PromptedPolicy
from lmrl.policies.system_role import rejects_system
from lmrl.text.trajectory import Turn

AGENT = {"system": "You play.", "rules": "Say a word.", "actions": "A word is yes or no.", "examples": []}
PARTNER = {"system": "It is a {object}.", "template": "{utterance}"}
ASKED = Request((Turn('{"object": "walrus"}', is_action=False), Turn("Is it red?\n", is_action=False)))
SECRET = "The word is walrus."


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with serving() as running:
        yield running


def policies(server: Server, cache: Path, retries: int = 2) -> dict[str, Policy]:
    """Build an agent and a partner that share an endpoint."""
    from lmrl.policies.chat import ChatEndpoint
    from lmrl.policies.chat_settings import Retries

    waits = {"max": retries, "first": 0.01, "longest": 0.02}
    address = {"model": "m", "base_url": server.url}
    endpoint = ChatEndpoint(**address, retries=Retries(**waits))
    return {
        "agent": PromptedPolicy(prompt=AGENT, endpoint=endpoint),
        "partner": EndpointPartner(prompt=PARTNER, endpoint={**address, "retries": waits}, cache=str(cache)),
    }


def replies(cache: Path) -> list[str]:
    """Return what is kept on disk."""
    with sqlite3.connect(cache) as connection:
        return [reply for (reply,) in connection.execute("SELECT reply FROM replies")]


def raw(choice: Any = None, **top: Any) -> Behaviour:
    """Answer 200 with one choice and whatever else stands beside it."""
    return refuse(200, json.dumps({**({} if choice is None else {"choices": [choice]}), **top}))


SAID = '{"action": "yes"}'
MESSAGE = {"role": "assistant", "content": SAID}
NO_ANSWERS = {
    "null": (say(None), "an empty answer"),
    "empty": (say(""), "an empty answer"),
    "white space": (say(" \n\t"), "an empty answer"),
    "no chunks": (say([]), "an empty answer"),
    "a chunk without text": (say([{"type": "text", "text": None}]), "an empty answer"),
    "a picture": (say([{"type": "image_url", "image_url": {"url": "x"}}]), "without an answer"),
    "a number": (say(7), "content that is not text"),
    "error at the top": (raw(error={"message": "overloaded", "code": 502}), r"overloaded \(502\)"),
    "error beside an answer": (raw({"message": MESSAGE, "finish_reason": "stop"}, error="broke"), "broke"),
    "error in the choice": (raw({"error": {"message": "gone"}, "finish_reason": "error"}), "gone"),
    "error in a choice with text": (raw({"error": {"code": 429}, "message": MESSAGE}), "429"),
    "error as the end": (say(SAID, finish="error"), "finish_reason 'error'"),
    "aborted": (say(SAID, finish="abort"), "'abort'"),
    "content filter": (say(SAID, finish="content_filter"), "'content_filter'"),
    "safety": (say("", finish="SAFETY"), "'safety'"),
    "refusal": (say(None, refusal="I cannot say that"), "a refusal: I cannot say that"),
    "refusal as a chunk": (say([{"type": "refusal", "refusal": "never"}]), "a refusal: never"),
    "refusal as the end": (say("", finish="refusal"), "'refusal'"),
    "tool": (say(None, finish="tool_calls", tool_calls=[{"id": "1"}]), "a call of a tool"),
    "tool and text": (say("Let me look.", tool_calls=[{"id": "1"}]), "a call of a tool"),
    "function": (say(None, function_call={"name": "x"}), "a call of a tool"),
    "thought alone": (say(None, reasoning_content=SECRET), "a thought without an answer"),
    "thought cut off": (say(None, reasoning_content=SECRET, finish="length"), "a thought that was cut off"),
    "other field": (say("", reasoning=SECRET, finish="length"), "a thought that was cut off .*raise max_tokens"),
    "nothing in the limit": (say("", finish="max_tokens"), "nothing at the token limit"),
    "open mark": (say(f"<think>{SECRET}", finish="length"), "a thought that was cut off"),
    "open mark, ended": (say(f"<think>{SECRET}"), "a thought that was never closed"),
    "closed mark, then nothing": (say(f"<think>{SECRET}</think>\n"), "a thought without an answer"),
    "cut off again": (say(f"<think>a</think>Yes.<think>{SECRET}", finish="length"), "cut off"),
    "thinking chunk": (say([{"type": "thinking", "thinking": [{"type": "text", "text": SECRET}]}]), "a thought"),
    "no choices": (raw(), "not a chat completion"),
    "empty choices": (raw(choices=[]), "not a chat completion"),
    "null choices": (raw(choices=None), "not a chat completion"),
    "choice without message": (raw({"text": SAID}), "not a chat completion"),
    "choice of text": (raw("yes"), "not a chat completion"),
    "not JSON": (refuse(200, "data: {}"), "not a chat completion"),
    "no text at all": (refuse(200, ""), "not a chat completion"),
    "a list": (refuse(200, "[]"), "not a chat completion"),
}


@pytest.mark.parametrize("kind", NO_ANSWERS)
def test_what_is_no_answer_is_asked_for_again_and_then_told(server: Server, tmp_path: Path, kind: str) -> None:
    behaviour, message = NO_ANSWERS[kind]
    for name, policy in policies(server, tmp_path / "r.sqlite").items():
        server.script = [behaviour, behaviour]
        expected = {"agent": "yes\n", "partner": f"{SAID}\n"}[name]
        server.usual = say(SAID)
        assert policy.act([ASKED]) == [Action(expected)], "what may pass is tried again"
        assert (server.seen[-1].body["messages"], server.script) == (server.seen[-2].body["messages"], [])
    (tmp_path / "r.sqlite").unlink()
    server.usual = behaviour
    for name, policy in policies(server, tmp_path / "r.sqlite", retries=1).items():
        whose = {"agent": "the model", "partner": "the partner"}[name]
        address = f"POST {server.url}/chat/completions"
        with pytest.raises(
            EndpointError, match=rf"^{whose} 'm' does not answer: {address} failed 2 times: .*{message}"
        ):
            policy.act([ASKED])
    assert replies(tmp_path / "r.sqlite") == []


ANSWERS = {
    "chunks": say([{"type": "text", "text": '{"action": '}, {"type": "text", "text": '"yes"}'}]),
    "chunks of an output": say([{"type": "output_text", "text": SAID}]),
    "bare chunks": say([SAID]),
    "one chunk": say({"type": "text", "text": SAID}),
    "thinking chunk": say([{"type": "thinking", "thinking": SECRET}, {"type": "text", "text": SAID}]),
    "reasoning chunk": say([{"type": "reasoning", "text": SECRET}, {"type": "text", "text": SAID}]),
    "thought flag": say([{"type": "text", "text": SECRET, "thought": True}, {"type": "text", "text": SAID}]),
    "field": say(SAID, reasoning_content=SECRET),
    "other field": say(SAID, reasoning=SECRET, reasoning_details=[{"text": SECRET}]),
    "no refusal": say(SAID, refusal=None, tool_calls=[], function_call=None),
    "no error": raw({"message": MESSAGE, "finish_reason": "stop", "error": None}, error=None),
    "no reason": say(SAID, finish=None),
    "unknown reason": say(SAID, finish="eos"),
    **{
        mark: say(mark.replace("#", f"{SECRET}\nNo?\n") + SAID)
        for mark in (
            "<think>#</think>",
            "#</think>",
            "<think>a<think>#</think>#</think>",
            "<THINKING type='x'>#</THINKING>\n\n",
            "<seed:think>#</seed:think>",
            "<think:opensource>#</think:opensource>",
            "<reasoning>#</reasoning>",
            "<thought>#</thought>",
            "[THINK]#[/THINK]",
            "\u25c1think\u25b7#\u25c1/think\u25b7",
            "<|channel|>analysis<|message|>#<|end|><|start|>assistant<|channel|>final<|message|>",
            "analysisWe see: #assistantfinal",
            "<|channel>thought\n#<channel|>",
            "<|START_THINKING|>#<|END_THINKING|>",
            "<|begin_of_thought|>#<|end_of_thought|>",
            "<unused94>thought\n#<unused95>",
            "Here is my thought process: # Here is my response:",
        )
    },
    "answer behind": say(f"<think>{SECRET}</think><answer>{SAID}</answer>"),
    "answer before": say(f"{SAID}<think>{SECRET}</think>"),
}


@pytest.mark.parametrize("kind", ANSWERS)
def test_an_answer_is_told_without_its_thoughts(server: Server, tmp_path: Path, kind: str) -> None:
    server.usual = ANSWERS[kind]
    both = policies(server, tmp_path / "r.sqlite")
    assert both["agent"].act([ASKED]) == [Action("yes\n")]
    assert both["partner"].act([ASKED]) == [Action(f"{SAID}\n")]
    assert replies(tmp_path / "r.sqlite") == [SAID]


def test_a_cut_off_answer_counts_only_where_it_is_whole(server: Server, tmp_path: Path) -> None:
    both = policies(server, tmp_path / "r.sqlite", retries=0)
    server.usual = say(f"{SAID} So I sa", finish="length")
    assert both["agent"].act([ASKED]) == [Action("yes\n")]
    server.usual = say('{"thought": "I should go', finish="length")
    with pytest.raises(EndpointError, match=r"before its action was whole; raise algo\.policy\.endpoint\.sampling"):
        both["agent"].act([ASKED])
    server.usual = say("Okay, the object is a walrus, so I", finish="length")  # a thought that no mark begins
    with pytest.raises(PartnerError, match=r"unfinished thought; raise partner\.endpoint\.sampling\.max_tokens"):
        both["partner"].act([ASKED])
    server.usual = say("\u662f")  # becomes nothing in plain letters, which the oracle would hear as "No."
    with pytest.raises(PartnerError, match="without any letter of plain text"):
        both["partner"].act([ASKED])
    assert replies(tmp_path / "r.sqlite") == []


def test_after_an_answer_that_is_none_the_seed_is_another(server: Server, tmp_path: Path) -> None:
    server.script = [say(""), refuse(500)]
    policies(server, tmp_path / "r.sqlite")["agent"].act([ASKED])
    one, two, three = (seen.body["seed"] for seen in server.seen)
    assert one != two == three


# Models that know no role `system`.


@pytest.mark.parametrize(
    ("status", "complaint"),
    [
        (400, "System role not supported"),
        (500, "Jinja Exception: Only user and assistant roles are supported!"),
        (400, "Unsupported value: 'messages[0].role' does not support 'system' with this model."),
        (400, "Conversation roles must alternate user/assistant/user/assistant/..."),
        (400, "Developer instruction is not enabled for models/gemma-3-27b-it"),
    ],
)
def test_an_endpoint_without_a_system_role_is_told_in_the_first_turn(
    server: Server, tmp_path: Path, status: int, complaint: str
) -> None:
    def behave(handler: Handler, body: dict[str, Any]) -> None:
        if body["messages"][0]["role"] == "system":
            handler.send(status, json.dumps({"error": {"message": complaint}}).encode())
        else:
            handler.send(200, completion(SAID))

    server.usual = behave
    for name, policy in policies(server, tmp_path / "r.sqlite", retries=0).items():
        server.seen.clear()
        policy.act([ASKED])
        assert len(server.seen) == 2
        before, after = (seen.body["messages"] for seen in server.seen)
        told = f"{before[0]['content']}\n\n{before[1]['content']}"
        assert after == [{"role": "user", "content": told}]
        policy.act([Request((ASKED.history[0], Turn("Is it blue?\n", is_action=False)))])
        assert len(server.seen) == 3, f"the {name} remembers it"
    assert not rejects_system('{"error": {"message": "the system is overloaded", "type": "server"}}')


# What a command says.


def test_each_failed_attempt_is_told_in_a_line(server: Server, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    server.usual = refuse(503, "loading\nthe model")
    with pytest.raises(PartnerError):
        policies(server, tmp_path / "r.sqlite")["partner"].act([ASKED])
    lines = capfd.readouterr().err.splitlines()
    begin = f"POST {server.url}/chat/completions: 503 Service Unavailable: loading the model; attempt"
    assert [line.rpartition(" in ")[0] for line in lines] == [f"{begin} 2 of 3", f"{begin} 3 of 3"]


def test_an_unreachable_or_refusing_partner_ends_play_in_one_sentence(
    server: Server, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        server.usual = refuse(401, "no such key")
        for url, retries, cause in (
            (nobody, 1, "failed 2 times: ConnectError: "),
            (server.url, 0, ": 401 Unauthorized (is the key in OPENAI_API_KEY right?): no such key"),
        ):
            arguments = ["partner=endpoint", "partner.endpoint.model=m", f"partner.endpoint.base_url={url}",
                         f"partner.endpoint.retries.max={retries}", "partner.endpoint.retries.first=0",
                         f"data_dir={tmp_path}", "--player", "expert", "--episodes", "1"]  # fmt: skip
            assert play(["task=twenty_questions", *arguments]) == 1
            told = capfd.readouterr().err.splitlines()
            assert len(told) == retries + 1
            assert told[-1].startswith(f"error: the partner 'm' does not answer: POST {url}/chat/completions")
            assert cause in told[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["task=twenty_questions", "partner=local"], "partner.model is missing: set partner.model=..."),
        (["task=twenty_questions", "partner=endpoint"], "partner.endpoint.model is missing: set"),
        (["task=maze", "partner=endpoint", "partner.endpoint.model=m"], "partner: the task maze has no partner"),
        (["task=maze", "partner=local", "partner.model=m"], "partner: the task maze has no partner"),
    ],
)
def test_a_partner_that_cannot_be_is_told_by_its_key(
    compose: Callable, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture, arguments: list[str], message: str
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert play([*arguments, "--player", "random"]) == 1
    assert capfd.readouterr().err.startswith(f"error: {message}")
    with pytest.raises(ConfigError) as caught:
        check_config(compose(*arguments, "algo=bc"))
    assert str(caught.value).startswith(message)
