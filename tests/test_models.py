"""Pretrained models of several architectures, adapters, and value heads."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from architectures import build as build_model
from tokenizers import normalizers, pre_tokenizers
from worlds import CODECS, byte_level, save_pretrained_model

from lmrl.config.checks import ConfigError, check_config
from lmrl.datamodules.sampling import EpochSampler
from lmrl.experiment.materials import build_materials
from lmrl.experiment.stage import build_stage
from lmrl.experiment.task import load_task
from lmrl.models import backbone, loading
from lmrl.models.heads import ValueHead
from lmrl.models.tokenizer import build, load
from lmrl.policies.core import Request
from lmrl.text.tokens import collate
from lmrl.text.trajectory import Turn

ARCHITECTURES = ("gpt2", "llama", "qwen2")
LORA = "model.lora={r: 2, lora_alpha: 4, target_modules: all-linear}"


def built(compose: Callable, data_dir: Path, folder: Path, *overrides: str) -> tuple:
    cfg = compose(
        "task=maze", "algo=ilql", "model=hub", f"model.path={folder}", f"data_dir={data_dir}", *overrides
    )  # fmt: skip
    task = load_task(cfg.task)
    task.dataset.trajectories[:] = task.dataset.trajectories[:10]
    module, datamodule = build_stage(cfg.algo, build_materials(cfg, task))
    rows = module.prepare(datamodule.episodes())
    return cfg, task, module, collate(rows[:8], pad_id=module.codec.pad_id)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_any_architecture_trains_acts_and_comes_back(
    compose: Callable, data_dir: Path, tmp_path: Path, architecture: str
) -> None:
    source = save_pretrained_model(tmp_path / architecture, architecture)
    _, task, module, batch = built(compose, data_dir, source)
    before = module.policy().log_probs(batch)
    optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        module.loss(batch)[0].backward()
        optimizer.step()
        module.after_step()
    assert not torch.allclose(module.policy().log_probs(batch), before)
    observation = task.make_env().reset(seed=0)[0]
    (action,) = module.policy().act([Request((Turn(observation, False),))])
    assert action.tokens

    module.export(tmp_path / "export")
    codec = load(path=str(tmp_path / "export"))
    prior = loading.pretrained(codec, path=str(tmp_path / "export"))
    critic = loading.pretrained(codec, path=str(tmp_path / "export" / "critic"))
    for ours, theirs in ((module.prior, prior), (module.lm, critic)):
        with torch.no_grad():
            torch.testing.assert_close(
                backbone.hidden_states(ours, batch.tokens), backbone.hidden_states(theirs, batch.tokens)
            )


def test_adapters_train_little_and_leave_the_rest_alone(compose: Callable, data_dir: Path, tmp_path: Path) -> None:
    source = save_pretrained_model(tmp_path / "llama", "llama")
    _, _, module, batch = built(compose, data_dir, source, LORA)
    trained = {name for name, p in module.lm.named_parameters() if p.requires_grad}
    assert trained
    assert all("lora" in name for name in trained)
    frozen = {name: p.clone() for name, p in module.lm.named_parameters() if name not in trained}
    optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        module.loss(batch)[0].backward()
        optimizer.step()
    assert all(torch.equal(p, frozen[name]) for name, p in module.lm.named_parameters() if name in frozen)
    module.export(tmp_path / "export")
    merged = loading.pretrained(module.codec, path=str(tmp_path / "export" / "critic"))
    with torch.no_grad():
        torch.testing.assert_close(
            backbone.hidden_states(merged, batch.tokens), backbone.hidden_states(module.lm, batch.tokens),
            rtol=1e-4, atol=1e-4,
        )  # fmt: skip


def test_a_pad_token_is_added_with_room_in_the_model(tmp_path: Path) -> None:
    source = save_pretrained_model(tmp_path / "llama", "llama", pad_token=False)
    codec = load(path=str(source))
    assert codec.pad_id == codec.size - 1
    lm = loading.pretrained(codec, path=str(source))
    assert lm.get_input_embeddings().num_embeddings >= codec.size


@pytest.mark.parametrize("nested", [False, True])
def test_a_space_before_every_text_is_switched_off(tmp_path: Path, nested: bool) -> None:
    """Turns are encoded one by one, so it would stand before each: `move up` would be said as ` move up`."""
    codec, spaced = byte_level(), pre_tokenizers.ByteLevel(add_prefix_space=True)
    backend = codec.tokenizer.backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(), spaced]) if nested else spaced
    assert codec.decode(codec.encode("move up\n")) == " move up\n"
    with pytest.raises(ValueError, match="comes back as ' move up"):
        codec.check(["move up\n"])
    codec.tokenizer.save_pretrained(tmp_path / "once")
    (tmp_path / "once" / "config.json").write_text("{}")
    loaded = load(path=str(tmp_path / "once"))
    loaded.check(["move up\n", " a space\n", "You see 12 elms.\n"])
    loaded.tokenizer.save_pretrained(tmp_path / "again")
    (tmp_path / "again" / "config.json").write_text("{}")
    assert load(path=str(tmp_path / "again")).encode("move up\n") == loaded.encode("move up\n")


def test_a_space_that_cannot_be_switched_off_is_refused(tmp_path: Path) -> None:
    codec = byte_level()
    codec.tokenizer.backend_tokenizer.normalizer = normalizers.Prepend(" ")
    codec.tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="its tokenizer puts a space before every text"):
        load(path=str(tmp_path))


def test_a_pad_token_that_is_text_is_not_padding(tmp_path: Path) -> None:
    codec = CODECS["llama"]()
    codec.tokenizer.pad_token = codec.tokenizer.unk_token
    codec.tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    loaded = load(path=str(tmp_path))
    assert loaded.pad_id not in (loaded.tokenizer.unk_token_id, loaded.tokenizer.eos_token_id)


def test_the_window_of_a_small_model_is_enforced(compose: Callable, data_dir: Path, tmp_path: Path) -> None:
    source = save_pretrained_model(tmp_path / "gpt2", "gpt2", window=32)
    with pytest.raises(ConfigError, match="reads at most 32"):
        built(compose, data_dir, source, "task.memory=40")[0]


def test_a_sliding_window_is_a_window(compose: Callable, data_dir: Path, tmp_path: Path) -> None:
    """Longer histories would be read in one way in training and in another while acting."""
    codec = CODECS["llama"]()
    codec.tokenizer.save_pretrained(tmp_path)
    build_model("mistral", codec.size, sliding_window=32).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="reads at most 32"):
        built(compose, data_dir, tmp_path, "task.memory=40")


@pytest.mark.parametrize(("path", "said"), [("./missing/model", "no such folder"), ("conf", "no config.json")])
def test_a_wrong_model_path_is_named(path: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"{path}.*{said}"):
        load(path=path if path.startswith(".") else str(Path(__file__).parents[1] / path))


def test_the_built_tokenizer_depends_on_the_set_of_texts_alone() -> None:
    texts = ["move left\n", "You are at 1 2.\n", "move up\n"]
    first, second = build(texts, vocab_size=300), build([*reversed(texts), *texts], vocab_size=300)
    for text in [*texts, "never seen: äß 12\n"]:
        assert first.encode(text) == second.encode(text)
        assert first.decode(first.encode(text)) == text
    digits = [first.decode((i,)) for i in first.encode("You are at 1 2.\n") if "1" in first.decode((i,))]
    assert digits == ["1"]


def test_tokens_end_where_the_task_says() -> None:
    """Each rank of a board is then one token, wherever the board has it; digits may be parts of tokens."""
    texts = [f"{a} k {7 - a} / {b} K {7 - b} / 8   w   {a}\n" for a in range(1, 7) for b in range(1, 7)]
    codec = build(texts, vocab_size=420, token_ends=" / |   ")
    for text in texts:
        pieces = [codec.decode([int(token)]) for token in codec.encode(text)]
        assert pieces == [text[:8], text[8:16], "8   ", "w   ", text[-2:]]
    apart = build(texts, vocab_size=420)
    pieces = [apart.decode([int(token)]) for token in apart.encode(texts[0])]
    assert all(len(piece) == 1 for piece in pieces if any(map(str.isdigit, piece)))
    with pytest.raises(ValueError, match=r"token_ends='\(' is no regular expression"):
        build(texts, token_ends="(")


def test_runs_of_empty_squares_are_read_as_squares() -> None:
    """With two squares to a token, a square has the same place on every board, and no other digit is touched."""
    boards = ["r 1 b 5 / 8 / 3 P 3 K   w   3\n", "8 / p 6 r / 2 K 2 k 2   w   21\n", "1 r 6 / 8 / 7 K   w   8\n"]
    codec = build(
        [*boards, "K f 3\n"], vocab_size=420, token_ends=r"\S \S (/ )?(?=.*   w )|   ", runs_before=".*   w   "
    )
    for text in [*boards, "K f 3\n", "e x d 8\n", "a 6   w   7\n"]:
        assert codec.decode(codec.encode(text)) == text
    pieces = [codec.decode([token]) for token in codec.encode(boards[0])]
    assert pieces == [
        *("r 1 ", "b 1 ", "2 ", "2 / "),
        *("2 ", "2 ", "2 ", "2 / "),
        *("2 ", "1 P ", "2 ", "1 K   "),
        "w   ",
        "3\n",
    ]
    assert [len(codec.encode(text)) for text in boards] == [14, 14, 14]
    assert [codec.decode([token]) for token in codec.encode("K f 3\n")] == ["K f 3\n"]
    with pytest.raises(ValueError, match=r"runs_before='\(' is no regular expression"):
        build(boards, runs_before="(")


def test_whole_parts_are_tokens_by_how_frequent_they_are() -> None:
    """A guess is then one decision; what has no token of its own is written byte by byte, and comes back."""
    guesses = ["c l o u d\n", "c l o w n\n", "b r o w n\n"]
    marks = ["g b y b b\n", "b b b b g\n"]
    ends = r"\A(?!([gyb] ){4}[gyb]\n)[^\n]*\n|[gyb][ \n]"
    codec = build([*guesses, *marks], vocab_size=400, token_ends=ends, whole=True)
    assert [len(codec.encode(text)) for text in [*guesses, *marks]] == [1, 1, 1, 5, 5]
    assert codec.encode("g b y b b\n")[1] == codec.encode("b b b b g\n")[0]
    for text in [*guesses, *marks, "q u i c k\n", "g g g g g\n", "äß\n"]:
        assert codec.decode(codec.encode(text)) == text
    assert len(codec.encode("q u i c k\n")) == 10
    many = [f"{a} {b} u i {c}\n" for a in "lmnp" for b in "rstv" for c in "dfkt"]
    few = build([*many, *marks], vocab_size=300, token_ends=ends, whole=True)
    assert few.size == 300
    assert few.decode([258]) == "b ", "the most frequent part comes first"
    assert {len(few.encode(text)) for text in many} == {1, 10}


def test_spelled_tokens_begin_alike_as_far_as_their_characters_are() -> None:
    """Words that share letters at their places begin with similar vectors, in and out; the rest is as without."""
    words = ["c l o u d\n", "c l o w n\n", "b r i s k\n", "l c u o d\n"]
    codec = build(words, vocab_size=400, token_ends="\n", whole=True)
    ids = [codec.encode(word)[0] for word in words]
    for positions in ("absolute", "relative"):
        make = partial(backbone.from_scratch, codec, width=256, heads=4, positions=positions, seed=3)
        plain, spelled = make(), make(spelled=True)
        for name in ("get_input_embeddings", "get_output_embeddings"):
            vectors = getattr(spelled, name)().weight.detach()
            cloud, clown, brisk, mixed = torch.nn.functional.normalize(vectors[ids], dim=-1)
            assert abs(float(cloud @ clown) - 3 / 5) < 0.2
            assert abs(float(cloud @ brisk)) < 0.2
            assert abs(float(cloud @ mixed) - 1 / 5) < 0.2, "a letter elsewhere is another one"
            assert 0.8 < float(vectors[ids].std() / plain.get_input_embeddings().weight.detach().std()) < 1.2
            others = [i for i in range(codec.size) if i not in ids]
            assert torch.equal(vectors[others], getattr(plain, name)().weight[others])
        assert torch.equal(make(spelled=True).get_input_embeddings().weight, spelled.get_input_embeddings().weight)


def test_relative_positions_see_distances_alone() -> None:
    """Behind the same tokens the next one is predicted alike wherever they stand; with absolute positions it is not."""
    codec = build(["abc\n"], vocab_size=300)
    row = torch.arange(5, 11)[None]
    shifts = {}
    for positions in ("relative", "absolute"):
        lm = backbone.from_scratch(codec, width=32, positions=positions).eval()
        with torch.no_grad():
            places = torch.arange(6)[None]
            early, late = (lm(input_ids=row, position_ids=places + shift).logits for shift in (0, 40))
        shifts[positions] = float((early - late).abs().max())
    assert shifts["relative"] < 1e-4 < 1e-2 < shifts["absolute"]


def test_other_positions_are_refused(compose: Callable) -> None:
    with pytest.raises(ConfigError, match=r"model\.lm\.positions must be 'absolute' or 'relative', got 'rotary'"):
        check_config(compose("task=maze", "algo=bc", "model.lm.positions=rotary"))


def test_a_value_head_starts_at_its_bias() -> None:
    head = ValueHead(width=8, outputs=3, bias=-4.4)
    values = head(torch.randn(5, 8))
    assert torch.equal(values, torch.full((5, 3), -4.4))


def test_epochs_repeat_and_ranks_share_them() -> None:
    import numpy as np

    lengths = np.arange(1, 101)

    def epoch(number: int, rank: int = 0, world: int = 1, size: int = 10, pool: int = 16) -> list[list[int]]:
        sampler = EpochSampler(lengths, batch_size=size, batches=10, seed=3, rank=rank, world_size=world, pool=pool)
        sampler.set_epoch(number)
        return list(sampler)

    assert epoch(4) == epoch(4)
    assert epoch(4) != epoch(5)
    assert sorted(i for batch in epoch(0) for i in batch) == list(range(100))
    halves = [epoch(2, rank=rank, world=2, size=5) for rank in (0, 1)]
    assert sorted(i for half in halves for batch in half for i in batch) == list(range(100))
    spread = [np.mean([np.ptp(lengths[batch]) for batch in epoch(0, pool=pool)]) for pool in (16, 1)]
    assert spread[0] < 20  # batches of similar lengths
    assert spread[1] > 60  # and of all
