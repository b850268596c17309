"""Tests of the prompted policy against a real HTTP server on this machine."""

import json
import logging
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from servers import KEY, Behaviour, Handler, Server, break_off, completion, hang_up, late, refuse, say, serving, trickle

from lmrl.config.checks import ConfigError
from lmrl.policies.chat import Chat, ChatEndpoint, EndpointError
from lmrl.policies.chat_settings import Retries, retry_after
from lmrl.policies.core import Policy, Request
from lmrl.policies.prompted import Prompt, PromptedPolicy, read_json, read_plain, transcript
from lmrl.rollout import Start, rollout
from lmrl.tasks.maze.env import Maze, OptimalPlayer, optimal_values, read_position
from lmrl.tasks.maze.grid import MOVES
from lmrl.text.trajectory import Turn

PROMPT = {
    "system": "You play.",
    "rules": "Say a word.",
    "actions": "A word is yes or no.",
    "examples": [{"history": ["One?\n", "yes\n", "Two?\n"], "thought": "Now the other.", "action": "no"}],
}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # nobody is there: local endpoints are asked directly
    with serving() as running:
        yield running


FAST = Retries(max=2, first=0.01, longest=0.02)


def endpoint(server: Server, **options: Any) -> ChatEndpoint:
    return ChatEndpoint(**{"model": "m", "base_url": server.url, "retries": FAST, "timeout": 20, **options})


def player(server: Server, *, prompt: Any = PROMPT, **options: Any) -> PromptedPolicy:
    own = {name: options.pop(name) for name in ("format", "keys", "reasks") if name in options}
    return PromptedPolicy(prompt=prompt, endpoint=endpoint(server, **options), **own)


def ask(text: str = "One?\n", seed: int = 0, turn: int = 0) -> Request:
    return Request((Turn(text, is_action=False),), seed=seed, turn=turn)


def texts(policy: Policy, *requests: Request) -> list[str]:
    return [action.text for action in policy.act(requests or [ask()])]


