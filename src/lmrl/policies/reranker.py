"""Choosing among complete proposals by score, instead of writing an utterance token by token."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from lmrl.models.cache import evaluation
from lmrl.models.window import readable_by_all
from lmrl.policies.core import Action, Request
from lmrl.policies.randomness import Uniforms
from lmrl.text.codec import Codec
from lmrl.text.tokens import TokenTrajectory, collate, tokenize
from lmrl.text.trajectory import Turn, Window

TokenScores = Callable[[tuple[Tensor, ...], Tensor], Tensor]
"""From one hidden state [N, D] per trunk, taken before each token, and the tokens [N] to their scores [N]."""


class Reranker:
    """Scores each proposed action by its tokens' scores; takes the best, or samples in proportion to exp.

    The score of a token is up to the method. Log-probabilities and advantages are parts, whose sum says how good the
    action is. A value Q already covers the rest of the episode: of values the last token's counts alone, as
    a sum would grow with the number of tokens. Only tokens of the proposal count, read at the same places as in
    training, and a history that does not fit into the model's window is an error: cutting it silently would score
    something else.

    Args:
        trunks: transformers without a head.
        token_scores: from one hidden state [N, D] per trunk and the tokens [N] to scores [N].
        codec: the tokenizer.
        last_only: whether an action's score is that of its last token, instead of the sum.
        proposals: the actions to choose from, or a function that lists them for a request.
        temperature: scores are divided by it before sampling; 0 takes the best (the first of equals).
        batch_size: rows per forward pass.

    Raises:
        ValueError: there are no trunks or proposals, or a number is out of its range.
    """

    def __init__(
        self,
        *,
        trunks: Sequence[nn.Module],
        token_scores: TokenScores,
        codec: Codec,
        last_only: bool = False,
        proposals: Sequence[str] | Callable[[Request], Sequence[str]],
        temperature: float | int = 0.0,
        batch_size: int = 256,
    ) -> None:
        if not trunks:
            raise ValueError("a reranker needs at least one trunk")
        if not callable(proposals) and (isinstance(proposals, str) or len(proposals) == 0):
            raise ValueError(f"proposals must be a list of at least one text, got {proposals!r}")
        if not temperature >= 0 or batch_size < 1:
            raise ValueError(f"need temperature >= 0 and batch_size >= 1, got {temperature} and {batch_size}")
        self.trunks = tuple(trunks)
        self.token_scores = token_scores
        self.codec = codec
        self.last_only = last_only
        self.temperature = temperature
        self.batch_size = batch_size
        self._proposals = proposals
        self._limit = readable_by_all(self.trunks)
        self._uniforms = Uniforms()

    def act(self, requests: Sequence[Request]) -> list[Action]:
        """Return each request's chosen proposal; its ids carry no log-probabilities, as none of them was sampled.

        Raises:
            ValueError: a request has no proposals, or one is longer than a model's window allows.
        """
        proposed = [self.proposals(request) for request in requests]
        scores = self.scores(requests, proposed)
        return [
            Action(texts[self._choose(request, values)])
            for request, texts, values in zip(requests, proposed, scores, strict=True)
        ]

    def proposals(self, request: Request) -> tuple[str, ...]:
        """Return the actions that a request may be answered with."""
        texts = tuple(self._proposals(request) if callable(self._proposals) else self._proposals)
        if not texts:
            raise ValueError(f"there are no proposals at turn {request.turn}")
        return texts

    def scores(self, requests: Sequence[Request], proposed: Sequence[Sequence[str]]) -> list[Float64[np.ndarray, " P"]]:
        """Return the scores of each request's proposals."""
        rows = [self._row(request, text) for request, texts in zip(requests, proposed, strict=True) for text in texts]
        distinct = {row.key: row for row in rows}
        # Rows of similar length share a batch: histories of many episodes differ in length a lot.
        keys = sorted(distinct, key=lambda key: len(distinct[key].tokens))
        found: dict[bytes, float] = {}
        for begin in range(0, len(keys), self.batch_size):
            part = keys[begin : begin + self.batch_size]
            found |= dict(zip(part, self._scores([distinct[key] for key in part]).tolist(), strict=True))
        totals = iter(rows)
        return [np.asarray([found[next(totals).key] for _ in texts], dtype=np.float64) for texts in proposed]

    def _row(self, request: Request, text: str) -> TokenTrajectory:
        history = request.history
        row = tokenize(Window((*history, Turn(text, is_action=True)), len(history), None, True), self.codec)
        if self._limit is not None and len(row.tokens) > self._limit:
            raise ValueError(
                f"the history and the proposal {text!r} have {len(row.tokens)} tokens, but the model's window holds "
                f"{self._limit}; use a smaller memory, shorter episodes or a larger model"
            )
        return row

    def _scores(self, rows: Sequence[TokenTrajectory]) -> Float[Tensor, " B"]:
        """Score each row by its decisions; the rows are distinct, so a batch keeps their order."""
        device = next(self.trunks[0].parameters()).device
        batch = collate(rows, pad_id=self.codec.pad_id).to(device)
        with evaluation(self.trunks):
            hidden = [trunk(input_ids=batch.tokens, use_cache=False).last_hidden_state for trunk in self.trunks]
            scores = self.token_scores(tuple(h[batch.row, batch.position] for h in hidden), batch.action)
        counted = scores.float() * batch.ends_turn if self.last_only else scores.float()
        return torch.zeros(len(rows), device=device).index_add(0, batch.row, counted).cpu()

    def _choose(self, request: Request, scores: Float64[np.ndarray, " P"]) -> int:
        if self.temperature == 0:
            return int(scores.argmax())
        weights = np.exp((scores - scores.max()) / self.temperature)  # shifted: exp of a large score is infinite
        cumulative = weights.cumsum()
        point = self._uniforms.draw(request.seed, request.turn, 1)[0] * cumulative[-1]
        return int(np.searchsorted(cumulative, min(point, np.nextafter(cumulative[-1], 0)), side="right"))
