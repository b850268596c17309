"""Training on several processes, replicated or sharded, equals training on one."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import trained
from hydra.utils import instantiate
from omegaconf import OmegaConf
from processes import Job, together, train
from safetensors.torch import load_file
from torch import nn
from worlds import random_lm

from lmrl.config.checks import ConfigError
from lmrl.experiment.hardware import Sharded, machine
from lmrl.functional import global_batch, mean_over_processes, weighted_mean
from lmrl.models.critic import new_critic
from lmrl.models.sharding import blocks, compile_blocks, emptied, fill, recompute_activations, whole

ALGOS = ("bc", "ilql", "ppo")  # as `method` below: one worker runs this file, whose trainings are made once
KEYS = ("algo.accumulate=2", "algo.gradient_clip=0.1", "hardware.activation_checkpointing=true")
MUON = ("+algo.optimizer._target_=lmrl.models.optim.Muon", "+algo.optimizer._partial_=true")
BROKEN_AT = 4


def close(found: dict[str, Any], expected: dict[str, Any], after: int = 0) -> None:
    """Compare what two trainings reported at each step."""
    steps = {int(step): told for step, told in found["steps"].items() if int(step) > after}
    assert list(steps) == [step for step in expected["steps"] if step > after]
    for step, told in steps.items():
        assert told.keys() == expected["steps"][step].keys()
        assert told == pytest.approx(expected["steps"][step], rel=1e-5, abs=1e-5), step


def checkpoint(found: dict[str, Any]) -> dict[str, Any]:
    return torch.load(Path(found["job"]["folder"]) / "checkpoints" / "latest.ckpt", weights_only=True)


def same_ends(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Compare checkpoints: the same names, shapes and counts, and nearly the same numbers."""
    ours, theirs = checkpoint(found), checkpoint(expected)
    assert ours.keys() == theirs.keys()
    assert ours["global_step"] == theirs["global_step"]
    assert list(ours["state_dict"]) == list(theirs["state_dict"])
    # Adam divides by the size of gradients, so where these are almost zero it enlarges the error of rounding.
    torch.testing.assert_close(ours["state_dict"], theirs["state_dict"], rtol=0, atol=2e-3)
    moved = [(ours["state_dict"][name] - value).abs().mean() for name, value in theirs["state_dict"].items()
             if value.is_floating_point()]  # fmt: skip
    assert max(moved) < 1e-4
    torch.testing.assert_close(ours["optimizer_states"], theirs["optimizer_states"], rtol=1e-3, atol=1e-4)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """All trainings of this file: on one process here, and on two real ones that do everything in one start."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("hardware")

    def job(algo: str, hardware: str, processes: int, name: str, *overrides: str, kill_at: int | None = None) -> Job:
        place = str(folder / f"{algo}-{name}")
        return Job(algo, hardware, processes, place, str(folder / "data"), kill_at, overrides)

    one = {algo: train(job(algo, "cpu", 1, "one")) for algo in ALGOS}
    one["keys"] = train(job("ilql", "cpu", 1, "keys", "algo.accumulate=2", "algo.gradient_clip=0.1"))
    one["muon"] = train(job("bc", "cpu", 1, "muon", *MUON))
    half = "hardware.precision=bf16-mixed"
    one["half"] = train(job("bc", "cpu", 1, "half", half))
    train(job("ilql", "cpu", 1, "begun-by-one", kill_at=BROKEN_AT + 1))
    jobs = {(algo, hardware): job(algo, hardware, 2, hardware) for algo in ALGOS for hardware in ("ddp", "fsdp2")}
    jobs["ilql", "keys"] = job("ilql", "fsdp2", 2, "two-keys", *KEYS)
    jobs["bc", "muon"] = job("bc", "fsdp2", 2, "two-muon", *MUON)
    jobs["bc", "half"] = job("bc", "fsdp2", 2, "two-half", half)
    jobs["ilql", "begun by one"] = job("ilql", "fsdp2", 2, "begun-by-one")
    jobs["ilql", "broken"] = job("ilql", "fsdp2", 2, "begun-by-two", kill_at=BROKEN_AT + 1)
    ranks = together(list(jobs.values()), folder / "two")
    two = {name: [found[index] for found in ranks] for index, name in enumerate(jobs)}
    one["begun by two"] = train(job("ilql", "cpu", 1, "begun-by-two"))
    return SimpleNamespace(one=one, two=two)


@pytest.mark.parametrize("hardware", ["ddp", "fsdp2"])
@pytest.mark.parametrize("method", ALGOS)
def test_two_processes_equal_one(world: SimpleNamespace, method: str, hardware: str) -> None:
    """Each step's losses are those of the whole batch, on both; so are episodes, and in the end weights and exports."""
    expected = world.one[method]
    assert len(expected["steps"]) == 6
    for found in world.two[method, hardware]:
        close(found, expected)
        assert found["interactions"] == expected["interactions"]
        assert found["return"] == pytest.approx(expected["return"])
    found = world.two[method, hardware][0]
    same_ends(found, expected)
    folders = [Path(one["job"]["folder"]) / "policy" for one in (found, expected)]
    names = [{path.relative_to(folder) for path in folder.rglob("*") if path.is_file()} for folder in folders]
    assert names[0] == names[1]
    for name in names[0]:
        ours, theirs = (folder / name for folder in folders)
        if name.suffix == ".safetensors":
            torch.testing.assert_close(load_file(ours), load_file(theirs), rtol=0, atol=2e-3)
        elif name.suffix == ".json":
            assert json.loads(ours.read_text()) == json.loads(theirs.read_text())


