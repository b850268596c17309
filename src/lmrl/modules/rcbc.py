"""Return-conditioned behaviour cloning: imitate the actions of the data given their return; condition on the best.

Before the state of each action stands a text c(R) such as "return: -12" and a line break. In the data, R_i is the
return of the episode from that action on; while acting, it is the rest of the target return g:

    L      = -(1/n) sum_i log pi(a_i | c(R_i), s_i)          over the n agent tokens of a batch
    R_i    = sum_{k >= i} r_k                                undiscounted, over the actions k of the episode
    acting : c(clip(g - earned so far, lowest R, highest R of the data))

With `non_action_weight` w > 0 all other tokens are predicted too, each with weight w, as in behaviour cloning. Where a
state is the last turns of an episode, one text stands in front of them; where it is the whole episode, one stands
before the observations of every action.

Acts by sampling from the language model after that text. Nothing is bootstrapped: it imitates the luckiest episodes
that begin in a state, and cannot join the beginning of one with the end of another.

Sources: Chen et al. 2021 (arXiv 2106.01345), section 3 (Decision Transformer); Emmons et al. 2021 (arXiv 2112.10751).
Differences: returns are text instead of an embedding of a number, so that any language model reads them with its own
tokens; only agent tokens are predicted by default; g is clipped, because a number never seen means nothing.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from lmrl.config.types import NonNegative, checked
from lmrl.functional import log_prob, mean_over_processes, weighted_mean
from lmrl.models.backbone import window
from lmrl.modules.base import Algorithm, Logs
from lmrl.policies.conditioned import Conditioned, ReturnToGo
from lmrl.policies.core import Policy
from lmrl.text.tokens import TokenBatch, TokenTrajectory

_MOST_DIGITS = 9


def rcbc_loss(
    logits: Float[Tensor, "N V"], tokens: Int[Tensor, " N"], weight: Float[Tensor, " N"]
) -> Float[Tensor, ""]:
    """Weighted mean of the negative log-likelihood of `tokens`.

    Args:
        logits: the model's logits where each token is predicted.
        tokens: the tokens that the data has there.
        weight: 1 for agent tokens, `non_action_weight` for others, times how often the row occurs.
    """
    return weighted_mean(-log_prob(logits, tokens), weight)


def returns_to_go(episode: Sequence[TokenTrajectory]) -> Float[np.ndarray, " H"]:
    """Return the return-to-go of each action of an episode, in order of time."""
    rewards = np.concatenate([row.rewards[row.is_decision] for row in episode]).astype(np.float64)
    ends = np.concatenate([row.ends_turn for row in episode])
    return rewards[::-1].cumsum()[::-1][np.append(True, ends[:-1])]


def decimal_places(returns: Float[np.ndarray, " N"]) -> int:
    """Return the fewest decimal places that change no return by more than a twentieth of their spread.

    Whole numbers need none. Of others at least ten are told apart between the lowest and the highest, and at most about
    a hundred: a number that hardly ever occurs is not learned.
    """
    allowed = float(np.ptp(returns)) / 20
    enough = (d for d in range(_MOST_DIGITS) if float(np.abs(returns - returns.round(d)).max()) <= allowed)
    return next(enough, _MOST_DIGITS) if allowed else 0


def with_texts(row: TokenTrajectory, texts: Sequence[Sequence[int]]) -> TokenTrajectory:
    """Put the ids of one text per action into a row: behind the action before, the first one at the front."""
    decisions = row.is_decision.nonzero()[0]
    ends = decisions[row.ends_turn] + 1
    places = [0, *ends[:-1].tolist()]
    at = np.repeat(places, [len(text) for text in texts])
    ids = np.concatenate([np.asarray(text) for text in texts])
    return replace(
        row,
        tokens=np.insert(row.tokens, at, ids),
        is_decision=np.insert(row.is_decision, at, False),
        rewards=np.insert(row.rewards, at, 0.0),
        turn=np.insert(row.turn, at, row.turn[np.minimum(at, len(row.turn) - 1)]),
        successor=None,  # nothing is bootstrapped
    )


class RCBC(Algorithm):
    """Return-conditioned behaviour cloning.

    Args:
        target_return: g. `None`: the highest return of the data.
        template: the text, with `{}` where the return stands.
        digits: decimal places of returns in the text. `None`: as many as the data's returns need, see `decimal_places`.
        non_action_weight: weight w of the tokens that are not actions, at least 0.
        common: see `Algorithm`.
    """

    target: Tensor
    lowest: Tensor
    highest: Tensor
    reads_episodes: Tensor
    digits: Tensor

    @checked
    def __init__(
        self,
        *,
        target_return: Annotated[float | int, Field(ge=-1e9, le=1e9)] | None = None,
        template: str = "return: {}\n",
        digits: Annotated[int, Field(ge=0, le=_MOST_DIGITS)] | None = None,
        non_action_weight: NonNegative = 0.0,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        if template.count("{}") != 1 or template.format("") == "":
            raise ValueError(f"algo.module.template must be a text with one {{}} in it, got {template!r}")
        self.target_return, self.template, self._digits = target_return, template, digits
        self.non_action_weight = non_action_weight
        # Values from the data that acting needs: buffers, so that checkpoints keep them.
        self.register_buffer("target", torch.tensor(float(target_return or 0.0), dtype=torch.float64))
        self.register_buffer("lowest", torch.tensor(-math.inf, dtype=torch.float64))
        self.register_buffer("highest", torch.tensor(math.inf, dtype=torch.float64))
        self.register_buffer("reads_episodes", torch.tensor(False))
        self.register_buffer("digits", torch.tensor(digits or 0))
        self.codec.check([self.asks().text(-1234567890.0), self.asks().text(0.0)])

    def asks(self) -> ReturnToGo:
        """Return the conditioner that writes the rest of the target return."""
        return ReturnToGo(
            template=self.template,
            digits=int(self.digits),
            target=float(self.target),
            lowest=float(self.lowest),
            highest=float(self.highest),
            reads_episodes=bool(self.reads_episodes),
        )

    def check_episodes(self, episodes: Sequence[Sequence[TokenTrajectory]]) -> None:
        """Put the returns in once, to see that the rows then still fit.

        Raises:
            ValueError: with the texts a row is longer than the model can read.
        """
        self.prepare(episodes)

    def prepare(self, episodes: Sequence[Sequence[TokenTrajectory]]) -> list[TokenTrajectory]:
        """Put the return-to-go of each action before its state, and remember the range of these returns.

        Raises:
            ValueError: with the texts a row is longer than the model can read, or the tokenizer cannot write them.
        """
        earned = [returns_to_go(episode) for episode in episodes]
        if self._digits is None:
            self.digits.fill_(decimal_places(np.concatenate(earned)))
            self.codec.check([self.asks().text(-1234567890.0)])
        self.lowest.fill_(min(float(values.min()) for values in earned))
        self.highest.fill_(max(float(values.max()) for values in earned))
        if self.target_return is None:
            self.target.fill_(max(float(values[0]) for values in earned))
        self.reads_episodes.fill_(any(row.ends_turn.sum() > 1 for episode in episodes for row in episode))
        rows = [row for pair in zip(episodes, earned, strict=True) for row in self._with_returns(*pair)]
        longest, limit = max(len(row.tokens) for row in rows) + self.max_new_tokens, window(self.lm)
        if limit is not None and longest > limit:
            raise ValueError(
                f"with their returns rows take up to {longest} tokens, but the model reads at most {limit}: choose a "
                "smaller task.memory, a shorter algo.module.template or a model with a larger window"
            )
        return rows

    def loss(self, batch: TokenBatch) -> tuple[Float[Tensor, ""], Logs]:
        """Imitate actions, and all other tokens as far as their weight says."""
        hidden = self.hidden(self.lm, batch)
        logits = self.logits(self.lm, hidden[batch.row, batch.position])
        imitation = rcbc_loss(logits, batch.action, batch.weight)
        logs = {"bc": imitation, "perplexity": mean_over_processes(imitation.detach()).exp()}
        if self.non_action_weight == 0:
            return imitation, logs
        row, position, token, weight = batch.predicted()
        predicted = self.logits(self.lm, hidden[row, position])
        weights = torch.cat([batch.weight, self.non_action_weight * weight])
        loss = rcbc_loss(torch.cat([logits, predicted]), torch.cat([batch.action, token]), weights)
        return loss, logs | {"language_model": rcbc_loss(predicted, token, weight)}

    def policy(self) -> Policy:
        """Return a policy that reads the rest of the target return."""
        return Conditioned(super().policy(), self.asks().condition)

    def export(self, folder: Path) -> None:
        """Write the language model, and beside it the text that conditions it."""
        super().export(folder)
        says = json.dumps(asdict(self.asks()), indent=2)
        (folder / "conditioning.json").write_text(says + "\n", encoding="utf-8")

    def as_shown(self, episode: Sequence[TokenTrajectory]) -> list[TokenTrajectory]:
        """Return the rows of an episode that the policy played, with the texts that it was shown."""
        to_go, asks = returns_to_go(episode), self.asks()
        return self._with_texts(episode, [asks.left(float(to_go[0] - rest)).text for rest in to_go])

    def _with_returns(
        self, episode: Sequence[TokenTrajectory], returns: Float[np.ndarray, " H"]
    ) -> list[TokenTrajectory]:
        asks = self.asks()
        return self._with_texts(episode, [asks.text(float(value)) for value in returns])

    def _with_texts(self, episode: Sequence[TokenTrajectory], texts: Sequence[str]) -> list[TokenTrajectory]:
        """Give each row of an episode the texts of its actions."""
        rows, used = [], 0
        for row in episode:
            count = int(row.ends_turn.sum())
            rows.append(with_texts(row, [self.codec.encode(text) for text in texts[used : used + count]]))
            used += count
        return rows
