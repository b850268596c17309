"""One question to a chess engine and its answer, as they go over UCI."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

try:
    import chess.engine
except ImportError as error:
    raise ImportError(
        "the chess tasks need the package chess (GPL-3): uv sync --extra chess, or pip install -e '.[chess]'"
    ) from error

MATE = 32_000
"""The engine's value of being mate; a mate in n moves is worth n less."""
UNITS_PER_CENTIPAWN = 3.61
"""The engine's units of value in the hundredths of a pawn that Stockfish 15.1 tells (`NormalizeToPawnValue`)."""

_LINE = re.compile(r"info .*?multipv (\d+) score (cp|mate) (-?\d+) (?!lowerbound|upperbound).*? pv (\S+)")


@dataclass(frozen=True, slots=True)
class Search:
    """How the engine looks for a move.

    Usually it begins with a cleared memory, and so the answer depends on the position alone. If it `remembers`, the
    answer depends on its earlier searches too; with `seconds` it remembers and depends on the machine as well.
    """

    depth: int | None = None
    nodes: int | None = None
    seconds: float | None = None
    elo: int | None = None
    """Strength that the engine limits itself to (random by the clock). `None`: full strength."""
    lines: int = 1
    """How many of the best moves are told."""
    remembers: bool = False

    @property
    def is_repeatable(self) -> bool:
        """Whether the same question always has the same answer."""
        return self.seconds is None and self.elo is None and not self.remembers

    @property
    def hash_megabytes(self) -> int:
        """The engine's memory: 16 as in LMRL-Gym, or 1 where it is cleared often, because 16 take 2 ms to clear."""
        return 1 if self.seconds is None else 16

    @property
    def commands(self) -> tuple[str, ...]:
        """The engine's options for this search."""
        strength = ["setoption name UCI_LimitStrength value " + ("false" if self.elo is None else "true")]
        if self.elo is not None:
            strength.append(f"setoption name UCI_Elo value {self.elo}")
        return (*strength, f"setoption name MultiPV value {self.lines}")

    @property
    def limits(self) -> str:
        """The limits of the search."""
        time = None if self.seconds is None else max(1, round(1000 * self.seconds))
        limits = {"depth": self.depth, "nodes": self.nodes, "movetime": time}
        return " ".join(f"{name} {value}" for name, value in limits.items() if value is not None)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A move that the engine proposes."""

    move: str
    """In UCI notation."""
    value: int
    """For the side to move, in the engine's own units; 0 where the engine was only asked for its move."""


Answer = tuple[Candidate, ...]
"""At least one move, the best one first."""

if TYPE_CHECKING:
    _Command = chess.engine.BaseCommand[Answer]
else:
    _Command = chess.engine.BaseCommand


class Question(_Command):
    """Asks about one position, with all commands at once: python-chess's own analysis takes three times as long.

    Args:
        protocol: the engine.
        fen: the position.
        search: how to look for a move.
        clears: whether the engine forgets earlier searches first.
    """

    def __init__(self, protocol: chess.engine.Protocol, fen: str, search: Search, *, clears: bool) -> None:
        super().__init__(protocol)
        self._protocol, self._search = protocol, search
        # A new game clears the engine's memory.
        game = ["ucinewgame"] if clears else []
        self._commands = (*search.commands, *game, f"position fen {fen}", f"go {search.limits}")
        self._lines: dict[int, Candidate] = {}

    def start(self) -> None:
        """Send everything."""
        self._protocol.send_line("\n".join(self._commands))

    def cancel(self) -> None:
        """Stop searching; the engine then answers at once."""
        self._protocol.send_line("stop")

    def line_received(self, line: str) -> None:
        """Collect the best moves; with the last line the answer is complete.

        Raises:
            EngineError: the engine did not tell as it should.
        """
        if line.startswith("bestmove"):
            self._answer(line.split()[1:2])
        elif self._search.lines > 1 and (found := _LINE.match(line)):
            number, kind, value, move = found.groups()
            self._lines[int(number)] = Candidate(move, _units(kind, int(value)))

    def _answer(self, best: list[str]) -> None:
        """Give the answer."""
        if self.result.cancelled():
            self.set_finished()
            return
        if not best or best[0] == "(none)":
            raise chess.engine.EngineError("it gave no move")
        answer = tuple(self._lines[number] for number in sorted(self._lines)) or (Candidate(best[0], 0),)
        if self._search.lines > 1 and (not self._lines or answer[0].move != best[0]):
            raise chess.engine.EngineError(f"its best move {best[0]} is not the first that it listed, {answer[0].move}")
        self.result.set_result(answer)
        self.set_finished()


def _units(kind: str, value: int) -> int:
    """Return a value in the engine's units."""
    if kind == "cp":
        return round(value * UNITS_PER_CENTIPAWN)
    return MATE - value if value > 0 else -MATE - value
