"""Chess positions: their text, the text of moves, and the positions that games start from."""

import hashlib
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

try:
    from chess import SQUARES, Board, Move, Piece
except ImportError as error:
    raise ImportError(
        "the chess tasks need the package chess (GPL-3): uv sync --extra chess, or pip install -e '.[chess]'"
    ) from error

EVALUATION_FILE = Path(__file__).with_name("endgames_645.txt")
"""The end games of the evaluation, made by `scripts/endgame_positions.py`; training never starts from them."""
VALIDATION_FILE = Path(__file__).with_name("endgames_256.txt")
"""As hard end games to choose checkpoints by, from the same script; none is one of the evaluation's, nor its image."""
CHECKS_FILE = Path(__file__).with_name("checks_2000.txt")
"""Positions in which White is in check, with at most three legal moves, made by `scripts/chess_checks.py`."""
INITIAL = "initial"
"""The name of the usual start of a game."""
CHECKS = "checks"
"""The name of starts to practise from: half of them the usual one, half of them in check."""


def state_text(board: Board) -> str:
    """Write a position as the tasks show it: its FEN with a space between all characters, and a line break."""
    return " ".join(board.fen()) + "\n"


def move_text(board: Board, move: Move) -> str:
    """Write a legal move as the tasks show it: its SAN with a space between all characters, and a line break."""
    return " ".join(board.san(move)) + "\n"


def unspaced(text: str) -> str:
    """Return a FEN without the spaces between its characters; a FEN without such spaces stays as it is."""
    line = text.strip()
    is_spaced = len(line) > 1 and not line[1::2].strip(" ")
    return line[::2] if is_spaced else line


def read_state(text: str) -> Board:
    """Return the position that a text tells, spaced or plain.

    Raises:
        ValueError: the text is no FEN, or the position cannot occur in a game.
    """
    try:
        board = Board(unspaced(text))
    except (ValueError, IndexError) as error:
        raise ValueError(f"not a FEN ({error}): {text[:150]!r}") from error
    if not board.is_valid():
        raise ValueError(f"a position that cannot occur in a game: {text[:150]!r}")
    return board


def read_move(board: Board, text: str) -> Move | None:
    """Return the legal move that a text in SAN means, with or without spaces, or `None` if it means none."""
    try:
        move = board.parse_san(text.replace(" ", "").strip())
    except ValueError:  # raised by python-chess for texts that are unreadable, illegal or ambiguous
        return None
    return move or None  # the null move counts as false


def move_between(before: Board, after: Board) -> Move:
    """Return the legal move that leads from one position to the next.

    Raises:
        ValueError: there is none.
    """
    for move in before.legal_moves:
        if after.piece_at(move.from_square) or after.color_at(move.to_square) != before.turn:
            continue  # quick to see, and true of nearly all
        before.push(move)
        is_it = before.board_fen() == after.board_fen()
        before.pop()
        if is_it:
            return move
    raise ValueError(f"no move leads from {before.fen()!r} to {after.fen()!r}")


def read_positions(path: str | Path) -> tuple[str, ...]:
    """Read a file with one FEN per line, plain or as a JSON string, as LMRL-Gym's position files are.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line is no position that White can play from; the message names file and line.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"{file}: there is no such file with positions")
    return _positions_of(file, file.stat().st_mtime_ns)


@cache
def _positions_of(file: Path, changed: int) -> tuple[str, ...]:  # noqa: ARG001 - a file that changed is read again
    """Read a file of positions once for all environments of a rollout, each of which asks for it."""
    found = []
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: cannot be read as text ({error})") from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                text = json.loads(line) if line.lstrip().startswith(('"', "{", "[")) else line
                found.append(_start(text))
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{file}, line {number}: {error}") from error
    if not found:
        raise ValueError(f"{file}: it contains no position")
    return tuple(found)


def _start(text: Any) -> str:
    """Return the FEN of a position that a game can start from."""
    if not isinstance(text, str):
        raise ValueError(f"expected the FEN of a position as text, got {text!r:.60}")
    board = read_state(text)
    if not board.turn or board.is_game_over():
        raise ValueError(f"White must be to move, and the game not over: {text[:150]!r}")
    return board.fen()


@cache
def _listed(file: Path) -> tuple[str, ...]:
    """Return the FENs of a file of our own, all sets of pieces together."""
    return tuple(file.read_text(encoding="ascii").split("\n")[:-1])


@cache
def _listed_with(file: Path, sets: frozenset[str]) -> tuple[str, ...]:
    """Return the FENs of a file of our own that have one of these sets of pieces, written as by `pieces`."""
    return tuple(fen for fen in _listed(file) if pieces(fen) in sets)


@cache
def _placements() -> frozenset[str]:
    """Return where the pieces stand in each position of the evaluation."""
    return frozenset(fen.split()[0] for fen in _listed(EVALUATION_FILE))


def is_of_evaluation(board: Board) -> bool:
    """Tell whether the pieces stand as in one of the evaluation's positions."""
    return board.board_fen() in _placements()


