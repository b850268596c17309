"""The base of every algorithm: a Lightning module with a loss, a policy, and a way to prepare data."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytorch_lightning as pl
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lmrl.config.data_needs import DataNeeds
from lmrl.config.types import Count, Decay, Positive, PositiveCount, PositiveShare, checked
from lmrl.functional import global_batch, log_prob, mean_over_processes, warmup_then
from lmrl.models.backbone import head_groups, hidden_states, lm_logits, parameter_groups, save, trunk
from lmrl.models.cache import evaluation
from lmrl.models.sharding import gathered, is_sharded, shard, whole
from lmrl.policies.core import Policy
from lmrl.policies.decoding import Decoding, GuidedLogits, sampleable
from lmrl.policies.language_model import LanguageModelPolicy
from lmrl.policies.reranker import Reranker
from lmrl.text.codec import Codec
from lmrl.text.tokens import TokenBatch, TokenTrajectory, collate

_CHUNK = 256  # rows that are evaluated at once outside of training

Logs = dict[str, Tensor]
"""Scalars that an algorithm reports about a loss, by name."""


class Algorithm(pl.LightningModule, DataNeeds, ABC):
    """Base of all methods: `loss`, `policy` and `prepare` are the method, the rest is plumbing written once.

    Args:
        lm: makes a fresh copy of the initial language model; called once per network that the method needs.
        codec: the tokenizer.
        optimizer: makes the optimizer from parameter groups.
        steps: optimizer steps of the whole training, for the schedule.
        warmup_steps: steps of linear warm-up.
        decay: "constant", "cosine" or "exponential": the learning rate after the warm-up.
        floor: fraction of the learning rate that a decay comes down to at the last step.
        head_lr_scale: learning rate of value heads relative to the language model's; heads start at zero.
        max_new_tokens: longest action while acting.
        decoding: how actions are drawn.
        rerank: `proposals` (a list of actions) and `temperature` of a reranker that acts instead. `None`: sample.
    """

    scores_last_token: ClassVar[bool] = False
    """Whether a proposed action's score is the `token_scores` of its last token, as of values, instead of their sum."""

    @checked
    def __init__(
        self,
        *,
        lm: Callable[[], nn.Module],
        codec: Codec,
        optimizer: Callable[..., torch.optim.Optimizer],
        steps: PositiveCount,
        warmup_steps: Count = 50,
        decay: Decay = "cosine",
        floor: PositiveShare = 0.05,
        head_lr_scale: Positive = 1.0,
        max_new_tokens: PositiveCount = 64,
        decoding: Decoding | None = None,
        rerank: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.lm = lm()
        self.codec = codec
        self.max_new_tokens = max_new_tokens
        self.decoding = decoding or Decoding()
        self.rerank = rerank
        self.tokens_trained = 0
        self._never_sampled: Tensor | None = None
        self._optimizer = optimizer
        self._factor = warmup_then(decay, warmup_steps, steps, floor)
        self._head_lr_scale = head_lr_scale

    @abstractmethod
    def loss(self, batch: TokenBatch) -> tuple[Float[Tensor, ""], Logs]:
        """Return the objective and values to log."""

    def acting_lms(self) -> tuple[nn.Module, ...]:
        """Return the language models whose hidden states `next_logits` and `token_scores` read."""
        return (self.lm,)

    def next_logits(self, hidden: tuple[Tensor, ...]) -> Tensor | GuidedLogits:
        """Return the logits of the next token, given one hidden state [b, D] for each of `acting_lms`."""
        return lm_logits(self.lm, hidden[0])

    def token_scores(self, hidden: tuple[Tensor, ...], tokens: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
        """Return each token's part of the score of a proposed action; here its log-probability."""
        return log_prob(self.logits(self.lm, hidden[0]), tokens)

    def policy(self) -> Policy:
        """Return how the model acts now: by sampling tokens, or by reranking proposed actions."""
        if self.rerank is None:
            return self.sampler()
        trunks = tuple(trunk(lm) for lm in self.acting_lms())
        scoring: Any = {"token_scores": self.token_scores, "last_only": self.scores_last_token}
        return Reranker(trunks=trunks, codec=self.codec, **scoring, **self.rerank)

    def sampler(self) -> LanguageModelPolicy:
        """Return the policy that samples token by token, whether or not it is the one that acts."""
        return LanguageModelPolicy(
            trunks=tuple(trunk(lm) for lm in self.acting_lms()),
            next_logits=self.next_logits,
            codec=self.codec,
            decoding=self.decoding,
            max_new_tokens=self.max_new_tokens,
        )

    def values(self) -> Callable[[tuple[Tensor, ...]], Float[Tensor, " b"]] | None:
        """Return how to read a state's value from the hidden states that `policy` computes; `None` without a critic."""
        return None

    def prepare(self, episodes: Sequence[Sequence[TokenTrajectory]]) -> list[TokenTrajectory]:
        """Turn episodes (lists of rows in order of time) into training rows; compute fixed values here."""
        return [row for episode in episodes for row in episode]

    def check_episodes(self, episodes: Sequence[Sequence[TokenTrajectory]]) -> None:
        """Raise `ValueError` if nothing can be learned from fixed data; called before any stage is trained."""

    def as_shown(self, episode: Sequence[TokenTrajectory]) -> Sequence[TokenTrajectory]:
        """Return the rows as the policy saw them while acting, including text that a wrapper added."""
        return episode

    def export(self, folder: Path) -> None:
        """Write the policy as a Hugging Face folder; methods with further networks add theirs beside it."""
        folder.mkdir(parents=True, exist_ok=True)
        save(self.lm, self.codec, folder)

    # Plumbing below.

    def hidden(self, lm: Any, batch: TokenBatch) -> Float[Tensor, "R T D"]:
        """Run a language model's trunk over the rows of a batch that have decisions."""
        rows = batch.trained_rows
        return hidden_states(lm, batch.tokens[:rows, : int(batch.lengths[:rows].max())])

    @torch.no_grad()
    def successor_states(self, lm: Any, hidden: Float[Tensor, "R T D"], batch: TokenBatch) -> Float[Tensor, "N D"]:
        """Return the hidden state after each decision, without gradients.

        It is read from `hidden` where a row of the batch contains the successor; the others need a forward pass, but
        neither a backward one nor one through target networks.
        """
        rows, columns = hidden.shape[:2]
        position = batch.next_position
        inside = hidden[batch.next_row.clamp_max(rows - 1), position.clamp_max(columns - 1)]
        if not self._any_process(rows < batch.tokens.shape[0]):
            return inside
        begin = min(rows, batch.tokens.shape[0] - 1)  # at least one row, for the others' sake
        further = hidden_states(lm, batch.tokens[begin:, : int(batch.lengths[begin:].max())])
        outside = further[(batch.next_row - begin).clamp_min(0), position.clamp_max(further.shape[1] - 1)]
        return torch.where((batch.next_row < rows)[:, None], inside, outside)

    def _any_process(self, needs: bool) -> bool:
        """Tell whether a forward pass is needed: by any process where networks are sharded, as all then make it."""
        if not is_sharded(self):
            return needs
        return bool(mean_over_processes(torch.tensor(float(needs), device=self.device)) > 0)

    def logits(self, lm: Any, hidden: Float[Tensor, "N D"], temperature: float | int = 1.0) -> Float[Tensor, "N V"]:
        """Return the logits of the tokens that acting can sample: never padding.

        A pretrained model knows nothing about a pad token that was added to it, and may find it likelier than all else.
        """
        logits = lm_logits(lm, hidden)
        if temperature != 1:
            logits = logits / temperature
        if self._never_sampled is None or self._never_sampled.device != logits.device:
            self._never_sampled = ~sampleable(self.codec, logits.shape[-1]).to(logits.device)
        return logits.masked_fill(self._never_sampled, torch.finfo(logits.dtype).min)

    def action_logits(self, lm: Any, hidden: Float[Tensor, "N D"]) -> Float[Tensor, "N V"]:
        """Return the logits that the policy acts by: divided by the temperature of `decoding` (1 where that is 0).

        With them, training's log-probabilities are those that an action was sampled with: a policy may be trained as
        sharp as it acts. Methods that imitate data use `logits`, whatever the temperature that they act at.
        """
        return self.logits(lm, hidden, self.decoding.temperature or 1.0)

    def action_log_probs(self, lm: Any, batch: TokenBatch) -> Float[Tensor, " N"]:
        """Return the log-probability of each decision under a language model, as while acting."""
        states = self.hidden(lm, batch)[batch.row, batch.position]
        return log_prob(self.action_logits(lm, states), batch.action)

    @torch.no_grad()
    def evaluate_decisions(
        self, rows: Sequence[TokenTrajectory], read: Callable[[TokenBatch], dict[str, Float[Tensor, " N"]]]
    ) -> list[dict[str, Float[np.ndarray, " A"]]]:
        """Evaluate something about every decision of many rows, without gradients; for `prepare`.

        Args:
            rows: the rows; those that differ only in rewards and extras are computed once.
            read: from a batch to one value per decision, by name.

        Returns:
            For each row, the values of its decisions.
        """
        plain = [replace(row, rewards=np.zeros_like(row.rewards), extras={}) for row in rows]
        distinct = {row.key: row for row in plain}
        order = sorted(distinct.values(), key=lambda row: len(row.tokens))
        # While training, each process computes a share. Elsewhere one process may be alone with its question.
        share = slice(self.global_rank, None, self.trainer.world_size) if self._is_training else slice(None)
        found: dict[bytes, dict[str, np.ndarray]] = {}
        with whole(self), evaluation((self,)), self._precision():
            mine = order[share]
            for start in range(0, len(mine), _CHUNK):
                found |= self._evaluated(mine[start : start + _CHUNK], read)
        if self._is_training:
            found = {key: values for part in gathered(found) for key, values in part.items()}
        return [found[row.key] for row in plain]

    def _evaluated(
        self, chunk: Sequence[TokenTrajectory], read: Callable[[TokenBatch], dict[str, Float[Tensor, " N"]]]
    ) -> dict[bytes, dict[str, np.ndarray]]:
        """Evaluate some rows at once."""
        values = read(collate(chunk, pad_id=self.codec.pad_id).to(next(self.parameters()).device))
        cuts = np.cumsum([int(row.is_decision.sum()) for row in chunk])[:-1]
        parts = {name: np.split(value.float().cpu().numpy(), cuts) for name, value in values.items()}
        return {row.key: {name: part[index] for name, part in parts.items()} for index, row in enumerate(chunk)}

    def _precision(self) -> AbstractContextManager[Any]:
        """Compute as in a training step: a ratio to a probability of another precision would be noise."""
        return nullcontext() if self._trainer is None else self.trainer.precision_plugin.forward_context()

    @property
    def _is_training(self) -> bool:
        """Whether this happens within a training, so that all of its processes come here together."""
        return self._trainer is not None and bool(self.trainer.training)

    def configure_model(self) -> None:
        """Shard all networks, where the strategy says over which processes."""
        if self.device_mesh is not None:
            shard(self, self.device_mesh["data_parallel"], step="training_step")

    def training_step(self, batch: TokenBatch, batch_idx: int) -> Tensor:  # noqa: ARG002 - Lightning's signature
        """Compute the loss, and log its parts as `train/...`: of the batch that the rows of all processes make up."""
        trainer: Any = self.trainer
        with global_batch():
            loss, logs = self.loss(batch)
            tokens = float(mean_over_processes(torch.tensor(float(batch.token_count), device=loss.device)))
            self.tokens_trained += round(tokens * trainer.world_size)
            if (self.global_step + 1) % trainer.log_every_n_steps == 0:  # else Lightning sorts them for nothing
                told = {f"train/{name}": value.detach().to(loss) for name, value in {"loss": loss, **logs}.items()}
                means = mean_over_processes(torch.stack([*told.values()]))
                self.log_dict(dict(zip(told, means, strict=True)), batch_size=1)
        return loss

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step the optimizer, then let targets follow: once per optimizer step, not per accumulated micro-batch."""
        super().optimizer_step(*args, **kwargs)
        self.after_step()

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None
    ) -> None:
        """Clip the norm of all gradients together, also where Lightning would not.

        In mixed precision it refuses fused optimizers, because these undo a scaling of gradients after the clipping.
        Without a scaler, as with bfloat16, there is no scaling.
        """
        if gradient_clip_val and getattr(self.trainer.precision_plugin, "scaler", None) is None:
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            torch.nn.utils.clip_grad_norm_(parameters, gradient_clip_val)
        else:
            super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def after_step(self) -> None:
        """Update networks that follow the trained weights, such as targets."""

    def configure_optimizers(self) -> Any:
        """Optimize the language model, and value heads at their own rate, on one schedule."""
        optimizer = self._optimizer(parameter_groups(self.lm))
        for group in head_groups(self, self.lm, optimizer.defaults["lr"] * self._head_lr_scale):
            optimizer.add_param_group(group)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the token count, so that a resumed run reports the whole training."""
        checkpoint["tokens_trained"] = self.tokens_trained

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the token count."""
        self.tokens_trained = int(checkpoint["tokens_trained"])


def frozen(lm: nn.Module) -> nn.Module:
    """Switch a network to evaluation for good and stop its gradients."""
    return lm.eval().requires_grad_(False)
