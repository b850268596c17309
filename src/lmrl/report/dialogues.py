"""The best and the worst episodes of a group of runs, as dialogues to read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmrl.report.groups import Group
from lmrl.report.runs import json_lines

LONGEST_TURN = 2_000
"""Characters of a turn that are shown."""


@dataclass(frozen=True, slots=True)
class Said:
    """One turn."""

    is_agent: bool
    text: str
    reward: float


@dataclass(frozen=True, slots=True)
class Dialogue:
    """One episode."""

    title: str
    seed: int
    index: int
    start: str
    total: float
    success: bool
    turns: tuple[Said, ...]
    left_out: int
    """How many turns in the middle are not shown; they are missing after `head` turns."""
    head: int
    ended: str


def best_and_worst(group: Group, count: int = 1, *, shown: int = 24) -> list[Dialogue]:
    """Return the `count` best and the `count` worst episodes of all seeds; of equal returns the first ones.

    Args:
        group: the runs.
        count: how many of both.
        shown: at most so many turns of each, from its beginning and its end.
    """
    # Only episodes that may be shown stay in memory: transcripts of many runs are large.
    ranked = [(float(episode["return"]), order, seed) for order, (seed, episode) in enumerate(_episodes(group))]
    if not ranked or count < 1:
        return []
    best = sorted(ranked, key=lambda found: (-found[0], found[1]))[:count]
    worst = sorted(ranked, key=lambda found: (found[0], found[1]))[:count]
    titles = {order: "best" for _, order, _ in best}
    for _, order, _ in worst:
        titles.setdefault(order, "worst")
    if len({total for total, _, _ in ranked}) == 1:
        titles = {best[0][1]: "all episodes earned the same; the first"}
    chosen = {o: (seed, ep) for o, (seed, ep) in enumerate(_episodes(group)) if o in titles}
    return [_dialogue(titles[order], *chosen[order], shown) for order in titles]


def _episodes(group: Group) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the episodes of all runs with the runs' seeds."""
    for run in group.runs:
        for episode in _read(run.transcripts):
            yield run.seed, episode


def _read(path: Path | None) -> Sequence[dict[str, Any]]:
    """Return the episodes of a file that can be shown as dialogues."""
    if path is None:
        return []
    lines = json_lines(path.read_text(encoding="utf-8", errors="replace"))
    return [line for line in lines if isinstance(line.get("return"), int | float) and line.get("messages")]


def _dialogue(title: str, seed: int, episode: dict[str, Any], shown: int) -> Dialogue:
    """Return an episode as it is shown."""
    messages = episode["messages"]
    rewards = episode.get("rewards") or [0.0] * len(messages)
    turns = [
        Said(message["role"] == "assistant", _cut(str(message["content"])), float(reward or 0.0))
        for message, reward in zip(messages, rewards, strict=False)
    ]
    head = len(turns) if len(turns) <= shown else shown - shown // 3
    tail = turns[len(turns) - shown // 3 :] if head < len(turns) else []
    start = ", ".join(f"{key} {value}" for key, value in (episode.get("start") or {}).items())
    return Dialogue(
        title=title,
        seed=seed,
        index=int(episode.get("index", 0)),
        start=start,
        total=float(episode["return"]),
        success=bool(episode.get("success")),
        turns=tuple([*turns[:head], *tail]),
        left_out=len(turns) - head - len(tail),
        head=head,
        ended="cut off by the turn limit" if episode.get("truncated") else "ended by itself",
    )


def _cut(said: str) -> str:
    """Shorten a very long turn, saying so."""
    if len(said) <= LONGEST_TURN:
        return said
    return f"{said[:LONGEST_TURN]}\n[… {len(said) - LONGEST_TURN:,} more characters]"
