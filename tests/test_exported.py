"""An exported policy acts as the trained one did, from its own folder and nothing else."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import trained
from huggingface_hub import ModelCard
from torch import nn
from worlds import disturb

from lmrl.evaluation import evaluate, evaluation_starts
from lmrl.experiment.stage import build_stage
from lmrl.exported import PLAYER, load_exported, load_policy, write_card, write_player
from lmrl.play.__main__ import main
from lmrl.policies.core import Request
from lmrl.policies.decoding import Decoding
from lmrl.text.trajectory import Turn

ASKED = (
    Turn("The goal is at 8, 6. Your current position is at 5, 1. There are no walls near you.\n", is_action=False),
)


@pytest.fixture
def exported(compose: Callable, first_episodes: SimpleNamespace, tmp_path: Path) -> Callable[..., SimpleNamespace]:
    """Export an algorithm whose networks say something, though not after any training."""

    def made(algo: str, *overrides: str) -> SimpleNamespace:
        cfg = compose("task=maze", f"algo={algo}", *overrides)
        module, _ = build_stage(cfg.algo, first_episodes.materials.under(cfg))
        disturb(module)
        for network in module.acting_lms():
            nn.init.normal_(network.get_output_embeddings().weight, std=0.1, generator=torch.Generator().manual_seed(1))
        folder = tmp_path / "policy"
        module.eval().export(folder)
        write_player(folder, module, task="maze", memory=cfg.task.memory)
        return SimpleNamespace(module=module, folder=folder, task=first_episodes.task, memory=cfg.task.memory)

    return made


@pytest.mark.parametrize("algo", trained())
def test_every_method_acts_from_its_folder_as_it_did(algo: str, exported: Callable) -> None:
    """The same words with the same probabilities, after the beginnings of recorded episodes."""
    found = exported(algo)
    loaded = load_exported(found.folder)
    assert (loaded.task, loaded.memory) == ("maze", found.memory)
    told = [episode.turns[:length] for episode in found.task.dataset.trajectories[:8] for length in (1, 3)]
    asked = [Request(history, slot, seed=slot, earned=-1.0) for slot, history in enumerate(told)]
    ours, theirs = (policy.act(asked) for policy in (found.module.policy(), loaded.policy))
    assert len({action.text for action in ours}) > 1
    for one, other in zip(ours, theirs, strict=True):
        assert one.tokens == other.tokens
        assert one.log_probs == pytest.approx(other.log_probs, abs=1e-5)


def test_decoding_belongs_to_the_export(exported: Callable) -> None:
    found = exported("ilql", "algo.decoding.temperature=0", "algo.decoding.support=0.3", "algo.module.beta=2")
    loaded: Any = load_policy(found.folder)
    assert (loaded.decoding.temperature, loaded.decoding.support) == (0, 0.3)
    assert loaded.act([Request(ASKED)])[0].tokens == found.module.policy().act([Request(ASKED)])[0].tokens


def test_transformers_alone_says_the_same(exported: Callable) -> None:
    """In a process that has never heard of lmrl."""
    found = exported("bc", "algo.decoding.temperature=0")
    asked = [(Turn(f"Your current position is at {x}, {y}.\n", is_action=False),) for x in range(9) for y in range(9)]
    actions = found.module.policy().act([Request(history, slot) for slot, history in enumerate(asked)])
    said, history = max(zip(actions, asked, strict=True), key=lambda pair: len(pair[0].tokens))
    assert len(said.tokens) > 1
    program = """
import sys
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, text, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
tokenizer, lm = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
said = lm.generate(ids, max_new_tokens=count, do_sample=False)[0, ids.shape[1]:]
print(*said.tolist())
assert not any(name.startswith("lmrl") for name in sys.modules)
"""
    arguments = [str(found.folder), history[0].text, str(len(said.tokens))]
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert tuple(map(int, done.stdout.split())) == said.tokens


def test_an_export_plays_in_the_terminal_wherever_it_lies(
    exported: Callable, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    place = shutil.move(exported("bc").folder, tmp_path / "elsewhere")
    assert main(["task=maze", "--player", str(place), "--episodes", "3"]) == 0
    assert "3 episodes: return" in capsys.readouterr().out
    assert main(["task=wordle", "--player", str(place)]) == 1
    assert "this policy was trained for maze, not for wordle" in capsys.readouterr().err


def test_the_card_says_what_it_is(exported: Callable) -> None:
    found = exported("ilql")
    starts = evaluation_starts(found.task.make_env, 1, 0, stream="test", limit=4)
    evaluation = evaluate(found.module.policy(), found.task.make_env, starts, memory=found.memory)
    write_card(found.folder, task="maze", algo="ilql", model="tiny", evaluation=evaluation)
    card = (found.folder / "README.md").read_text()
    assert "algo=ilql" in card
    assert f"Over 4 evaluation episodes its mean return is {evaluation.summary(None)['return_mean']:.2f}." in card
    assert "without the guidance of its critic" in card
    assert "{" not in card
    data = ModelCard(card).data
    assert (data.license, data.base_model, data.library_name) == ("apache-2.0", None, "transformers")
    assert {result.metric_type: result.metric_value for result in data.eval_results} == {
        "mean_reward": evaluation.summary(None)["return_mean"], "success_rate": 0.0,
    }  # fmt: skip
    write_card(found.folder, task="maze", algo="bc", model="gpt2", evaluation=evaluation, base_model="gpt2")
    data = ModelCard.load(found.folder / "README.md").data
    assert (data.license, data.base_model) == (None, "gpt2")


def test_plain_generation_ends_where_an_action_ends(exported: Callable) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = exported("bc").folder
    lm, words = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    asked = words(ASKED[0].text, add_special_tokens=False, return_tensors="pt")
    torch.manual_seed(0)
    said = lm.generate(**asked, do_sample=True, max_new_tokens=200)[0, asked["input_ids"].shape[1] :].tolist()
    ends = set(lm.generation_config.eos_token_id)
    assert words.encode("\n", add_special_tokens=False)[-1] in ends
    assert words.eos_token_id in ends
    assert [token for token in said if token in ends] == said[-1:]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda says: says | {"format": 2}, r"player\.json has format 2, but this version reads 1"),
        (lambda says: says | {"reranks": True}, "a reranking policy cannot be loaded"),
        (lambda says: "{", r"player\.json is damaged: line 1 is not JSON"),
    ],
)
def test_what_cannot_be_loaded_is_told(exported: Callable, change: Callable, message: str) -> None:
    folder = exported("bc").folder
    says = change(json.loads((folder / PLAYER).read_text()))
    (folder / PLAYER).write_text(says if isinstance(says, str) else json.dumps(says))
    with pytest.raises(ValueError, match=message):
        load_policy(folder)


def test_another_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"is not an exported policy: it has no player\.json"):
        load_policy(tmp_path)


def test_reranking_is_told_when_it_is_exported(exported: Callable) -> None:
    found = exported("bc")
    assert found.module.decoding == Decoding()
    found.module.rerank = {"proposals": ["move up\n"]}
    write_player(found.folder, found.module, task="maze", memory=1)
    with pytest.raises(ValueError, match="a reranking policy cannot be loaded"):
        load_policy(found.folder)