@pytest.mark.parametrize("method", ALGOS)
def test_sharded_networks_are_shared_out_frozen_ones_too(world: SimpleNamespace, method: str) -> None:
    for found in world.two[method, "fsdp2"]:
        for name, (held, total) in found["held"].items():
            assert 0.45 * total < held < 0.55 * total or total < 100, name
        assert {"prior", "target", "critic"} <= found["held"].keys() or method != "ilql"
    for held, total in world.two[method, "ddp"][0]["held"].values():
        assert held == total


def test_accumulation_clipping_and_recomputation_work_with_shards(world: SimpleNamespace) -> None:
    for found in world.two["ilql", "keys"]:
        close(found, world.one["keys"])
    same_ends(world.two["ilql", "keys"][0], world.one["keys"])
    assert world.one["keys"]["steps"][6] != world.one["ilql"]["steps"][6]


def test_an_optimizer_that_needs_whole_matrices_works_with_shards(world: SimpleNamespace) -> None:
    for found in world.two["bc", "muon"]:
        close(found, world.one["muon"])
    same_ends(world.two["bc", "muon"][0], world.one["muon"])
    assert world.one["muon"]["steps"][6] != world.one["bc"]["steps"][6]


def test_mixed_precision_trains_with_fused_optimizers_and_clipping(world: SimpleNamespace) -> None:
    """Mixed precision is what `auto` means on most accelerators; its rounding shows, but not much."""
    for found in [world.one["half"], *world.two["bc", "half"]]:
        losses = [[steps[key]["train/loss"] for key in steps] for steps in (found["steps"], world.one["bc"]["steps"])]
        assert losses[0] == pytest.approx(losses[1], rel=0.02)
        assert losses[0] != pytest.approx(losses[1], rel=1e-6)


def test_a_training_continues_with_another_number_of_processes(world: SimpleNamespace) -> None:
    expected = world.one["ilql"]
    for found in [*world.two["ilql", "begun by one"], world.one["begun by two"]]:
        close(found, expected, after=BROKEN_AT)
    assert world.one["begun by two"]["tokens"] > 0
    assert world.two["ilql", "begun by one"][0]["tokens"] > 0
    same_ends(world.two["ilql", "begun by one"][0], expected)
    same_ends(world.one["begun by two"], expected)


def test_processes_of_a_launcher_agree_on_the_path_of_the_first(world: SimpleNamespace) -> None:
    assert {found["agreed"] for ranks in world.two.values() for found in ranks} == {"chosen by 0"}


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_method_trains_on_two_processes_as_on_one(tmp_path: Path) -> None:
    """Methods are found by their files: each trains on mazes, replicated and sharded, as one process does."""
    data = str(tmp_path / "data")
    one = {algo: train(Job(algo, "cpu", 1, str(tmp_path / f"{algo}-one"), data)) for algo in trained()}
    jobs = [
        Job(algo, hardware, 2, str(tmp_path / f"{algo}-{hardware}"), data)
        for algo in trained()
        for hardware in ("ddp", "fsdp2")
    ]
    for found in together(jobs, tmp_path / "two", timeout=3000):
        for result in found:
            expected = one[result["job"]["algo"]]
            close(result, expected)
            assert result["interactions"] == expected["interactions"]
            if result["job"]["hardware"] == "fsdp2":
                assert all(0.4 * n < held < 0.6 * n or n < 100 for held, n in result["held"].values())


