"""Turn episodes into training rows, and rows into a data loader; shared by offline and online data."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

from lmrl.datamodules.sampling import Rows
from lmrl.text.codec import Codec
from lmrl.text.tokens import TokenTrajectory, collate, tokenize
from lmrl.text.trajectory import Trajectory, windows

Episodes = list[list[TokenTrajectory]]
"""The rows of each episode, in order of time."""
_AT_ONCE = 1000
"""Episodes whose texts are encoded in one call: few enough that the codec still remembers them when rows are built."""


def tokenize_episodes(
    trajectories: Sequence[Trajectory],
    codec: Codec,
    memory: int | None,
    replies: bool,
    window: int | None,
    max_new_tokens: int,
) -> Episodes:
    """Turn trajectories into rows; those without any action are left out.

    Args:
        trajectories: the episodes.
        codec: the tokenizer.
        memory: the last turns that form a state; `None`: the whole episode.
        replies: whether rows end with the environment's reply.
        window: the longest sequence that the model can read; `None` if it has no limit.
        max_new_tokens: the longest action while acting, which has to fit behind the longest state.

    Raises:
        ValueError: there is no action at all, or a row is longer than the model can read.
    """
    episodes: Episodes = []
    for first in range(0, len(trajectories), _AT_ONCE):
        some = trajectories[first : first + _AT_ONCE]
        codec.remember(turn.text for one in some for turn in one.turns if turn.tokens is None)
        rows = [[tokenize(window, codec) for window in windows(one, memory, replies)] for one in some]
        episodes += [episode for episode in rows if episode]
    if not episodes:
        raise ValueError("no trajectory of the data has an action to train on")
    flat = [row for episode in episodes for row in episode]
    states = max(int(row.is_decision.nonzero()[0][-1]) for row in flat)
    longest = max(max(len(row.tokens) for row in flat), states + max_new_tokens)
    if window is not None and longest > window:
        raise ValueError(
            f"rows of the data take up to {longest} tokens, but the model reads at most {window}: choose a "
            "smaller task.memory, or a model with a larger window (model.lm.window for model=tiny)"
        )
    return episodes


class ResumableLoader(DataLoader[Any]):
    """A loader that keeps its place in an epoch in checkpoints."""

    _place, _skipped = 0, 0

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Yield the batches of an epoch, after a resumption the remaining ones."""
        self._place, self._skipped = self._skipped, 0
        for batch in islice(super().__iter__(), self._place, None):
            self._place += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Return the number of batches of the epoch that were served."""
        return {"place": self._place % max(1, len(self))}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next epoch begin where another loader was."""
        self._skipped = state["place"]


def loader(rows: Rows, batches: Sampler[list[int]], codec: Codec) -> DataLoader[Any]:
    """Return the loader of training batches.

    Args:
        rows: the rows.
        batches: yields the rows of each batch.
        codec: the tokenizer.
    """
    return ResumableLoader(
        rows,
        sampler=batches,  # where Lightning looks for `set_epoch`; each of its items is a whole batch
        batch_size=None,
        collate_fn=partial(collate, pad_id=codec.pad_id),
        generator=torch.Generator(),  # else each epoch's loader would draw from the generator that dropout uses
    )
