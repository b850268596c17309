"""The base of methods that guide a frozen prior by values: pi(a | s) ~ prior(a | s) exp(beta Q(s, a)).

`Guided` has the prior and acts. `Bootstrapped` adds two critics with slowly following copies, and regression targets
that begin as returns R_i and move over to bootstrapped values y_i:

    y_i <- lambda R_i + (1 - lambda) y_i                     lambda = 1 at first, then falls linearly
"""

import copy
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lmrl.config.types import Count, NonNegative, Number, PositiveShare, Share, checked
from lmrl.functional import discount_factors, pick, polyak_, return_share
from lmrl.models.backbone import lm_logits
from lmrl.models.critic import export_guided, new_critic
from lmrl.modules.base import Algorithm, frozen
from lmrl.policies.decoding import GuidedLogits
from lmrl.text.returns import average_returns, with_returns
from lmrl.text.tokens import TokenBatch, TokenTrajectory


class Guided(Algorithm):
    """A frozen prior, guided by action values that read the trained language model.

    Args:
        gamma: discount, in (0, 1].
        discount_per: "token" (the paper) or "turn".
        cql_weight: alpha, at least 0.
        beta: strength of guidance while acting, at least 0.
        head_hidden: whether value heads have a hidden layer.
        head_bias: initial value of the heads.
        common: see `Algorithm`.
    """

    @checked
    def __init__(
        self,
        *,
        gamma: PositiveShare,
        discount_per: Literal["token", "turn"] = "token",
        cql_weight: NonNegative,
        beta: NonNegative,
        head_hidden: bool = True,
        head_bias: Number = 0.0,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.gamma, self.discount_per, self.cql_weight, self.beta = gamma, discount_per, cql_weight, beta
        self.head: Mapping[str, Any] = {"hidden": head_hidden, "bias": head_bias}
        self.prior = frozen(copy.deepcopy(self.lm))

    @abstractmethod
    def action_values(self, states: Float[Tensor, "b D"]) -> Float[Tensor, "b V"]:
        """Return the value of every token, which guides the prior."""

    @abstractmethod
    def heads(self) -> dict[str, nn.Module]:
        """Return the value heads to export, by name."""

    def prepare(self, episodes: Sequence[Sequence[TokenTrajectory]]) -> list[TokenTrajectory]:
        """Give each decision its return, which runs over the whole episode and not only over its row."""
        return average_returns([row for e in episodes for row in with_returns(e, self.gamma, self.discount_per)])

    def export(self, folder: Path) -> None:
        """Write the prior as a plain language model, and the critic with its heads beside it."""
        export_guided(folder, prior=self.prior, critic=self.lm, heads=self.heads(), codec=self.codec, beta=self.beta)

    def acting_lms(self) -> tuple[nn.Module, ...]:
        """Return the prior and the critic's language model."""
        return self.prior, self.lm

    def next_logits(self, hidden: tuple[Tensor, ...]) -> GuidedLogits:
        """Guide the frozen prior."""
        return GuidedLogits.by_values(lm_logits(self.prior, hidden[0]), self.action_values(hidden[1]), self.beta)


class Bootstrapped(Guided):
    """Guidance by the smaller of two critics, whose targets are bootstrapped from slowly following copies.

    Args:
        polyak: fraction by which the target critics follow in each optimizer step, in (0, 1].
        monte_carlo_steps: first steps in which the critics regress on returns instead of bootstrapping.
        monte_carlo_decay: further steps over which their targets move from returns to bootstrapped values.
        monte_carlo_share: lambda in the end: the share of returns that stays in the targets, in [0, 1].
        common: see `Guided`.
    """

    critic: Any
    target: Any

    @checked
    def __init__(
        self,
        *,
        polyak: PositiveShare,
        monte_carlo_steps: Count = 0,
        monte_carlo_decay: Count = 0,
        monte_carlo_share: Share = 0.0,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.polyak = polyak
        self.monte_carlo = monte_carlo_steps, monte_carlo_decay, monte_carlo_share

    def add_critics(self, *, state_values: bool) -> None:
        """Build the critics on the trained language model, and their targets.

        Args:
            state_values: whether there is a V beside the two Q.
        """
        self.critic = new_critic(self.lm, state_values=state_values, **self.head)
        self.target = frozen(copy.deepcopy(self.critic))

    def prepare(self, episodes: Sequence[Sequence[TokenTrajectory]]) -> list[TokenTrajectory]:
        """Attach returns if training starts with them."""
        return super().prepare(episodes) if any(self.monte_carlo) else [row for e in episodes for row in e]

    def return_share(self) -> float:
        """Return lambda, the present share of the return in a target."""
        return return_share(self.global_step, *self.monte_carlo)

    def mixed_target(self, batch: TokenBatch, following: Float[Tensor, " N"], share: float) -> Float[Tensor, " N"]:
        """Return y: the reward and the discounted value of the following state, mixed with the return by lambda.

        Args:
            batch: the decisions.
            following: value of each decision's successor; 0 where the episode has terminated.
            share: lambda.
        """
        target = batch.reward + discount_factors(self.gamma, batch.ends_turn, self.discount_per) * following
        return target if share == 0 else torch.lerp(target, batch.extras["returns"], share)

    def after_step(self) -> None:
        """Let the target critics follow."""
        polyak_(self.target, self.critic, self.polyak)

    def action_values(self, states: Float[Tensor, "b D"]) -> Float[Tensor, "b V"]:
        """Return the smaller critic's values."""
        return self.critic.smallest(states)

    def heads(self) -> dict[str, nn.Module]:
        """Return the heads of both critics, and of V."""
        return self.critic.heads()

    @abstractmethod
    def values(self) -> Callable[[tuple[Tensor, ...]], Float[Tensor, " b"]]:
        """Return the function from hidden states to the value of a state."""

    def token_scores(self, hidden: tuple[Tensor, ...], tokens: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
        """Score proposals by their advantage over the value of the state."""
        return pick(self.action_values(hidden[1]), tokens) - self.values()(hidden)
