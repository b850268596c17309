"""Tests of chat formats and thoughts of a partner's model on this machine."""

import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer
from worlds import save_pretrained_model

from lmrl.partners.model import PartnerModel, load
from lmrl.partners.partners import LocalPartner, PartnerError
from lmrl.policies.core import Action, Request
from lmrl.text.trajectory import Turn

PROMPT = {
    "system": "It is a {object}.",
    "template": "{utterance}",
    "examples": [{"utterance": "Is it a cup?", "reply": "No."}],
}
SECRET = "The word is walrus."
EACH = "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}<me>{% endif %}"
FORMATS = {
    "raises": "{% if messages[0].role == 'system' %}{{ raise_exception('No system role') }}{% endif %}" + EACH,
    "alternates": "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}{% endfor %}" + EACH,
    "drops": EACH.replace("<{{ m.role }}>", "{% if m.role != 'system' %}<{{ m.role }}>").replace(
        "\n{% endfor %}", "\n{% endif %}{% endfor %}"
    ).replace("{{ m.content }}", "{{ m.content }}"),
}  # fmt: skip


def ask(question: str = "Is it red?\n") -> Request:
    return Request((Turn('{"object": "walrus"}', is_action=False), Turn(question, is_action=False)))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pretrained_model(tmp_path_factory.mktemp("model") / "gpt2", "gpt2")


def written(model: Path, folder: Path, chat_template: str, **options: Any) -> LocalPartner:
    """Build a partner whose model has a chat format."""
    shutil.copytree(model, folder)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = chat_template
    tokenizer.save_pretrained(folder)
    return LocalPartner(prompt=PROMPT, model=str(folder), **{"max_new_tokens": 60, "device": "cpu", **options})


def saying(monkeypatch: pytest.MonkeyPatch, partner: LocalPartner, *texts: str) -> None:
    """Let the model write these texts, one for each prompt of a batch."""
    import torch

    loaded = load(partner.model.weights)
    rows = [loaded.tokenizer(text).input_ids for text in texts]
    longest = max(map(len, rows))

    def generate(**arguments: Any) -> Any:
        padded = [row + [loaded.tokenizer.eos_token_id] * (longest - len(row)) for row in rows]
        return torch.cat([arguments["input_ids"].cpu(), torch.tensor(padded)], dim=1)

    monkeypatch.setattr(loaded.model, "generate", generate)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_chat_format_without_a_system_role_is_told_in_the_first_turn(model: Path, tmp_path: Path, kind: str) -> None:
    partner = written(model, tmp_path / "m", FORMATS[kind])
    text = load(partner.model.weights).tokenizer.decode(partner.model.encode(partner._question(ask()).messages))
    assert text == "<user>It is a walrus.\n\nIs it a cup?\n<assistant>No.\n<user>Is it red?\n<me>"


def test_a_chat_format_that_refuses_all_is_told(model: Path, tmp_path: Path) -> None:
    partner = written(model, tmp_path / "m", "{{ raise_exception('not today') }}")
    with pytest.raises(
        ValueError, match=r"^partner\.model: its chat format refuses the prompt: not today; partner\.chat"
    ):
        partner.act([ask()])


@pytest.mark.parametrize(
    ("begun", "text"),
    [
        ("", f"<think>\n{SECRET}\n</think>\n\nYes."),
        ("<think>\n", f"{SECRET}\n</think>\n\nYes."),
        ("", f"{SECRET}</think>Yes."),
        ("[THINK]", f"{SECRET}[/THINK]Yes."),
        ("", f"<|channel|>analysis<|message|>{SECRET}<|end|><|start|>assistant<|channel|>final<|message|>Yes."),
    ],
)
@pytest.mark.parametrize("first_line", [False, True])
def test_a_thought_is_not_spoken(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: str, text: str, *, first_line: bool
) -> None:
    partner = written(model, tmp_path / "m", EACH.replace("<me>", f"<me>{begun}"), first_line=first_line)
    assert partner.model.begun == begun.strip()
    saying(monkeypatch, partner, text)
    assert partner.act([ask()]) == [Action("Yes.\n")]


@pytest.mark.parametrize(
    ("begun", "text"), [("", f"<think>{SECRET}"), ("<think>\n", SECRET), ("", f"<think>{SECRET}</think>")]
)
def test_a_thought_without_an_end_is_an_error(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: str, text: str
) -> None:
    cache = tmp_path / "r.sqlite"
    partner = written(model, tmp_path / "m", EACH.replace("<me>", f"<me>{begun}"), cache=str(cache))
    answered = f"{'' if begun else '<think>'}x</think>Yes."
    saying(monkeypatch, partner, text, answered)
    message = (
        r"^the partner '.*' does not answer: it thought for all of its 60 tokens .* raise partner\.max_new_tokens$"
    )
    with pytest.raises(PartnerError, match=message):
        partner.act([ask(), ask("Is it as blue as the sky?\n")])
    with sqlite3.connect(cache) as connection:
        assert connection.execute("SELECT reply FROM replies").fetchall() == [("Yes.",)], "only what was answered"


def test_marks_that_are_special_tokens_are_read(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    partner = written(model, tmp_path / "m", EACH)
    tokenizer = load(partner.model.weights).tokenizer
    tokenizer.add_special_tokens({"additional_special_tokens": ["[THINK]", "[/THINK]", "<|stop|>"]})
    saying(monkeypatch, partner, f"[THINK]{SECRET}[/THINK]Yes.<|stop|>")
    assert partner.act([ask()]) == [Action("Yes.\n")]
    load.cache_clear()


def test_a_line_of_a_thought_does_not_end_the_reply(model: Path, tmp_path: Path) -> None:
    from lmrl.partners.model import _LineEnd

    partner: PartnerModel = written(model, tmp_path / "m", EACH).model
    tokenizer = load(partner.weights).tokenizer
    texts = [
        f"<think>\n{SECRET}\n",
        f"<think>\n{SECRET}\n</think>\n\nYes",
        f"<think>\n{SECRET}\n</think>\n\nYes\n",
        "Yes\n",
    ]
    ended = []
    for text in texts:
        rows = tokenizer([text], return_tensors="pt").input_ids
        ended += _LineEnd(partner, 0, "")(rows, None).tolist()
    assert ended == [False, False, True, True]
