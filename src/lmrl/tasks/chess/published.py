"""Reads the chess and end-game data that LMRL-Gym published, in all layouts; every move is checked on its board."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lmrl.config.types import PositiveCount
from lmrl.data.published import FormatError, Place, PublishedFile, flag, short, step, text
from lmrl.data.recipe import Recipe
from lmrl.tasks.chess.env import ILLEGAL_REWARD
from lmrl.tasks.chess.positions import Board, Move, move_text, read_move, read_state, state_text
from lmrl.text.trajectory import Trajectory, Turn

Step = tuple[Any, str, float, bool]
"""Position, action, reward, and whether the game was over after it."""


class PublishedChess(PublishedFile):
    """A published file of games or of single moves, one JSON value per line.

    * a list of objects with `state`, `action`, `reward` and `done`: one game (`train_trajectories.jsonl`, the end
      games' `train.jsonl` and `val.jsonl`);
    * such objects one by one, the games ended by `done` (the older `train.jsonl`, `train_unshuffled.jsonl`);
    * objects with `from_state` and `action` (`train_bc.jsonl` and the like, shuffled): each move is an episode of its
      own, cut off, unless it ends the game. Its reward is the stored one, or else the reward by the rules.

    Positions and moves may have spaces between their characters or not; they are stored as the environment writes them.
    Black's last reply is not recorded, so the last move has no successor. A game counts as terminated if it is `done`
    in fewer than `max_moves` turns.

    Args:
        path: the file.
        like: see `PublishedFile`.
        max_moves: turns after which a game was cut off.
    """

    def __init__(self, *, path: str | Path, like: Recipe, max_moves: PositiveCount = 400) -> None:
        super().__init__(path=path, like=like)
        self._max_moves = max_moves

    def options(self) -> Mapping[str, Any]:
        """Return the settings that distinguish the end of a game from a cut."""
        return {"max_moves": self._max_moves}

    def read(self, values: Iterator[tuple[Place, Any]]) -> Iterator[Trajectory]:
        """Read the games; a file may mix the layouts."""
        waiting: list[Step] = []
        first: Place = {}
        for place, value in values:
            if isinstance(value, list):
                yield self._game([_step(item, index) for index, item in enumerate(value)], place)
            elif isinstance(value, dict) and "from_state" in value:
                yield _single(value, place)
            elif isinstance(value, dict):
                first = first if waiting else place
                waiting.append(_step(value, len(waiting)))
                if waiting[-1][3]:
                    yield self._game(waiting, first)
                    waiting = []
            else:
                raise FormatError(_foreign(value))
        if waiting:
            yield self._game(waiting, first)

    def _game(self, steps: Sequence[Step], place: Place) -> Trajectory:
        """Return the trajectory of a whole game."""
        if not steps:
            raise FormatError("the whole line: a game without any move")
        turns, invalid = [], 0
        for board, action, reward, _ in steps:
            is_invalid = read_move(board, action) is None
            invalid += is_invalid
            said = action if is_invalid else _canonical(board, action)
            turns += [Turn(state_text(board), is_action=False), Turn(said, is_action=True, reward=reward)]
        _, _, reward, is_done = steps[-1]
        terminated = is_done and len(steps) < self._max_moves
        success = reward > 0
        info = {**place, "success": success, "invalid_actions": invalid}
        if terminated:
            last_illegal = read_move(steps[-1][0], steps[-1][1]) is None
            info["result"] = "win" if success else "loss" if reward < 0 and not last_illegal else "draw"
        return Trajectory(tuple(turns), terminated, not terminated, info=info)


def _foreign(value: Any) -> str:
    """Return the fault of a line that fits no layout."""
    if isinstance(value, str):
        return "the whole line: a text, as in a file of positions; use that as task.env.positions instead"
    return f"the whole line: expected a list or an object, got {short(value)}"


def _step(item: Any, index: int) -> Step:
    """Return one step of a game, its move checked on its board."""
    state, action, reward = step(item, index)
    board = _board(state, f"step {index}, field 'state'")
    # Games of trained models have illegal moves, which cost 1; any other reward of one is damage.
    if reward != ILLEGAL_REWARD:
        _checked(board, action, f"step {index}, field 'action'")
    return board, action if action.endswith("\n") else f"{action}\n", reward, item["done"]


def _single(value: Mapping[str, Any], place: Place) -> Trajectory:
    """Return a single move as an episode."""
    board = _board(text(value["from_state"], "field 'from_state'"), "field 'from_state'")
    if "action" not in value:
        raise FormatError("field 'action': missing")
    move = _checked(board, text(value["action"], "field 'action'"), "field 'action'")
    turns = [Turn(state_text(board), is_action=False)]
    said = move_text(board, move)
    board.push(move)
    outcome = board.outcome()
    earned = float(outcome is not None and outcome.winner is not None)
    if "reward" in value:
        _, _, earned = step({"state": "", "done": False, **value}, 0)
    is_done = outcome is not None or ("done" in value and flag(value["done"], "field 'done'"))
    turns.append(Turn(said, is_action=True, reward=earned))
    return Trajectory(tuple(turns), is_done, not is_done, info=dict(place))


def _board(state: str, place: str) -> Board:
    """Return the position of a field."""
    try:
        board = read_state(state)
    except ValueError as error:
        raise FormatError(f"{place}: {error}") from error
    if not board.turn or board.is_game_over():
        raise FormatError(f"{place}: White must be to move, and the game not over: {short(state)}")
    return board


def _checked(board: Board, action: str, place: str) -> Move:
    """Return the move of a field, which must be legal."""
    move = read_move(board, action)
    if move is None:
        raise FormatError(f"{place}: {short(action)} is not a legal move at {board.fen()}")
    return move


def _canonical(board: Board, action: str) -> str:
    """Return a legal move as the environment writes it."""
    move = read_move(board, action)
    return action if move is None else move_text(board, move)