@pytest.fixture
def configured(compose: Callable, server: Server, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Build the environment and the policy of a task as an experiment does."""
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)

    def build(task: str, *overrides: str) -> tuple[DictConfig, PromptedPolicy]:
        cfg = compose(f"task={task}", "algo=prompted", "algo.policy.endpoint.model=m", *overrides)
        return cfg, instantiate(cfg.algo.policy)(prompt=OmegaConf.to_container(cfg.task.prompt, resolve=True))

    return build


# Playing.


def solve(handler: Handler, body: dict[str, Any]) -> None:
    """Answer with the best move after the newest observation."""
    newest = body["messages"][-1]["content"].split("Observation: ")[-1]
    (best,) = OptimalPlayer().act([Request((Turn(newest, is_action=False),))])
    handler.send(200, completion("Let me see.\n" + json.dumps({"thought": "{}", "action": best.text.strip()})))


def test_a_run_plays_and_reports_what_it_used(
    compose: Callable, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    from lmrl.experiment.run import run_as

    server.usual = solve
    arguments = [f"data_dir={tmp_path}/data", f"runs_dir={tmp_path}/runs", "tracking=none", "hardware=cpu",
                 "algo.policy.endpoint.model=solver", f"algo.policy.endpoint.base_url={server.url}",
                 "algo.policy.endpoint.price={prompt: 1, completion: 2}"]  # fmt: skip
    cfg = compose("task=maze", "algo=prompted", *arguments)
    run_as(cfg, {"task": "maze", "algo": "prompted", "model": "tiny"}, arguments)
    (path,) = (tmp_path / "runs").rglob("summary.json")
    summary = json.loads(path.read_text())
    assert (summary["algo"], summary["model"], summary["status"]) == ("prompted", "solver", "finished")
    assert (summary["evaluation"]["episodes"], summary["evaluation"]["return_mean"]) == (25, pytest.approx(-6.84))
    turns = summary["rollout"]["turns"]
    assert summary["usage"]["requests"] == turns == len(server.seen)
    assert summary["usage"]["prompt_tokens"] == 100 * turns
    assert summary["usage"]["cost"] == pytest.approx(turns * (100 + 2 * 10) / 1e6)
    assert "requests" in capsys.readouterr().out


def test_a_refusal_ends_a_run_with_its_message(compose: Callable, server: Server, tmp_path: Path) -> None:
    from lmrl.experiment.record import Results
    from lmrl.experiment.run import Run, _train_and_evaluate, prepare
    from lmrl.tracking.core import RunIdentity, Tracker

    server.usual = refuse(401, "wrong key")
    cfg = compose("task=maze", "algo=prompted", "algo.policy.endpoint.model=m", f"data_dir={tmp_path}",
                  f"algo.policy.endpoint.base_url={server.url}")  # fmt: skip
    task, materials = prepare(cfg)
    identity = RunIdentity("maze", "prompted", "m", 0, "0" * 6)
    results = Results(cfg.task, identity, task.evaluation_env, task.anchors, task.summary, tmp_path, Tracker())
    with pytest.raises(ConfigError, match="401"):
        _train_and_evaluate(Run(cfg, task, materials, results))


def test_a_model_that_plays_well_gets_the_optimal_return(configured: Callable, server: Server) -> None:
    server.usual = solve
    prices = ["algo.policy.endpoint.price.prompt=2.5", "algo.policy.endpoint.price.completion=10"]
    cfg, policy = configured("maze", *prices)
    env = Maze()
    starts = [Start(seed, options) for seed, options in enumerate(env.evaluation_starts())]
    played = rollout(instantiate(cfg.task.env), policy, starts, memory=cfg.task.memory, slots=10)
    best = optimal_values("double_t").values
    assert [episode.total_reward for episode in played] == [best[start.options["init_position"]] for start in starts]
    assert sum(episode.total_reward for episode in played) / 25 == -6.84
    assert all(turn.text in MOVES for episode in played for turn in episode.turns if turn.is_action)
    assert policy.usage == {
        **{"requests": 196, "retries": 0, "cut_off": 0, "unmetered": 0, "unparsable": 0},
        **{"prompt_tokens": 19600, "completion_tokens": 1960, "cost": 0.0686},
    }
    assert server.most <= 8
    said = {name: value for name, value in server.seen[0].body.items() if name not in ("messages", "seed")}
    assert said == {"model": "m", "temperature": 1.0, "top_p": 1.0, "max_tokens": 1024}
    assert {seen.path for seen in server.seen} == {"/v1/chat/completions"}


def test_what_cannot_be_read_is_an_invalid_action(configured: Callable, server: Server) -> None:
    server.usual = say("I would go north")
    cfg, policy = configured("maze", "task.env.max_steps=3")
    (episode,) = rollout(instantiate(cfg.task.env), policy, [Start(0)], memory=7)
    assert [turn.text for turn in episode.turns if turn.is_action] == ["", "", "", ""]
    assert episode.total_reward == -4 * 3 - 1
    assert episode.info["invalid_actions"] == 3
    assert (policy.usage["unparsable"], policy.usage["requests"]) == (4, 4)
    history = server.seen[-1].body["messages"][-1]["content"].splitlines()
    assert [line.split(":")[0] for line in history] == ["Observation", "Action"] * 3 + ["Observation", "Your answer"]


def test_the_chat_is_the_rules_the_examples_and_the_history(server: Server) -> None:
    history = (Turn("Three?\n", False), Turn("no\n", True), Turn("Four?\n", False))
    texts(player(server), Request(history))
    (system, user) = server.seen[0].body["messages"]
    assert system == {
        "role": "system",
        "content": "You play.\n\nSay a word.\n\nA word is yes or no.\n\n"
        'Answer with one JSON object and nothing else. It has the keys "thought", "action", in this order; "action" is '
        "played.\n\nExample 1\nObservation: One?\nAction: yes\nObservation: Two?\n"
        'Your answer: {"thought": "Now the other.", "action": "no"}',
    }
    assert user == {
        "role": "user",
        "content": "Observation: Three?\nAction: no\nObservation: Four?\nYour answer:",
    }
    texts(player(server, keys=["action"]))
    assert server.seen[-1].body["messages"][0]["content"].endswith('Your answer: {"action": "no"}')
    texts(player(server, format="plain"))
    assert server.seen[-1].body["messages"][0]["content"].endswith("Observation: Two?\nYour answer: no")


def test_answers_come_in_the_order_of_the_requests(server: Server) -> None:
    def echo(handler: Handler, body: dict[str, Any]) -> None:
        number = body["messages"][-1]["content"].split()[1]
        time.sleep(0.03 * (int(number) % 3))
        handler.send(200, completion(json.dumps({"action": number})))

    server.usual = echo
    assert texts(player(server), *(ask(f"{n}\n") for n in range(12))) == [f"{n}\n" for n in range(12)]
    assert player(server).act([]) == []


def test_no_more_requests_at_once_than_allowed(server: Server) -> None:
    together = threading.Barrier(3)

    def meet(handler: Handler, body: dict[str, Any]) -> None:
        together.wait(timeout=10)
        handler.send(200, completion('{"action": "yes"}'))

    server.usual = meet
    assert texts(player(server, concurrency=3), *[ask()] * 12) == ["yes\n"] * 12
    assert server.most == 3


def test_seeds_differ_between_episodes_and_turns_and_are_the_same_again(server: Server) -> None:
    requests = [ask(seed=seed, turn=turn) for seed in (0, 1) for turn in (0, 1)]
    policy = player(server, concurrency=1)
    texts(policy, *requests)
    texts(policy, *reversed(requests))
    seeds = [seen.body["seed"] for seen in server.seen]
    assert len(set(seeds)) == 4
    assert seeds[4:] == seeds[3::-1]
    texts(player(server, send_seed=False))
    assert "seed" not in server.seen[-1].body


# Reading answers.


@pytest.mark.parametrize(
    ("answer", "action"),
    [
        ('{"thought": "left", "action": "move up"}', "move up"),
        ('  {"action": " move up\\n"}\n', "move up"),
        ('```json\n{"thought": "a\nb", "action": "move up"}\n```', "move up"),
        ('Here it is: {"action": "move up"}. Good luck {you}!', "move up"),
        ('{"action": "move down"} no, rather {"thought": "x", "action": "move up"} {"other": 1}', "move up"),
        ('[{"action": "move up"}]', "move up"),
        ('{"action": 7}', "7"),
        ('{"action": "\\ud83d up"}', "? up"),
        ('{"thought": "the \\"action\\": {\\"action\\": 1}", "action": "move up"}', "move up"),
        ('{"thought": "move up"}', None),
        ('{"action": ""}', None),
        ('{"action": null}', None),
        ('{"action": true}', None),
        ('{"action": ["move up"]}', None),
        ('{"action": "move up"', None),
        ("{'action': 'move up'}", None),
        ("{" * 5000, None),
        ('{"a":' * 100_000, None),
        ("[" * 100_000 + "{", None),
        ("move up", None),
        ("", None),
    ],
)
def test_json_answers(answer: str, action: str | None) -> None:
    assert read_json(answer, "action") == action


@pytest.mark.parametrize(
    ("answer", "action"),
    [
        ("move up", "move up"),
        (" move up \n", "move up"),
        ("There is a wall.\n\nAction: move up\n", "move up"),
        ("```\nmove up\n```", "move up"),
        ("your answer :  move up", "move up"),
        ("Actions: none", "Actions: none"),
        ("Action:", None),
        ("```\n```", None),
        (" \n", None),
        ("", None),
    ],
)
def test_plain_answers(answer: str, action: str | None) -> None:
    assert read_plain(answer) == action


@pytest.mark.parametrize("content", ["no idea", '{"thought": "no"}', '{"action": "ye'])
def test_an_answer_without_an_action_is_asked_for_again_if_wanted(server: Server, content: str) -> None:
    server.script = [say(content)]
    policy = player(server)
    assert texts(policy) == [""]
    assert (policy.usage["requests"], policy.usage["unparsable"]) == (1, 1)
    server.script = [say(content), say(content)]
    policy = player(server, reasks=2)
    assert texts(policy) == ["yes\n"]
    assert (policy.usage["requests"], policy.usage["unparsable"], policy.usage["retries"]) == (3, 0, 0)
    assert (policy.usage["prompt_tokens"], policy.usage["completion_tokens"]) == (300, 30)
    messages = server.seen[-1].body["messages"]
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
    assert messages[2]["content"] == content
    assert messages[3]["content"].startswith("This cannot be read. Answer with one JSON object")
    assert len({seen.body["seed"] for seen in server.seen[-3:]}) == 3


def test_only_what_cannot_be_read_is_asked_for_again(server: Server) -> None:
    first = [say('{"action": "a"}'), say("?"), say('{"action": "c"}'), say("?")]
    server.script = [*first, say('{"action": "b"}'), say("?")]
    policy = player(server, reasks=1, concurrency=1)
    assert texts(policy, *[ask()] * 4) == ["a\n", "b\n", "c\n", ""]
    assert (policy.usage["requests"], policy.usage["unparsable"]) == (6, 1)


# Trouble.


@pytest.mark.parametrize(
    "trouble",
    [
        refuse(429),
        refuse(408),
        refuse(409),
        refuse(500, "oh no"),
        refuse(503, Retry_After="soon"),
        refuse(529),
        hang_up,
        break_off,
        refuse(200, "<html>welcome</html>"),
        refuse(200, "[" * 100_000),
        refuse(200, '{"error": {"message": "overloaded"}}'),
        refuse(200, '{"choices": []}'),
        refuse(200, '{"choices": [{"message": null}]}'),
        refuse(200, "[]"),
        refuse(200, "not gzip", Content_Encoding="gzip"),
    ],
)
def test_what_may_pass_is_tried_again(server: Server, trouble: Behaviour) -> None:
    server.script = [trouble, trouble]
    policy = player(server)
    assert texts(policy) == ["yes\n"]
    usage = policy.usage
    assert (usage["requests"], usage["retries"], usage["unparsable"], usage["prompt_tokens"]) == (3, 2, 0, 100)
    assert len({json.dumps(seen.body) for seen in server.seen}) == 1


@pytest.mark.parametrize("trouble", [late, trickle])
def test_an_answer_that_takes_too_long_is_given_up(server: Server, trouble: Behaviour) -> None:
    server.script = [trouble]
    policy = player(server, timeout=1)
    began = time.monotonic()
    assert texts(policy) == ["yes\n"]
    assert 1 <= time.monotonic() - began < 3
    assert policy.usage["retries"] == 1


def test_a_server_says_how_long_to_wait(server: Server) -> None:
    server.script = [refuse(429, Retry_After="0.5")]
    assert texts(player(server)) == ["yes\n"]
    assert server.seen[1].time - server.seen[0].time >= 0.5
    server.script = [refuse(429, "quota used up", Retry_After="601")]
    with pytest.raises(EndpointError, match=r"429 Too Many Requests \(it asks to wait 601 s, .*patience\): quota"):
        texts(player(server))
    assert len(server.seen) == 3


def test_waits_grow_up_to_a_limit_and_are_never_shorter_than_asked() -> None:
    retries = Retries(first=1.0, factor=3.0, longest=20.0)
    assert [retries.delay(failures, None, 0.0) for failures in (1, 2, 3, 4, 99)] == [1, 3, 9, 20, 20]
    assert [retries.delay(failures, None, 0.5) for failures in (1, 2, 99)] == [0.75, 2.25, 15]
    assert [retries.delay(9, 30.0, uniform) for uniform in (0.0, 0.5)] == [30, 30.5]
    assert [retry_after(text) for text in ("7", "0.5", "-3", "inf", "nan", "soon", None)] == [
        *(7, 0.5, 0, float("inf"), None, None, None)
    ]
    soon = retry_after(format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True))
    assert soon is not None
    assert 95 < soon <= 100
    assert retry_after(format_datetime(datetime.now(UTC) - timedelta(days=1), usegmt=True)) == 0


def test_an_endpoint_that_stays_broken_is_an_error_and_not_a_reward(server: Server) -> None:
    server.usual = refuse(500, "the disk\n is full")
    policy = player(server)
    said = (
        f"the model 'm' does not answer: POST {server.url}/chat/completions failed 3 times: "
        "500 Internal Server Error: the disk is full"
    )
    with pytest.raises(EndpointError) as caught:
        rollout(Maze, policy, [Start(0)], memory=1)
    assert str(caught.value) == said
    assert (policy.usage["requests"], policy.usage["retries"], policy.usage["unparsable"]) == (3, 2, 0)
    with pytest.raises(EndpointError, match="failed 1 time: 500"):
        texts(player(server, retries=Retries(max=0)))


def test_nobody_is_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        policy = PromptedPolicy(prompt=PROMPT, endpoint=ChatEndpoint(model="m", base_url=url, retries=FAST))
        with pytest.raises(EndpointError, match=rf"POST {url}/chat/completions failed 3 times: ConnectError"):
            texts(policy)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 307, 204])
def test_a_refusal_ends_the_run_at_once(server: Server, status: int) -> None:
    server.usual = refuse(status, "" if status == 204 else "no such thing", Location=server.url)
    policy = player(server, concurrency=1)
    with pytest.raises(
        EndpointError, match=rf"^the model 'm' does not answer: POST {server.url}/chat/completions: {status} "
    ):
        texts(policy, *[ask()] * 60)
    assert policy.usage["retries"] == 0
    assert len(server.seen) < 30  # a few may leave before the first answer is read, on a busy machine


def test_a_refusal_does_not_wait_for_the_others(server: Server) -> None:
    server.script = [refuse(500), refuse(500), refuse(401)]
    began = time.monotonic()
    with pytest.raises(EndpointError, match="401"):
        texts(player(server, retries=Retries(first=60.0)), *[ask()] * 3)
    assert time.monotonic() - began < 10


# Counting.


def test_cost_is_only_told_when_it_is_known(server: Server) -> None:
    price = {"prompt": 30, "completion": 60}
    cut_off = say('{"action": "a"} {"actio', usage=(12, 1024), finish="length")
    server.script = [say('{"action": "a"}', usage=(1001, 17)), cut_off]
    policy = player(server, price=price)
    texts(policy, ask(), ask())
    assert policy.usage["cost"] == (1013 * 30 + 1041 * 60) / 1e6 == 0.09285
    assert (policy.usage["cut_off"], policy.usage["unparsable"], policy.usage["unmetered"]) == (1, 0, 0)
    server.script = [say('{"action": "a"}', usage=None)]
    texts(policy)
    assert (policy.usage["cost"], policy.usage["unmetered"], policy.usage["prompt_tokens"]) == (None, 1, 1013)
    assert player(server).usage["cost"] is None
    assert player(server, price={"prompt": 0, "completion": 0}).usage["cost"] == 0
    assert all(value is None or type(value) in (int, float) for value in policy.usage.values())


# The key.


def test_the_key_is_sent_and_never_shown(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    policy = player(server)
    monkeypatch.setenv("OPENAI_API_KEY", KEY + "\n")
    shown = [repr(policy), repr(vars(policy)), repr(vars(policy.endpoint)), repr(vars(policy.endpoint._client))]

    def echo(handler: Handler, body: dict[str, Any]) -> None:
        handler.send(401, f"wrong key: {handler.headers['Authorization']}".encode())

    for trouble in ([echo], [hang_up] * 3, [refuse(500, KEY)] * 3, [refuse(200, KEY)] * 3):
        server.script = list(trouble)
        with pytest.raises(EndpointError) as caught:
            texts(policy)
        error = caught.value
        assert (error.__cause__, error.__context__) == (None, None)
        whole = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
        shown += [str(error), repr(error), whole]
        if trouble == [echo]:
            assert str(error).endswith("401 Unauthorized (is the key in OPENAI_API_KEY right?): wrong key: Bearer ***")
    texts(policy)
    assert {seen.headers["Authorization"] for seen in server.seen} == {f"Bearer {KEY}"}
    assert "httpcore2" in {record.name.split(".")[0] for record in caplog.records}
    captured = capfd.readouterr()
    for text in [*shown, caplog.text, captured.out, captured.err]:
        assert KEY not in text
        assert "very-Secret" not in text


def test_a_key_that_cannot_be_sent_is_not_shown(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = player(server)
    for broken in (f"{KEY}\nX: y", f"{KEY}é"):
        monkeypatch.setenv("OPENAI_API_KEY", broken)
        with pytest.raises(ValueError, match="OPENAI_API_KEY holds characters that no key has") as caught:
            texts(policy)
        whole = traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
        assert "very-Secret" not in "".join(line for line in whole if "in test_a_key" not in line)
    assert server.seen == []


def test_a_missing_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ValueError, match=r"variable OPENAI_API_KEY .* is not set; it must hold the key for api.openai"):
        ChatEndpoint(model="m")
    assert ChatEndpoint(model="m", api_key_env=None).key.read() == ""
    for local in ("http://localhost:8000/v1", "http://[::1]:8000/v1", "http://192.168.1.7/v1", "http://vllm:8000/v1"):
        ChatEndpoint(model="m", base_url=local)
    monkeypatch.setenv("OPENAI_API_KEY", " ")
    with pytest.raises(ValueError, match="is not set"):
        ChatEndpoint(model="m")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert ChatEndpoint(model="m").url == "https://api.openai.com/v1/chat/completions"
    with pytest.raises(ValueError, match=r"https: no key is sent to example\.org unencrypted"):
        ChatEndpoint(model="m", base_url="http://example.org/v1")


# Mistakes.


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"model": ""}, "model of ChatEndpoint must be a text that is not empty"),
        ({"api_key_env": KEY}, r"endpoint\.api_key_env must be the name"),
        ({"api_key_env": "gsk_" + "a" * 20}, r"endpoint\.api_key_env must be the name"),
        ({"base_url": "https://user" + ":Secret@host/v1"}, r"endpoint\.base_url"),
        ({"base_url": "https://host/v1?key=Secret"}, r"endpoint\.base_url"),
        ({"base_url": "host/v1"}, r"endpoint\.base_url"),
        ({"base_url": ""}, "base_url of ChatEndpoint must be a text that is not empty"),
        ({"base_url": "http://host:port/v1"}, r"endpoint\.base_url"),
        ({"concurrency": 0}, r"concurrency of ChatEndpoint must be at least 1"),
        ({"timeout": 0}, r"timeout of ChatEndpoint must be greater than 0"),
        ({"sampling": {"temperature": -1}}, r"endpoint\.sampling\.temperature"),
        ({"sampling": {"max_tokens": 0}}, r"endpoint\.sampling\.max_tokens"),
        ({"sampling": {"stream": True}}, r"endpoint\.sampling\.stream"),
        ({"price": {"prompt": 1}}, r"endpoint\.price\.completion"),
        ({"price": {"input": 1}}, r"endpoint\.price has only"),
    ],
)
def test_settings_that_cannot_be_right(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        ChatEndpoint(**{"model": "m", "base_url": "http://localhost/v1", **wrong})
    assert "Secret" not in str(caught.value)
    assert "gsk_" not in str(caught.value)


@pytest.mark.parametrize("wrong", [{"max": -1}, {"first": -1}, {"factor": 0.5}, {"longest": -1}, {"patience": -1}])
def test_waits_that_cannot_be_right(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"^{next(iter(wrong))} of Retries must be"):
        Retries(**wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"format": "xml"}, r"format of PromptedPolicy must be 'json' or 'plain', got 'xml'"),
        ({"reasks": -1}, r"reasks of PromptedPolicy must be at least 0"),
        ({"keys": []}, r"algo\.policy\.keys"),
        ({"keys": "action"}, r"keys of PromptedPolicy"),
        ({"keys": ["guess"]}, r"algo\.policy\.keys: example 1 of task\.prompt has no guess"),
        ({"prompt": None}, r"task\.prompt: this task has no prompt"),
        ({"prompt": {**PROMPT, "rulez": ""}}, r"task\.prompt must consist of actions, examples, rules, system"),
        ({"prompt": {**PROMPT, "examples": [{"history": ["a", "b"], "action": "c"}]}}, r"examples\[0\]\.history"),
        ({"prompt": {**PROMPT, "examples": [{"history": "a", "action": "c"}]}}, r"examples\[0\]\.history"),
        ({"prompt": {**PROMPT, "examples": [{"history": ["a"], "action": 1}]}}, r"examples\[0\] must have an answer"),
        ({"prompt": {**PROMPT, "examples": [{"history": ["a"]}]}}, r"examples\[0\] must have an answer"),
    ],
)
def test_prompts_that_cannot_be_right(wrong: dict[str, Any], message: str) -> None:
    local = ChatEndpoint(model="m", base_url="http://localhost/v1")
    with pytest.raises(ValueError, match=message):
        PromptedPolicy(**{"prompt": PROMPT, "endpoint": local, **wrong})


# The prompts of the tasks.


@dataclass
class Walk:
    """Plays an example's actions in the maze from every start at which its texts fit."""

    describe: str
    ends: list[tuple[int, int]] = field(default_factory=list)

    def of(self, history: list[str]) -> "Walk":
        env = Maze(describe=self.describe)
        for start in env.evaluation_starts():
            told = [env.reset(options=start)[0]]
            for action in history[1::2]:
                told.append(env.step(f"{action}\n")[0])
            if told == [f"{text}\n" for text in history[::2]]:
                self.ends.append(env.position)
        return self


@pytest.mark.parametrize("task", ["maze", "maze_po"])
def test_the_maze_is_explained_correctly(configured: Callable, task: str) -> None:
    cfg, policy = configured(task, "task.env.max_steps=77")
    assert "After 77 moves" in policy.instructions
    for move in Maze().legal_actions():
        assert cfg.task.prompt.actions.count(move.strip()) == 1
    greedy = optimal_values("double_t").greedy
    block: Any = OmegaConf.to_container(cfg.task.prompt, resolve=True)
    for example in block["examples"]:
        ends = Walk(cfg.task.env.describe).of(example["history"]).ends
        assert ends, "the maze never says this"
        assert all(f"{example['action']}\n" in greedy[end] for end in ends)
        assert f'"action": "{example["action"]}"' in policy.instructions
    prompt = Prompt.from_mapping(block)
    assert len(prompt.examples) == 4
    told = [read_position(transcript(example.history)) for example in prompt.examples]
    assert all((position is not None) == (task == "maze") for position in told)


def test_a_chat_may_be_asked_without_a_policy(server: Server) -> None:
    server.usual = say("hello")
    model = endpoint(server)
    assert model.complete([Chat(({"role": "user", "content": "hi"},), 3)]) == ["hello"]
    model.close()
    assert model.complete([Chat(({"role": "user", "content": "hi"},), 3)]) == ["hello"]
    assert server.seen[0].body == {"model": "m", "messages": [{"role": "user", "content": "hi"}], "seed": 3}
    assert isinstance(player(server), Policy)