def pieces(fen: str) -> str:
    """Return the letters of the pieces on the board, sorted."""
    return "".join(sorted(filter(str.isalpha, fen.split()[0])))


def draw_position(rng: np.random.Generator, piece_set: str) -> str:
    """Draw where the pieces stand: distinct squares, all equally likely, drawn again until White can play.

    White is to move and not in check, the position can occur in a game, and it is not one of the evaluation's.

    Args:
        rng: where the randomness comes from.
        piece_set: letters as in a FEN, capitals for White.
    """
    while True:
        board = Board(None)
        squares = rng.permutation(len(SQUARES))[: len(piece_set)].tolist()
        for square, symbol in zip(squares, piece_set, strict=True):
            board.set_piece_at(square, Piece.from_symbol(symbol))
        is_playable = board.is_valid() and not board.is_check() and not board.is_game_over()
        if is_playable and not is_of_evaluation(board):
            return board.fen()


class Starts:
    """The positions that games start from.

    Args:
        positions: `initial`; `checks`, half of which are positions of check; or sets of pieces, as `["kQK", "kRK"]`
            (capitals are White's), from which positions are drawn; or a file that `read_positions` reads.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a set of pieces or a line of the file is wrong.
    """

    def __init__(self, positions: str | Sequence[str]) -> None:
        self.sets: tuple[str, ...] = ()
        self._listed: tuple[str, ...] = (Board().fen(),)
        self.settings: Any = INITIAL
        """Identifies these starts, as JSON values; of a file its name and content."""
        if not isinstance(positions, str):
            self.sets = tuple(map(_checked_set, positions))
            self.settings = list(self.sets)
            self._listed = _listed_with(EVALUATION_FILE, frozenset(map(_sorted, self.sets)))
            if not self.sets:
                raise ValueError("chess: positions is an empty list, name at least one set of pieces, as kQK")
        elif positions == CHECKS:
            checks = read_positions(CHECKS_FILE)
            self._listed, self.settings = (*checks, *self._listed * len(checks)), CHECKS
        elif positions != INITIAL:
            self._listed = read_positions(positions)
            content = hashlib.sha256("\n".join(self._listed).encode()).hexdigest()
            self.settings = {"file": Path(positions).name, "sha256": content}

    def draw(self, rng: np.random.Generator) -> str:
        """Return the FEN of one start; those of a file are equally likely, and so are sets of pieces."""
        if self.sets:
            return draw_position(rng, self.sets[int(rng.integers(len(self.sets)))])
        return self._listed[int(rng.integers(len(self._listed)))]

    def evaluation(self) -> tuple[str, ...]:
        """Return the FENs that the evaluation plays.

        Raises:
            ValueError: there are no evaluation positions with these sets of pieces.
        """
        if not self._listed:
            known = ", ".join(sorted({pieces(fen) for fen in _listed(EVALUATION_FILE)}))
            raise ValueError(
                f"chess: no evaluation position has the pieces {', '.join(self.sets)}, only {known} are there: "
                "name a file of positions instead (task.env.positions=FILE)"
            )
        return self._listed

    def validation(self) -> tuple[str, ...]:
        """Return the FENs that checkpoints are chosen by; none where games start from a list, which has no others."""
        return _listed_with(VALIDATION_FILE, frozenset(map(_sorted, self.sets)))


def _sorted(piece_set: str) -> str:
    """Return the letters in the order of `pieces`."""
    return "".join(sorted(piece_set))


def _checked_set(piece_set: str) -> str:
    """Return a set of pieces, or raise `ValueError`."""
    is_set = set(piece_set) <= set("kqrbnpKQRBNP") and piece_set.count("k") == piece_set.count("K") == 1
    if not is_set or len(piece_set) < 3:
        raise ValueError(f"chess: {piece_set!r} is not a set of pieces as kQK: one k, one K, and others of qrbnpQRBNP")
    return piece_set
