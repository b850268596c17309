"""The benchmark compares like with like: both sides compute the same losses, gradients and utterances."""

import copy
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from worlds import Sights, byte_level, random_lm

from lmrl.benchmark.__main__ import main
from lmrl.benchmark.reference import PlainILQL, plain_collate
from lmrl.benchmark.rollouts import Bounded, GenerateAfresh, lmrl_policy, play
from lmrl.benchmark.timing import Timing, interleave, ratios
from lmrl.benchmark.train_step import check_losses, model_operations
from lmrl.benchmark.workloads import Workload, workloads
from lmrl.models.backbone import trunk
from lmrl.rollout import Start
from lmrl.text.tokens import collate

ROOT = Path(__file__).parents[1]
NAMES = ("default", "4x128", "episodes", "distinct")


@pytest.fixture(scope="module")
def settings(compose: Callable, data_dir: Path) -> dict[str, Workload]:
    cfg = compose(
        "task=maze", "algo=ilql", "hardware=cpu", f"data_dir={data_dir}", "task.dataset.recipe.trajectories=30",
        "task.dataset.recipe.max_moves=20", "task.env.max_steps=20",
    )  # fmt: skip
    return {workload.name: workload for workload in workloads(cfg, steps=3, quick=True)}


@pytest.mark.parametrize("name", NAMES)
def test_both_sides_have_the_same_losses_while_they_train(settings: dict[str, Workload], name: str) -> None:
    assert check_losses(settings[name]) <= 1e-4


@pytest.mark.parametrize("per", ["token", "turn"])
@pytest.mark.parametrize("name", NAMES)
def test_both_sides_have_the_same_loss_and_gradients(settings: dict[str, Workload], name: str, per: str) -> None:
    workload = settings[name]
    ours = copy.deepcopy(workload.module)
    ours.discount_per = per
    plain = PlainILQL(ours)
    rows = workload.batches[0]
    loss, _ = ours.loss(collate(rows, pad_id=workload.pad_id))
    reference = plain.loss(plain_collate(rows, gamma=ours.gamma, per=per, pad_id=workload.pad_id))
    torch.testing.assert_close(loss, reference, atol=1e-4, rtol=1e-5)
    loss.backward()
    reference.backward()
    pairs = [*zip(trunk(ours.lm).parameters(), plain.trunk.parameters(), strict=True)]
    pairs += zip(ours.critic.q_heads.parameters(), [*plain.q1.parameters(), *plain.q2.parameters()], strict=True)
    pairs += zip(ours.critic.v_head.parameters(), plain.v.parameters(), strict=True)
    largest = max(float(p.grad.abs().max()) for _, p in pairs if p.grad is not None)
    assert largest > 1e-3
    for a, b in pairs:
        assert (a.grad is None) == (b.grad is None)
        if a.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, atol=1e-4 * largest, rtol=1e-3)


def test_different_weights_are_refused(settings: dict[str, Workload], monkeypatch: pytest.MonkeyPatch) -> None:
    workload = settings["default"]

    def other(module: object) -> PlainILQL:
        plain = PlainILQL(module)
        plain.expectile = 0.5
        return plain

    monkeypatch.setattr("lmrl.benchmark.train_step.PlainILQL", other)
    with pytest.raises(ValueError, match="lmrl's loss is"):
        check_losses(workload)


def test_distinct_rows_share_nothing(settings: dict[str, Workload]) -> None:
    workload = settings["distinct"]
    for rows in workload.batches:
        batch = collate(rows, pad_id=workload.pad_id)
        assert (batch.row_weight > 0).sum() == (batch.row_weight == 0).sum() == len(rows)
    merged = collate(settings["default"].batches[0], pad_id=workload.pad_id)
    assert int((merged.row_weight > 0).sum()) < int(merged.row_weight.sum()), "equal rows of the maze are merged"


def test_operations_are_those_of_the_matrix_products(settings: dict[str, Workload]) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    module = settings["4x128"].module
    body = trunk(module.lm)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        body(input_ids=torch.ones(1, 1, dtype=torch.int64), use_cache=False)
    # One token: the attention of a single key is 4 D operations in each layer.
    assert model_operations(module, [], [1], 0) == pytest.approx(counter.get_total_flops(), rel=0.01)
    once, twice = model_operations(module, [7], [], 3), model_operations(module, [7, 7], [], 6)
    assert twice == pytest.approx(2 * once)


@pytest.mark.parametrize("slots", [1, 3])
def test_generating_afresh_says_what_the_cached_policy_says(slots: int) -> None:
    codec = byte_level()
    lm = random_lm("gpt2", codec.size)
    sides = {"plain": lambda: GenerateAfresh(lm, codec, 5), "lmrl": lambda: lmrl_policy(lm, codec, 5)}
    starts = [Start(seed, {"turns": 4}) for seed in range(slots)]
    result = play(sides, lambda: Bounded(Sights(), 6), starts, 1)
    assert result["turns"] == 6 * slots
    assert result["tokens_said"] >= result["turns"]
    other = random_lm("gpt2", codec.size, seed=1)
    with pytest.raises(ValueError, match="different things"):
        play(sides | {"plain": lambda: GenerateAfresh(other, codec, 5)}, lambda: Bounded(Sights(), 6), starts, 1)


def test_legs_take_turns_and_ratios_are_of_neighbours() -> None:
    order: list[str] = []

    def leg(name: str, seconds: float) -> Callable[[], Timing]:
        def work() -> Timing:
            order.append(name)
            return Timing(wall=seconds * len(order), cpu=seconds)

        return work

    timings = interleave({"a": leg("a", 6.0), "b": leg("b", 2.0)}, repeats=2, warm_up=1)
    assert order == ["a", "b"] * 3
    compared = ratios(timings["a"], timings["b"])
    assert compared["cpu_median"] == pytest.approx(3.0)
    assert compared["wall_max"] == pytest.approx(6 * 5 / (2 * 6))
    with pytest.raises(ValueError, match="repeats"):
        interleave({}, 0)


def test_the_command_writes_its_report(
    tmp_path: Path, data_dir: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # the command sets it: put back what it was
    target = tmp_path / "benchmark.json"
    small = ["task.dataset.recipe.trajectories=30", "task.dataset.recipe.max_moves=20", "task.env.max_steps=20"]
    assert main(["task=maze", *small, f"data_dir={data_dir}", "--quick", "--to", str(target)]) == 0
    shown = capsys.readouterr().out
    assert "ILQL training step" in shown
    assert "Rollouts of 3 turns" in shown
    report = json.loads(target.read_text())
    assert [setting["name"] for setting in report["train_step"]] == list(NAMES)
    for setting in report["train_step"]:
        assert {"plain", "lmrl", "trainer"} <= set(setting["sides"])
        assert setting["loss_difference"] <= 1e-4
        for side in setting["sides"].values():
            assert side["cpu_seconds_per_1000_sampled_tokens"] > 0
            assert side["utilisation"] > 0
        assert setting["sides"]["lmrl"]["tokens_computed"] <= setting["sides"]["plain"]["tokens_computed"]
    assert all(setting["turns"] == 3 * setting["episodes"] for setting in report["rollout"])


def test_the_command_says_what_is_wrong(capsys: pytest.CaptureFixture) -> None:
    assert main(["task=nowhere", "--quick"]) == 1
    said = capsys.readouterr().err
    assert "nowhere" in said
    assert "Traceback" not in said
    with pytest.raises(SystemExit):
        main(["--repeats", "0"])
    assert "--repeats must be at least 1" in capsys.readouterr().err
