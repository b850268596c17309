"""Losses and gradients equal the reference's, on its own random inputs."""

import numpy as np
import pytest
import torch
from golden_cases import golden
from torch import Tensor

from lmrl.functional import polyak_
from lmrl.modules.bc import bc_loss
from lmrl.modules.ilql import ilql_loss
from lmrl.modules.mc_returns import mc_loss
from lmrl.text.returns import reward_to_go, row_discounts

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


def leaf(values: list) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, requires_grad=True)


def mask_of(inputs: dict) -> Tensor:
    return (torch.tensor(inputs["should_take_action"]) * torch.tensor(inputs["attention_mask"])) > 0


def close(actual: Tensor, expected: list | float) -> None:
    torch.testing.assert_close(actual.detach().double(), torch.tensor(expected, dtype=torch.float64), **TOLERANCE)


@pytest.mark.parametrize("case", golden("bc"))
def test_bc_equals_the_reference(case: dict) -> None:
    inputs = case["inputs"]
    logits, ids = leaf(inputs["logits"]), torch.tensor(inputs["input_ids"])
    is_action, real = torch.tensor(inputs["is_action"])[:, 1:], torch.tensor(inputs["attention_mask"])[:, 1:]
    weight = torch.where(is_action > 0, 1.0, case["params"]["non_action_weight"]) * real
    kept = weight > 0
    loss = bc_loss(logits[:, :-1][kept], ids[:, 1:][kept], weight[kept])
    # The reference divides by the number of real tokens, ours by their weights: a constant factor.
    loss = loss * weight.sum() / real.sum()
    close(loss, case["outputs"]["loss"])
    loss.backward()
    close(logits.grad, case["outputs"]["grad_logits"])


@pytest.mark.parametrize("case", golden("mc"))
def test_monte_carlo_returns_equal_the_reference(case: dict) -> None:
    inputs, outputs = case["inputs"], case["outputs"]
    q, kept = leaf(inputs["q_logits"]), mask_of(inputs)
    loss, logs = mc_loss(
        q[kept],
        torch.tensor(inputs["returns"])[kept],
        torch.tensor(inputs["token_ids"])[kept],
        torch.ones(int(kept.sum())),
        cql_weight=case["params"]["cql_weight"],
    )
    close(loss, outputs["total_loss"])
    close(logs["q"], outputs["q_loss"])
    close(logs["cql"], outputs["q_cql_loss"])
    loss.backward()
    close(q.grad, outputs["grad_q_logits"])


@pytest.mark.parametrize("case", golden("ilql"))
def test_ilql_equals_the_reference(case: dict) -> None:
    inputs, outputs, params = case["inputs"], case["outputs"], case["params"]
    q1, q2, v, kept = leaf(inputs["q1_logits"]), leaf(inputs["q2_logits"]), leaf(inputs["v"]), mask_of(inputs)
    following = torch.zeros_like(v)
    for row in range(len(v)):
        at = kept[row].nonzero().flatten().tolist()
        values = [float(v[row, later]) for later in at[1:]] + [inputs["v_final"][row]]
        following[row, at] = torch.tensor(values)
    y = torch.tensor(inputs["rewards"]) + params["gamma"] * following
    target = torch.minimum(torch.tensor(inputs["target_q1"]), torch.tensor(inputs["target_q2"]))
    loss, logs = ilql_loss(
        [q1[kept], q2[kept]],
        target[kept],
        v[kept],
        y[kept],
        torch.tensor(inputs["token_ids"])[kept],
        torch.ones(int(kept.sum())),
        expectile=params["tau"],
        cql_weight=params["cql_weight"],
    )
    close(loss, outputs["total_loss"])
    close(logs["v"], outputs["v_loss"])
    close(logs["q"], outputs["q1_loss"] + outputs["q2_loss"])
    close(logs["cql"], outputs["q1_cql_loss"] + outputs["q2_cql_loss"])
    loss.backward()
    close(q1.grad, outputs["grad_q1_logits"])
    close(q2.grad, outputs["grad_q2_logits"])
    close(v.grad, outputs["grad_v"])


@pytest.mark.parametrize("case", golden("reward_to_go"))
def test_reward_to_go_equals_the_reference(case: dict) -> None:
    rewards = np.asarray(case["inputs"]["rewards"], dtype=np.float32)
    factors = row_discounts(case["params"]["gamma"], np.zeros(len(rewards), dtype=bool), "token")
    np.testing.assert_allclose(reward_to_go(rewards, factors), case["outputs"]["reward_to_go"], rtol=1e-5, atol=1e-5)


def test_a_turn_discount_leaves_long_actions_alone() -> None:
    """Two turns of three and one tokens: only the step from one turn to the next is discounted."""
    ends = np.array([False, False, True, True])
    returns = reward_to_go(np.array([0, 0, 1, 2], dtype=np.float32), row_discounts(0.5, ends, "turn"))
    np.testing.assert_allclose(returns, [2, 2, 2, 2])
    returns = reward_to_go(np.array([0, 0, 1, 2], dtype=np.float32), row_discounts(0.5, ends, "token"))
    np.testing.assert_allclose(returns, [0.5, 1, 2, 2])


def test_a_target_network_follows_by_its_rate_and_learns_no_gradients() -> None:
    target, online = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    target.requires_grad_(False)
    expected = [
        slow + 0.25 * (fast - slow) for slow, fast in zip(target.parameters(), online.parameters(), strict=True)
    ]
    polyak_(target, online, 0.25)  # gradients are on here, as they are in a training step
    for slow, wanted in zip(target.parameters(), expected, strict=True):
        torch.testing.assert_close(slow, wanted.detach())
        assert slow.grad_fn is None, "each step would keep the graphs of all before"
