"""The eight images of a chessboard without pawns: turned and mirrored, every game stays a legal game."""

from lmrl.tasks.chess.positions import Board, Move, is_of_evaluation, move_text, read_move, read_state, state_text
from lmrl.text.trajectory import Trajectory, Turn

IMAGES = 8
"""How many there are; number 0 is the board itself."""


def image_of_square(square: int, image: int) -> int:
    """Return where a square (0 to 63, a1 is 0, h1 is 7) comes to lie: files flipped, ranks flipped, both swapped."""
    file, rank = square % 8, square // 8
    file = 7 - file if image & 1 else file
    rank = 7 - rank if image & 2 else rank
    return 8 * file + rank if image & 4 else 8 * rank + file


def image_of_board(board: Board, image: int) -> Board:
    """Return the image of a position; whose turn it is and the counters stay."""
    found = Board(None)
    found.set_piece_map({image_of_square(square, image): piece for square, piece in board.piece_map().items()})
    found.turn, found.halfmove_clock, found.fullmove_number = board.turn, board.halfmove_clock, board.fullmove_number
    return found


def image_of_game(game: Trajectory, image: int) -> Trajectory:
    """Return the image of a recorded game, or the game itself where its image begins as one of the evaluation's.

    Args:
        game: positions and legal moves in turn, without pawns and castling.
        image: which image, from 0 to 7.

    Raises:
        ValueError: a position has pawns or may castle, or a move is not legal.
    """
    turns: list[Turn] = []
    board = read_state(game.turns[0].text)
    if is_of_evaluation(image_of_board(board, image)):
        return game
    for turn in game.turns:
        if not turn.is_action:
            board = read_state(turn.text)
            if board.pawns or board.castling_rights:
                raise ValueError(f"images change games with pawns or castling: {turn.text.strip()!r}")
            turns.append(Turn(state_text(image_of_board(board, image)), is_action=False))
            continue
        move = read_move(board, turn.text)
        if move is None:
            raise ValueError(f"not a legal move in {board.fen()!r}: {turn.text.strip()!r}")
        squares = (image_of_square(square, image) for square in (move.from_square, move.to_square))
        turns.append(Turn(move_text(image_of_board(board, image), Move(*squares)), True, turn.reward))
    return Trajectory(tuple(turns), game.terminated, game.truncated, game.seed, {**game.info, "image": image})
