"""The behaviour data of end games: a strong player who moves at random now and then (arXiv 2311.18232, C.5)."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from lmrl.config.types import PositiveCount, checked
from lmrl.data.recipe import GameRecipe
from lmrl.policies.core import Request
from lmrl.tasks.chess.engine import shared_engines
from lmrl.tasks.chess.env import Chess, RandomMover
from lmrl.tasks.chess.mirrors import IMAGES, image_of_game
from lmrl.tasks.chess.positions import Move, move_text, read_state
from lmrl.tasks.chess.recipe import game_seed, game_statistics, play_game
from lmrl.tasks.chess.search import Search
from lmrl.text.trajectory import Trajectory, Turn


class RandomizedEndgames(GameRecipe):
    """Plays end games in which White makes a random legal move with probability epsilon, else Stockfish's.

    Epsilon is drawn evenly from [0, 1) for each game. Stockfish plays at full strength to a fixed depth, and remembers
    its searches within a game, as LMRL-Gym's did: without that it repeats itself in a tenth of the games. With a
    repeatable opponent (any but `reference`) the data depend on the seed alone.

    Args:
        depth: how far Stockfish looks, in half-moves.
        max_moves: turns after which a recording is cut off, if the environment does not end the game earlier.
        episodes_per_start: how many games in a row begin with the same position, for methods that compare such games.
        images: how many images of each game are stored in a row, from 1 (the game alone) to 8: without pawns, a turned
            or mirrored game is as good as another one, and needs no engine.
        common: see `GameRecipe`.
    """

    game_class, policy = Chess, "stockfish-and-random"

    @checked
    def __init__(
        self,
        *,
        depth: PositiveCount = 8,
        max_moves: PositiveCount = 100,
        episodes_per_start: PositiveCount = 1,
        images: PositiveCount = 1,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        if images > IMAGES:
            raise ValueError(f"endgames data: images must be from 1 to {IMAGES}, got {images}")
        self._depth, self._max_moves = depth, min(max_moves, self.game.max_moves)
        self._episodes_per_start, self._images = episodes_per_start, images
        self._played: tuple[int, Trajectory] | None = None
        self._random = RandomMover()

    def options(self) -> Mapping[str, Any]:
        """Return the recipe's own arguments."""
        return {
            "depth": self._depth,
            "max_moves": self._max_moves,
            "episodes_per_start": self._episodes_per_start,
            "images": self._images,
        }

    def play(self, index: int) -> Trajectory:
        """Play one game; with a repeatable opponent it depends on the seed and its index only."""
        number, image = divmod(index, self._images)
        if self._played is None or self._played[0] != number:  # images of a game are asked for one after another
            self._played = number, self._play(number)
        return image_of_game(self._played[1], image) if image else self._played[1]

    def _play(self, index: int) -> Trajectory:
        """Play the game with this number."""
        seed = game_seed(self.seed, index // self._episodes_per_start)
        chance = np.random.default_rng([self.seed, 1, index])
        # White's engine belongs to this game alone until its end, so that its memory is repeatable.
        engines = shared_engines(self.game.partner.path, processes=1, hash_megabytes=1, purpose="end games of data")
        engines.new_game()
        epsilon = float(chance.random())
        info: dict[str, Any] = {"epsilon": epsilon, "engine_moves": 0}

        def choose(text: str, turn: int) -> str:
            if chance.random() < epsilon:
                request = Request((Turn(text, is_action=False),), seed=seed, turn=turn)
                return self._random.act([request])[0].text
            info["engine_moves"] += 1
            board = read_state(text)
            (answer,) = engines.ask([board.fen()], Search(depth=self._depth, remembers=True))
            return move_text(board, Move.from_uci(answer[0].move))

        return play_game(self.game, seed, choose, info, max_moves=self._max_moves)

    def statistics(self, trajectories: Iterable[Trajectory]) -> dict[str, int | float]:
        """Return the statistics of the games, and the engine's share of the moves, if it is known."""
        moves, engine, kept = {True: 0, False: 0}, {True: 0, False: 0}, []
        for trajectory in trajectories:
            kept.append(trajectory)
            if "engine_moves" in trajectory.info:
                moves[trajectory.info["success"]] += trajectory.length
                engine[trajectory.info["success"]] += trajectory.info["engine_moves"]
        numbers = game_statistics(kept)
        if sum(moves.values()):
            numbers["engine_move_share"] = sum(engine.values()) / sum(moves.values())
            numbers["wins_engine_move_share"] = engine[True] / max(moves[True], 1)
            numbers["wins_state_share"] = moves[True] / sum(moves.values())
        return numbers
