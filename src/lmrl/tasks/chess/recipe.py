"""The behaviour data of whole games: Stockfish of many strengths against the opponent (arXiv 2311.18232, C.4)."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from lmrl.config.types import Count, PositiveCount, checked
from lmrl.data.recipe import GameRecipe
from lmrl.policies.core import Request
from lmrl.tasks.chess.env import Chess, EnginePlayer
from lmrl.text.trajectory import Trajectory, Turn


class EngineGames(GameRecipe):
    """Plays games of Stockfish, as White, against the environment's opponent.

    White's Elo is drawn evenly from [`elo_low`, `elo_high`] for every `games_per_elo` games. Values below 1350 play
    as 1350, Stockfish's minimum: with the published range that is 69 % of all draws.

    With the opponent `depth1` both sides play at depth 1 (White at 2 or 3 above Elo 1490 and 1597), and the data depend
    on the seed alone. With `reference` both think for 100 ms per move, as published, and no two runs agree.

    Args:
        elo_low: lower end of White's Elo.
        elo_high: upper end of White's Elo.
        games_per_elo: games between two draws of White's Elo.
        common: see `GameRecipe`.
    """

    game_class, policy = Chess, "stockfish"

    @checked
    def __init__(
        self, *, elo_low: Count = 800, elo_high: Count = 1600, games_per_elo: PositiveCount = 100, **common: Any
    ) -> None:
        super().__init__(**common)
        if elo_low > elo_high:
            raise ValueError(f"chess data: elo_low must be at most elo_high, got {elo_low} and {elo_high}")
        self._kind: Any = self.game.partner.strength.name
        if self._kind not in ("depth1", "reference"):
            raise ValueError(f"chess data: the opponent must be depth1 or reference, got {self._kind!r}")
        self._elo_low, self._elo_high, self._games_per_elo = elo_low, elo_high, games_per_elo

    def options(self) -> Mapping[str, Any]:
        """Return the recipe's own arguments."""
        return {"elo_low": self._elo_low, "elo_high": self._elo_high, "games_per_elo": self._games_per_elo}

    def play(self, index: int) -> Trajectory:
        """Play one game; with the opponent `depth1` it depends on the seed and its index only."""
        draws = np.random.default_rng([self.seed, index // self._games_per_elo])
        elo = int(draws.integers(self._elo_low, self._elo_high, endpoint=True))
        seed = game_seed(self.seed, index)
        black = self.game.partner
        white = EnginePlayer(
            strength=self._kind,
            elo=elo,
            seconds=black.strength.seconds,
            engine_path=black.path,
            processes=black.processes,
        )
        return play_game(
            self.game,
            seed,
            lambda text, turn: white.act([Request((Turn(text, is_action=False),), seed=seed, turn=turn)])[0].text,
            {"elo": elo},
        )

    def statistics(self, trajectories: Iterable[Trajectory]) -> dict[str, int | float]:
        """Return how often games were drawn and lost, and the share of different states among all."""
        return game_statistics(trajectories)


def game_seed(seed: int, index: int) -> int:
    """Return the seed of one game."""
    return int(np.random.SeedSequence([seed, 0, index]).generate_state(1)[0])


def play_game(
    game: Chess, seed: int, choose: Callable[[str, int], str], info: Mapping[str, Any], *, max_moves: int | None = None
) -> Trajectory:
    """Play one game to its end, or to `max_moves` turns, which cut it off.

    Args:
        game: the environment.
        seed: seed of the game.
        choose: from the newest observation and the number of turns so far to White's move.
        info: further facts that are stored with the game.
        max_moves: turns after which the recording ends. `None`: those of the environment.
    """
    observation, _ = game.reset(seed=seed)
    turns, last = [Turn(observation, is_action=False)], {}
    terminated = truncated = False
    while not terminated and not truncated:
        action = choose(observation, len(turns) // 2)
        observation, reward, terminated, truncated, last = game.step(action)
        turns += [Turn(action, is_action=True, reward=reward), Turn(observation, is_action=False)]
        truncated = truncated or (not terminated and max_moves is not None and len(turns) // 2 >= max_moves)
    told = {"success": last["success"], "result": last.get("result", "limit"), "invalid_actions": 0}
    known = {"opponent": last["opponent"], "engine": game.partner.engine}
    return Trajectory(tuple(turns), terminated, truncated, seed=seed, info={**told, **known, **info})


def game_statistics(trajectories: Iterable[Trajectory]) -> dict[str, int | float]:
    """Return the shares of draws and losses where they are known, and the share of different states among all."""
    results = {"draw": 0, "loss": 0}
    seen: set[int] = set()
    told = states = 0
    for trajectory in trajectories:
        result = trajectory.info.get("result")
        told += result is not None
        if result in results:
            results[result] += 1
        texts = [turn.text for turn in trajectory.turns[:-1] if not turn.is_action]
        states += len(texts)
        seen.update(map(hash, texts))
    shares = {f"{name}_rate": count / told for name, count in results.items()} if told else {}
    return {**shares, "unique_state_share": len(seen) / max(states, 1)}
