"""How strong a chess engine plays, by name, and the rule by which weaker play is chosen."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lmrl.tasks.chess.engine import Engines, shared_engines
from lmrl.tasks.chess.search import Answer, Search

LOWEST_ELO, HIGHEST_ELO = 1350, 2850
"""The range of Stockfish 15.1's limited strength."""
STRENGTHS = ("reference", "depth1", "nodes", "depth")
CHOICES = 4
"""Among how many of the best moves weaker play chooses."""
HALF_PAWN = 126
"""The largest difference of values (in the engine's units) that chance may overcome."""


@dataclass(frozen=True, slots=True)
class Strength:
    """One way to play.

    `reference` is the opponent of LMRL-Gym: Stockfish limits itself to `elo` and thinks for `seconds`. It draws its
    randomness from the clock, so its games cannot be repeated.

    `depth1` values the moves of a position by a search of depth 1 (2 or 3 above Elo 1490 and 1597) from a cleared
    memory, and `weaker_move` chooses among the best four by Stockfish's own rule, with randomness that it is given.

    `nodes` and `depth` are full strength, limited to `nodes` positions or to `depth` half-moves, from a cleared memory:
    the same every time. They see the position, not how it came about, so that a shallow search may repeat
    itself until the game is a draw: with rook against king that happens below depth 10, and at 100,000 nodes still.

    Args:
        name: one of `STRENGTHS`.
        elo: of `reference` and `depth1`; values below 1350, Stockfish's minimum, count as 1350.
        seconds: of `reference`.
        nodes: of `nodes`.
        depth: of `depth`.

    Raises:
        ValueError: a value is out of range.
    """

    name: Literal["reference", "depth1", "nodes", "depth"] = "depth1"
    elo: int = LOWEST_ELO
    seconds: float = 0.1
    nodes: int = 1_000
    depth: int = 14

    def __post_init__(self) -> None:
        if self.name not in STRENGTHS:
            raise ValueError(f"chess: opponent must be one of {', '.join(STRENGTHS)}, got {self.name!r}")
        if self.elo > HIGHEST_ELO:
            raise ValueError(f"chess: elo must be at most {HIGHEST_ELO}, got {self.elo} (opponent nodes has no limit)")
        if not 0 < self.seconds <= 60:
            raise ValueError(f"chess: seconds must be in (0, 60], got {self.seconds}")
        if self.nodes < 1 or self.depth < 1:
            raise ValueError(f"chess: nodes and depth must be positive, got {self.nodes} and {self.depth}")

    @property
    def level(self) -> float:
        """Stockfish's skill level, from 0 to 20, that stands for the Elo."""
        return (max(self.elo, LOWEST_ELO) - 1346.6) ** (1 / 0.806) / 143.4 ** (1 / 0.806)

    @property
    def search(self) -> Search:
        """The search of the engine."""
        if self.name == "reference":
            return Search(seconds=self.seconds, elo=max(self.elo, LOWEST_ELO))
        if self.name == "nodes":
            return Search(nodes=self.nodes)
        if self.name == "depth":
            return Search(depth=self.depth)
        return Search(depth=1 + int(self.level), lines=CHOICES)

    def settings(self) -> dict[str, Any]:
        """Return the values that determine the play, as JSON values."""
        elo = max(self.elo, LOWEST_ELO)
        limits: dict[str, dict[str, Any]] = {
            "reference": {"elo": elo, "seconds": self.seconds},
            "depth1": {"elo": elo},
            "nodes": {"nodes": self.nodes},
            "depth": {"depth": self.depth},
        }
        return {"name": self.name, **limits[self.name]}

    def engines(self, path: str, processes: int | None) -> Engines:
        """Return this process's engines for this kind of search; `processes` is at most 2 unless it is given."""
        count = processes or min(os.cpu_count() or 1, 2)
        return shared_engines(path, processes=count, hash_megabytes=self.search.hash_megabytes)

    def choose(self, answer: Answer, draws: Sequence[float]) -> str:
        """Return the move that is played, in UCI notation.

        Args:
            answer: the engine's proposals.
            draws: `CHOICES` numbers in [0, 1); only `depth1` uses them.
        """
        return weaker_move(answer, self.level, draws) if self.name == "depth1" else answer[0].move


def weaker_move(answer: Answer, level: float, draws: Sequence[float]) -> str:
    """Choose a move as Stockfish does when it limits its strength, but with given randomness.

    With w = 120 - 2 level, b the best value and s = min(b - worst value, 126), a move of value v has the merit
    v + (w (b - v) + s floor(u floor(w))) / 128, and the move with the largest merit is played.

    Args:
        answer: the best moves and their values.
        level: Stockfish's skill level, from 0 to 20.
        draws: for each move its u in [0, 1).
    """
    weakness = 120 - 2 * level
    best, worst = answer[0].value, answer[-1].value
    spread = min(best - worst, HALF_PAWN)
    merits = [
        candidate.value + int((weakness * (best - candidate.value) + spread * int(draw * int(weakness))) / 128)
        for candidate, draw in zip(answer, draws, strict=False)
    ]
    # Of equally good moves the last one is played.
    return answer[max(range(len(merits)), key=lambda index: (merits[index], index))].move
