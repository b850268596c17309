"""Positions of check to imitate: where hardly any move that fits the pieces is legal, and a clone errs most."""

from collections.abc import Iterator, Sequence

from chess import flip_horizontal, square_mirror

from lmrl.envs.parts.positions import Board, Move, move_between, move_text, read_move, read_state, state_text, unspaced
from lmrl.hyperparameters import PositiveShare, checked
from lmrl.text.trajectory import Trajectory, Turn


class Checks:
    """Take the positions of check out of recorded games, and as many whole games as `share` leaves room for.

    Each is an episode of one turn: the position, and what was played. Where Black is in check, the board is turned, so
    that it is told from White's side; and where nobody may castle, there is the mirror image too. 9,000 games of the
    recipe have 177,000 of them.

    Args:
        share: how many of the turns are those of a check; 1 for no whole games.
    """

    @checked
    def __init__(self, *, share: PositiveShare = 0.5) -> None:
        self.share = share

    def __call__(self, trajectories: Sequence[Trajectory]) -> list[Trajectory]:
        """Return the first games, and the checks of all of them; the games alone if they have none.

        Raises:
            ValueError: a text tells no position, or no legal move leads to the next one.
        """
        answers = [answer for game in trajectories for answer in answers_to_check(game)]
        room = len(answers) * (1 - self.share) / self.share if answers else float("inf")
        games: list[Trajectory] = []
        for game in trajectories:
            room -= game.length
            if room < 0:
                break
            games.append(game)
        return games + answers


def answers_to_check(game: Trajectory) -> Iterator[Trajectory]:
    """Yield each position of a game in which a side is in check, with its move, from White's side, and its images.

    Raises:
        ValueError: a text tells no position, or no legal move leads to the next one.
    """
    for index, turn in enumerate(game.turns):
        if not turn.is_action or index == 0:
            continue
        shown = game.turns[index - 1].text
        gives_check = "+" in turn.text
        # Most positions are none of check, and need no more than a glance.
        if not gives_check and not Board(unspaced(shown)).is_check():
            continue
        board = read_state(shown)
        move = read_move(board, turn.text)
        if move is None:
            continue  # an illegal move answers nothing
        if board.is_check():
            yield from _images(board, move)
        board.push(move)
        after = read_state(game.turns[index + 1].text) if index + 1 < len(game.turns) else board
        if board.is_check() and after.turn:  # else White's move ended the game, and Black said nothing
            reply = move_between(board, after)
            squares = square_mirror(reply.from_square), square_mirror(reply.to_square)
            yield from _images(board.mirror(), Move(*squares, promotion=reply.promotion))


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
