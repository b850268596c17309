"""Games of chess for people: all of them as PGN, and the boards of a few as SVG.

python -m lmrl.tasks.chess.games transcripts.jsonl --to games.pgn
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

try:
    import chess.pgn
    import chess.svg
except ImportError as error:
    raise ImportError(
        "the chess tasks need the package chess (GPL-3): uv sync --extra chess, or pip install -e '.[chess]'"
    ) from error

from lmrl.config.types import Count
from lmrl.tasks.chess.positions import move_between, read_move, read_state
from lmrl.text.trajectory import Trajectory, Turn

BOARD_SIZE = 360
RESULTS = {"win": "1-0", "loss": "0-1", "draw": "1/2-1/2", "limit": "*"}


@dataclass(frozen=True, slots=True)
class Ply:
    """One move of a game, or a text of the agent that is none."""

    board: chess.Board
    """The position before it."""
    move: chess.Move | None
    said: str
    """The agent's text; empty for Black, whose moves are seen from the next position."""


def plies(trajectory: Trajectory) -> Iterator[Ply]:
    """Read the moves of a game from its texts; Black's are the ones that lead to the next position.

    Raises:
        ValueError: a text tells no position, or no move leads to it.
    """
    turns = trajectory.turns
    for index, turn in enumerate(turns):
        if not turn.is_action or index == 0:
            continue
        board = read_state(turns[index - 1].text)
        move = read_move(board, turn.text)
        yield Ply(board, move, turn.text)
        if move is None or index + 1 >= len(turns):
            continue
        after = board.copy(stack=False)
        after.push(move)
        target = read_state(turns[index + 1].text)
        if after.fen() != target.fen():
            yield Ply(after, move_between(after, target), "")


def to_pgn(trajectory: Trajectory, *, number: int) -> chess.pgn.Game:
    """Return a game with its result, its opponent, and the agent's illegal texts as comments.

    Args:
        trajectory: the game.
        number: the game's number, from 1.

    Raises:
        ValueError: a text tells no position, or no move leads to it.
    """
    info = trajectory.info
    game = chess.pgn.Game()
    start = read_state(trajectory.turns[0].text)
    if start.fen() != chess.STARTING_FEN:
        game.setup(start)
    node: chess.pgn.GameNode = game
    for ply in plies(trajectory):
        if ply.move is None:
            node.comment = f"{node.comment} illegal: {_harmless(ply.said)}".strip()
        else:
            node = node.add_main_variation(ply.move)
    engine = str(info.get("engine", "Stockfish"))
    game.headers.update({"Event": "lmrl", "Round": str(number), "White": "policy"})
    game.headers["Black"] = f"{engine} ({info['opponent']})" if "opponent" in info else engine
    game.headers["Result"] = RESULTS.get(str(info.get("result")), "*")
    game.headers["IllegalMoves"] = str(info.get("invalid_actions", 0))
    if "elo" in info:
        game.headers["WhiteElo"] = str(info["elo"])
    if trajectory.seed is not None:
        game.headers["Seed"] = str(trajectory.seed)
    return game


def _harmless(said: str) -> str:
    """Return a text as it may stand in a comment of a PGN file: one short line without braces."""
    return repr(said.strip())[1:-1].translate({ord("{"): "(", ord("}"): ")"})[:60]


def save_games(*, trajectories: Sequence[Trajectory], folder: Path, pictures: Count = 3) -> list[Path]:
    """Write all games as `games.pgn`, and boards of the first few as SVG; return the files.

    Of a game are shown: its start, the board of the first illegal text, the first capture, and its end; the arrow is
    the last move, or the move that was made.

    Args:
        trajectories: the games.
        folder: where to; made if it is not there.
        pictures: of how many games boards are drawn.

    Raises:
        ValueError: a text tells no position, or no move leads to it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    games = [to_pgn(trajectory, number=number) for number, trajectory in enumerate(trajectories, start=1)]
    written = [folder / "games.pgn"]
    written[0].write_text("\n\n".join(map(str, games)) + "\n", encoding="utf-8")
    for number, trajectory in enumerate(trajectories[:pictures], start=1):
        for name, picture in moments(trajectory).items():
            written.append(folder / f"game_{number:03d}_{name}.svg")
            written[-1].write_text(picture, encoding="utf-8")
    return written


def moments(trajectory: Trajectory) -> dict[str, str]:
    """Return the boards of a game that are worth a look, by name, as SVG."""
    played = list(plies(trajectory))
    boards = {"1_start": chess.svg.board(read_state(trajectory.turns[0].text), size=BOARD_SIZE)}
    illegal = next((ply for ply in played if ply.move is None), None)
    if illegal is not None:
        boards["2_illegal"] = chess.svg.board(illegal.board, size=BOARD_SIZE)
    capture = next((ply for ply in played if ply.move is not None and ply.board.is_capture(ply.move)), None)
    if capture is not None and capture.move is not None:
        arrow = chess.svg.Arrow(capture.move.from_square, capture.move.to_square)
        boards["3_capture"] = chess.svg.board(capture.board, arrows=[arrow], size=BOARD_SIZE)
    legal = [ply for ply in played if ply.move is not None]
    if legal and legal[-1].move is not None:
        board, move = legal[-1].board, legal[-1].move
        board.push(move)
        king = board.king(board.turn) if board.is_check() else None
        boards["4_end"] = chess.svg.board(board, lastmove=move, check=king, size=BOARD_SIZE)
    return boards


def read_transcripts(path: Path) -> list[Trajectory]:
    """Read the games of a run's `transcripts.jsonl`."""
    return [_trajectory(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _trajectory(record: Mapping[str, Any]) -> Trajectory:
    """Return one transcript as a trajectory, its result told from how it ended."""
    pairs = zip(record["messages"], record["rewards"], strict=True)
    turns = tuple(Turn(said["content"], said["role"] == "assistant", reward) for said, reward in pairs)
    result = "limit" if record["truncated"] else "draw"
    if record["terminated"] and read_state(turns[-1].text).is_checkmate():
        result = "win" if record["success"] else "loss"
    info = {"success": record["success"], "invalid_actions": record["invalid_actions"], "result": result}
    return Trajectory(turns, record["terminated"], record["truncated"], record["seed"], info)


def main(arguments: Sequence[str] | None = None) -> None:
    """Turn transcripts into PGN."""
    parser = argparse.ArgumentParser(description="Write the games of a run's transcripts.jsonl as PGN.")
    parser.add_argument("transcripts", type=Path)
    parser.add_argument("--to", type=Path, required=True, help="the PGN file")
    given = parser.parse_args(arguments)
    games = (to_pgn(game, number=number) for number, game in enumerate(read_transcripts(given.transcripts), start=1))
    given.to.write_text("\n\n".join(map(str, games)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