def test_a_part_of_a_batch_alone_is_a_batch() -> None:
    values, weight = torch.tensor([1.0, 5.0]), torch.tensor([3.0, 1.0])
    with global_batch():
        assert weighted_mean(values, weight) == 2
        assert mean_over_processes(weight) is weight


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen2"])
def test_blocks_of_any_architecture_are_found(family: str) -> None:
    """Each block once, also where networks share a trunk; heads and embeddings are none."""
    lm = random_lm(family, 50, layers=3)
    critic = new_critic(lm, state_values=True)
    together = nn.ModuleDict({"lm": lm, "critic": critic, "prior": random_lm(family, 50, layers=2)})
    found = blocks(together)
    assert len(found) == 3 + 2
    assert len({type(block) for block in found}) == 1
    inside = {id(parameter) for block in found for parameter in block.parameters()}
    assert not inside & {id(parameter) for parameter in critic.q_heads.parameters()}
    assert id(lm.get_input_embeddings().weight) not in inside


def test_an_emptied_module_is_filled_again() -> None:
    """Without numbers it still knows which parameters are one, and what was computed when it was built."""
    for family in ("gpt2", "llama"):
        lm = random_lm(family, 50)
        copy = emptied(lm)
        assert sum(parameter.numel() for parameter in copy.parameters()) == 0
        fill(copy, {name: value.clone() for name, value in lm.state_dict().items()})
        tokens = torch.arange(1, 9)[None]
        with torch.no_grad(), whole(copy):
            assert torch.equal(copy(input_ids=tokens).logits, lm(input_ids=tokens).logits)
        tied = [id(m.get_input_embeddings().weight) == id(m.get_output_embeddings().weight) for m in (lm, copy)]
        assert tied[0] == tied[1] == (family == "gpt2")


def test_recomputed_activations_have_the_same_gradients() -> None:
    tokens, gradients = torch.arange(1, 9)[None], []
    for again in (False, True):
        lm = random_lm("llama", 50).train()
        counted: list[int] = []
        inner: Any = blocks(lm)[0].mlp
        inner.register_forward_pre_hook(lambda *unused, seen=counted: seen.append(1))
        if again:
            recompute_activations(lm)
        lm(input_ids=tokens, labels=tokens, use_cache=False).loss.backward()
        gradients.append([parameter.grad for parameter in lm.parameters()])
        assert len(counted) == (2 if again else 1)
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.slow
def test_compiled_blocks_compute_the_same_where_gradients_are() -> None:
    tokens, lm = torch.arange(1, 9)[None], random_lm("llama", 50).train()
    plain = lm(input_ids=tokens, use_cache=False).logits
    compile_blocks(lm)
    torch.testing.assert_close(lm(input_ids=tokens, use_cache=False).logits, plain, rtol=1e-4, atol=1e-4)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    before = torch._dynamo.utils.counters["stats"]["calls_captured"]
    with torch.no_grad():
        lm(input_ids=tokens[:, :5], use_cache=False)
    assert torch._dynamo.utils.counters["stats"]["calls_captured"] == before


def hardware(compose: Callable, *overrides: str) -> Any:
    return compose("task=maze", "algo=bc", *overrides).hardware


def test_sharding_is_one_data_parallel_group(compose: Callable) -> None:
    arguments = machine(hardware(compose, "hardware=fsdp2", "hardware.devices=4", "hardware.num_nodes=2"))
    assert isinstance(arguments["strategy"], Sharded)
    assert (arguments["devices"], arguments["num_nodes"]) == (4, 2)
    assert machine(hardware(compose, "hardware=ddp"))["strategy"] == "ddp_find_unused_parameters_true"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_fsdp_without_a_gpu_is_refused_in_one_sentence(compose: Callable) -> None:
    with pytest.raises(ConfigError, match="hardware=fsdp needs an NVIDIA GPU") as caught:
        machine(hardware(compose, "hardware=fsdp"))
    assert "hardware=fsdp2" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_machine_that_cannot_compile_is_refused(compose: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch._inductor.config

    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", ("no-such-compiler",))
    monkeypatch.setattr(torch._inductor.config, "force_disable_caches", True)
    torch._dynamo.reset()
    with pytest.raises(ConfigError, match=r"hardware\.compile=true: torch\.compile does not work here") as caught:
        machine(hardware(compose, "hardware.compile=true"))
    assert "\n" not in str(caught.value)


def test_a_hardware_file_may_leave_optional_keys_out() -> None:
    few = OmegaConf.create({"accelerator": "cpu", "devices": 1, "num_nodes": 1, "strategy": "auto", "precision": "32"})
    assert machine(few)["strategy"] == "auto"
    assert instantiate(few) == few
