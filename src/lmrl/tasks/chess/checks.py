"""Positions of check to imitate: where hardly any move that fits the pieces is legal, and a clone errs most."""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from chess import flip_horizontal, square_mirror

from lmrl.config.types import PositiveShare, checked
from lmrl.tasks.chess.positions import Board, Move, move_between, move_text, read_move, read_state, state_text, unspaced
from lmrl.text.trajectory import Trajectory, Turn

Ply = tuple[Board, Move]
"""A position with White to move, and the move that was played there."""


class Checks:
    """Take the positions of check out of recorded games, and as many others as `share` leaves room for.

    Each is an episode of one turn: the position and the move. Where Black is in check, the board is turned, so
    that it is told from White's side; and where nobody may castle, there is the mirror image too. 9,000 games of the
    recipe have 177,000 of them.

    Args:
        share: how many of the turns are those of a check; 1 for no others.
        others: where the others come from: "games" (the first ones, whole) or "positions" (of all games and both sides,
            drawn without replacement; where nobody may castle, every second one is mirrored).
    """

    takes_turns = True  # the turns before and after are lost, with their rewards

    @checked
    def __init__(self, *, share: PositiveShare = 0.5, others: Literal["games", "positions"] = "games") -> None:
        self.share, self.others = share, others

    def __call__(self, trajectories: Sequence[Trajectory]) -> list[Trajectory]:
        """Return others, and the checks of all games; the games alone if they have none.

        Raises:
            ValueError: a text tells no position, or no legal move leads to the next one.
        """
        answers = [answer for game in trajectories for answer in answers_to_check(game)]
        if not answers:
            return list(trajectories)
        room = int(len(answers) * (1 - self.share) / self.share)
        return [*(_first if self.others == "games" else _drawn)(trajectories, room), *answers]


def answers_to_check(game: Trajectory) -> Iterator[Trajectory]:
    """Yield each position of a game in which a side is in check, with its move, from White's side, and its images.

    Raises:
        ValueError: a text tells no position, or no legal move leads to the next one.
    """
    for index in _actions(game):
        # Most positions are none of check, and need no more than a glance.
        if Board(unspaced(game.turns[index - 1].text)).is_check() and (played := _white(game, index)):
            yield from _images(*played)
        if "+" in game.turns[index].text and (reply := _black(game, index)) and reply[0].is_check():  # not only said so
            yield from _images(*reply)


def _first(games: Sequence[Trajectory], room: int) -> Iterator[Trajectory]:
    """Yield the first games, as long as all of their turns find room."""
    for game in games:
        room -= game.length
        if room < 0:
            break
        yield game


def _drawn(games: Sequence[Trajectory], room: int) -> Iterator[Trajectory]:
    """Yield positions of either side without check, at most as many as there is room for."""
    plies = [(game, index, side) for game in games for index in _actions(game) for side in (_white, _black)]
    rng = np.random.default_rng(0)  # the draw belongs to the data, as the checks do, and not to a run's seed
    for number in rng.permutation(len(plies)).tolist():
        if not room:
            break
        game, index, side = plies[number]
        played = side(game, index)
        if played and not played[0].is_check():
            room -= 1
            images = _images(*played)
            told = next(images)
            yield next(images, told) if rng.integers(2) else told


def _actions(game: Trajectory) -> Iterator[int]:
    """Yield where in a game the agent says something about a position that is told."""
    return (index for index, turn in enumerate(game.turns) if turn.is_action and index > 0)


def _white(game: Trajectory, index: int) -> Ply | None:
    """Return White's move at a turn; `None` for an illegal move, which shows nothing to imitate."""
    board = read_state(game.turns[index - 1].text)
    move = read_move(board, game.turns[index].text)
    return (board, move) if move else None


def _black(game: Trajectory, index: int) -> Ply | None:
    """Return Black's reply to a turn, from White's side; `None` if there is none."""
    played = _white(game, index)
    if played is None or index + 1 == len(game.turns):
        return None
    board, move = played
    board.push(move)
    after = read_state(game.turns[index + 1].text)
    if not after.turn:  # White's move ended the game
        return None
    reply = move_between(board, after)
    squares = square_mirror(reply.from_square), square_mirror(reply.to_square)
    return board.mirror(), Move(*squares, promotion=reply.promotion)


def _images(board: Board, move: Move) -> Iterator[Trajectory]:
    """Yield a position with its move, and the mirror image where nobody may castle."""
    yield _episode(board, move)
    if not board.castling_rights:
        squares = (square ^ 7 for square in (move.from_square, move.to_square))  # a to h, b to g, ...
        yield _episode(board.transform(flip_horizontal), Move(*squares, promotion=move.promotion))


def _episode(board: Board, move: Move) -> Trajectory:
    """Return a recording of one turn."""
    turns = (Turn(state_text(board), is_action=False), Turn(move_text(board, move), is_action=True))
    return Trajectory(turns, terminated=False, truncated=True)
