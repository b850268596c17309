"""Write a file of positions to practise from: White is in check with few legal moves, in half of them; else the start.

    python scripts/chess_checks.py data/chess-* checks.fen
    python run.py task=chess algo=ppo training.env.positions=checks.fen

`task.env.positions=checks` has such positions of the first 4,000 of 9,000 games of the recipe, made by

    python scripts/chess_checks.py data/chess-* src/lmrl/tasks/chess/checks_2000.txt --positions 2000 --alone

A clone says illegal moves there most: hardly any move that fits the pieces is legal, and each position is new.
"""

import argparse
import random
from itertools import islice
from pathlib import Path

import chess

from lmrl.data import store
from lmrl.tasks.chess.positions import read_state


def checks(folder: Path, *, games: int, most: int) -> list[str]:
    """Return the FENs of the first games in which White is in check with at most `most` legal moves, sorted."""
    found: set[str] = set()
    for game in islice(store.read(folder), games):
        boards = (read_state(turn.text) for turn in game.turns[:-1] if not turn.is_action)
        found |= {board.fen() for board in boards if board.is_check() and 1 <= board.legal_moves.count() <= most}
    return sorted(found)


def main() -> None:
    """Read the command line, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, help="folder of a dataset of chess")
    parser.add_argument("file", type=Path, help="where to write the positions")
    parser.add_argument("--games", type=int, default=4000, help="how many games are read")
    parser.add_argument("--moves", type=int, default=3, help="most legal moves that White has in them")
    parser.add_argument("--positions", type=int, default=6000, help="how many such positions are written at most")
    parser.add_argument("--alone", action="store_true", help="write no start between them")
    args = parser.parse_args()
    found = checks(args.dataset, games=args.games, most=args.moves)
    if not found:
        parser.error(f"in the first {args.games} games of {args.dataset} White is never in check with so few moves")
    random.Random(0).shuffle(found)
    chosen = found[: args.positions]
    starts = [] if args.alone else [chess.STARTING_FEN] * len(chosen)
    args.file.write_text("\n".join([*chosen, *starts]) + "\n", encoding="ascii")
    print(f"{args.file}: {len(chosen)} positions with White in check, and {len(starts)} times the start")


if __name__ == "__main__":
    main()
