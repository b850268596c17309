"""Choose the end games of the evaluation (645) and of validation (256).

    python scripts/endgame_positions.py

Mate takes at least 8 moves (15 plies) against the best defence. Solves queen or rook against the lone king exactly, by
going back from all mates, and draws positions in the same way as training does. With two pieces (kQRK, kRRK) mate never
takes more than 7 moves, so none of them is hard enough. Checkpoints are chosen by the positions of validation, which
are neither the evaluation's nor images of them. Writes `endgames_645.txt` and `endgames_256.txt` in
`src/lmrl/tasks/chess/`, the same files each time.
"""

import sys
from collections.abc import Iterator
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np
from chess import Board, Piece, square_distance

from lmrl.tasks.chess import positions
from lmrl.tasks.chess.mirrors import IMAGES, image_of_board

COUNTS = {"kQK": 322, "kRK": 323}
VALIDATION = {"kQK": 128, "kRK": 128}
LEAST_MOVES = 8
LINES = {"R": ((0, 1), (0, -1), (1, 0), (-1, 0)), "Q": tuple((r, f) for r in (-1, 0, 1) for f in (-1, 0, 1) if r or f)}
KING_STEPS = LINES["Q"]
Squares = tuple[int, int, int]
"""White king, white piece, black king."""


def shifted(square: int, step: tuple[int, int]) -> int | None:
    """Return the square one step away, or nothing at the edge."""
    rank, file = square // 8 + step[0], square % 8 + step[1]
    return 8 * rank + file if 0 <= rank < 8 and 0 <= file < 8 else None


KING_MOVES = [[to for step in KING_STEPS if (to := shifted(square, step)) is not None] for square in range(64)]


@cache
def piece_moves(symbol: str, square: int, *blockers: int) -> frozenset[int]:
    """Return where a queen or rook can go; blockers stop it and are not taken."""
    found = set()
    for step in LINES[symbol]:
        to = shifted(square, step)
        while to is not None and to not in blockers:
            found.add(to)
            to = shifted(to, step)
    return frozenset(found)


def black_replies(symbol: str, king: int, piece: int, black: int) -> list[int] | None:
    """Return where the black king can go without being taken; `None` if it can take the piece, which draws."""
    replies = []
    for to in KING_MOVES[black]:
        if to == piece and square_distance(king, piece) > 1:
            return None
        if to != piece and square_distance(to, king) > 1 and to not in piece_moves(symbol, piece, king):
            replies.append(to)
    return replies


def white_before(symbol: str, king: int, piece: int, black: int) -> list[Squares]:
    """Return the positions from which White can move to this one; White was not giving check before its move."""
    before = [(king, there, black) for there in piece_moves(symbol, piece, king, black)]
    before += [(there, piece, black) for there in KING_MOVES[king] if there not in (piece, black)]
    return [(k, p, b) for k, p, b in before if square_distance(k, b) > 1 and b not in piece_moves(symbol, p, k)]


def solve(symbol: str) -> np.ndarray:
    """Return in how many moves White, to move, mates from (white king, piece, black king); 0 where it cannot."""
    moves = np.zeros((64, 64, 64), dtype=np.int8)
    open_replies: dict[Squares, int] = {}
    lost: list[Squares] = []
    for king, piece, black in np.ndindex(64, 64, 64):
        if len({king, piece, black}) < 3 or square_distance(king, black) <= 1:
            continue
        replies = black_replies(symbol, king, piece, black)
        if replies:
            open_replies[king, piece, black] = len(replies)
        elif replies == [] and black in piece_moves(symbol, piece, king):
            lost.append((king, piece, black))
    count = 0
    while lost:
        count += 1
        won = {before for position in lost for before in white_before(symbol, *position) if not moves[before]}
        for position in won:
            moves[position] = count
        lost = [before for position in won for before in now_lost(position, open_replies)]
    return moves


def now_lost(won: Squares, open_replies: dict[Squares, int]) -> list[Squares]:
    """Return where Black, to move, has just lost its last reply that was not known to lose; count down the others."""
    king, piece, black = won
    found = []
    for there in KING_MOVES[black]:
        before = (king, piece, there)
        if before in open_replies:
            open_replies[before] -= 1
            if not open_replies[before]:
                found.append(before)
    return found


def hard_positions(rng: np.random.Generator, piece_set: str, moves: np.ndarray, count: int) -> Iterator[str]:
    """Yield distinct positions in which mate takes long, as they are drawn."""
    found: set[str] = set()
    while len(found) < count:
        fen = positions.draw_position(rng, piece_set)
        board = Board(fen)
        white, black = board.king(True), board.king(False)
        (piece,) = board.pieces(Piece.from_symbol(piece_set[1]).piece_type, True)
        if moves[white, piece, black] >= LEAST_MOVES and fen not in found:
            found.add(fen)
            yield fen


def images(fen: str) -> set[str]:
    """Return a position as it looks turned and mirrored."""
    return {image_of_board(Board(fen), image).fen() for image in range(IMAGES)}


def write(file: Path, chosen: list[str]) -> None:
    """Write positions, one a line."""
    file.write_text("".join(fen + "\n" for fen in chosen), encoding="ascii")
    print(len(chosen), "positions in", file.name, file=sys.stderr)


def main() -> None:
    """Solve, draw and write."""
    positions.EVALUATION_FILE.write_text("")  # positions are drawn as if there were no evaluation yet
    solved = {piece_set: solve(piece_set[1]) for piece_set in COUNTS}
    for piece_set, moves in solved.items():
        reachable = moves[moves > 0]
        print(piece_set, "longest", moves.max(), "moves; positions by moves", np.bincount(reachable)[1:].tolist())
    rng = np.random.default_rng(0)
    reported = [fen for name, count in COUNTS.items() for fen in hard_positions(rng, name, solved[name], count)]
    taken = set().union(*map(images, reported))
    others: list[str] = []
    for name, count in VALIDATION.items():
        drawn = (fen for fen in hard_positions(rng, name, solved[name], len(taken)) if fen not in taken)
        others += islice(drawn, count)
    write(positions.EVALUATION_FILE, reported)
    write(positions.VALIDATION_FILE, others)


if __name__ == "__main__":
    main()
