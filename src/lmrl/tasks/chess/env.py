"""Chess against Stockfish: whole games, or end games that White can win. The agent is White."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from enum import Enum, auto
from functools import cache
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from lmrl.config.types import Number, PathText, PositiveCount, Processes
from lmrl.envs.core import StepResult, TextEnv
from lmrl.policies.core import Action, Request
from lmrl.policies.randomness import Uniforms
from lmrl.tasks.chess.engine import EngineFailedError, find_engine
from lmrl.tasks.chess.positions import Board, Move, Starts, move_text, read_move, read_state, state_text
from lmrl.tasks.chess.strength import CHOICES, Strength
from lmrl.text.trajectory import Turn

ILLEGAL_REWARD = -1.0
"""The reward of a text that is not a legal move, by default."""


class _Move(Enum):
    """What the agent's move led to: a reply by Black, the end of the game, or nothing (illegal)."""

    ANSWERED = auto()
    LAST = auto()
    INVALID = auto()


class EnginePlayer:
    """Stockfish as a policy: it reads the position from the newest text and answers with a move, of either side.

    All players of a process share its engines. A request without any history asks for nothing and gets an empty text.

    Args:
        strength: one of `STRENGTHS`, explained at `Strength`.
        elo: of `reference` and `depth1`.
        seconds: thinking time of `reference`.
        nodes: thinking budget of `nodes`.
        depth: thinking budget of `depth`; 14 wins every end game that was tried.
        engine_path: the engine's file. `None`: it is searched.
        processes: how many engines answer at once. `None`: 2, or 1 on a single core.

    Raises:
        FileNotFoundError: there is no engine.
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        *,
        strength: Literal["reference", "depth1", "nodes", "depth"] = "depth",
        elo: Annotated[int, Field(ge=1, le=2850)] = 1350,
        seconds: Annotated[float | int, Field(gt=0, le=60)] = 0.1,
        nodes: PositiveCount = 1_000,
        depth: Annotated[int, Field(ge=1, le=245)] = 14,
        engine_path: PathText | None = None,
        processes: Processes | None = None,
    ) -> None:
        if processes is not None and processes < 1:
            raise ValueError(f"chess: processes must be at least 1 (or null), got {processes}")
        self.strength = Strength(strength, elo, seconds, nodes, depth)
        self.processes, self.path = processes, find_engine(engine_path)
        self._uniforms = Uniforms()

    def __reduce__(self) -> tuple[Any, ...]:
        return _shared_player, (self.strength, self.path, self.processes)

    @property
    def engine(self) -> str:
        """The engine's own name, with its version."""
        return self.strength.engines(self.path, self.processes).name

    def act(self, requests: Sequence[Request]) -> list[Action]:
        """Return one move per request; random choices depend only on the request's seed and turn.

        Raises:
            EngineFailedError: the engine died twice over one position.
            ValueError: a text tells no position.
        """
        asked = [request for request in requests if request.history]
        boards = [read_state(request.history[-1].text) for request in asked]
        engines = self.strength.engines(self.path, self.processes)
        answers = engines.ask([board.fen() for board in boards], self.strength.search)
        said: dict[int, Action] = {}
        for request, board, answer in zip(asked, boards, answers, strict=True):
            draws = self._uniforms.draw(request.seed, request.turn, CHOICES).tolist()
            move = Move.from_uci(self.strength.choose(answer, draws))
            if not board.is_legal(move):
                raise EngineFailedError(
                    f"the chess engine {self.path} played {move} at {board.fen()!r}, which is illegal"
                )
            said[id(request)] = Action(move_text(board, move))
        return [said.get(id(request), Action("")) for request in requests]


@cache
def _shared_player(strength: Strength, engine_path: str, processes: Processes | None) -> EnginePlayer:
    """Return one player for all environments alike, so that a rollout asks once per turn for all of them."""
    play = dataclasses.asdict(strength)
    return EnginePlayer(strength=play.pop("name"), **play, engine_path=engine_path, processes=processes)


class RandomMover:
    """Plays each legal move equally often, reading the position from the newest text."""

    def __init__(self) -> None:
        self._uniforms = Uniforms()

    def act(self, requests: Sequence[Request]) -> list[Action]:
        """Draw one move per request; the draw depends only on the request's seed and turn."""
        return [self._move(request) for request in requests]

    def _move(self, request: Request) -> Action:
        board = read_state(request.history[-1].text)
        moves = list(board.legal_moves)
        draw = self._uniforms.draw(request.seed, request.turn, 1)[0]
        return Action(move_text(board, moves[int(draw * len(moves))]))


class Chess(TextEnv):
    """A game of chess; the agent is White and moves first, Stockfish is Black.

    `reset` takes the option `fen`, a position with White to move. The observation is the position after Black's reply;
    after the end of the game, the last position. +1 for checkmate, -1 for being checkmated, 0 for draws (stalemate,
    insufficient material, fivefold repetition, 75 moves). An illegal or unreadable move costs 1, leaves the board as it
    is and uses up one of the `max_moves` turns, after the last of which the episode is truncated.

    Args:
        positions: where games start, as `Starts` takes it.
        opponent: how Black plays, one of `STRENGTHS`, explained at `Strength`.
        elo: of the opponents `reference` and `depth1`.
        seconds: thinking time of the opponent `reference`.
        nodes: thinking budget of the opponent `nodes`, in positions per move.
        depth: thinking budget of the opponent `depth`, in half-moves.
        max_moves: turns before the episode is cut off.
        illegal_reward: the reward of an illegal or unreadable move. At -1 an agent that makes many of them learns to
            end the game soon, whatever that costs; a smaller price while training leaves winning worth more.
        max_illegal: illegal or unreadable texts, one after another, before the episode is cut off. `None`: any number.
            While training, it keeps a position in which no legal move is found from filling the rest of the game.
        engine_path: Stockfish's file. `None`: `STOCKFISH_PATH`, or where packages put it.
        processes: how many engines answer at once. `None`: 2, or 1 on a single core.

    Raises:
        FileNotFoundError: there is no engine, or no file of positions.
        ValueError: an argument is out of range.
    """

    version: ClassVar[str] = "1"

    def __init__(
        self,
        *,
        positions: PathText | Sequence[str] = "initial",
        opponent: Literal["reference", "depth1", "nodes", "depth"] = "depth1",
        elo: Annotated[int, Field(ge=1, le=2850)] = 1350,
        seconds: Annotated[float | int, Field(gt=0, le=60)] = 0.1,
        nodes: PositiveCount = 1_000,
        depth: Annotated[int, Field(ge=1, le=245)] = 14,
        max_moves: PositiveCount = 400,
        illegal_reward: Number = ILLEGAL_REWARD,
        max_illegal: PositiveCount | None = None,
        engine_path: PathText | None = None,
        processes: Processes | None = None,
    ) -> None:
        super().__init__()
        if max_moves < 1:
            raise ValueError(f"chess: max_moves must be at least 1, got {max_moves}")
        if max_illegal is not None and max_illegal < 1:
            raise ValueError(f"chess: max_illegal must be at least 1 (or null), got {max_illegal}")
        if not math.isfinite(illegal_reward):
            raise ValueError(f"chess: illegal_reward must be a finite number, got {illegal_reward}")
        self.starts, self.max_moves = Starts(positions), max_moves
        self.illegal_reward, self.max_illegal = float(illegal_reward), max_illegal
        strength = Strength(opponent, elo, seconds, nodes, depth)
        self.partner = _shared_player(strength, find_engine(engine_path), processes)
        """Black, shared by all environments alike."""
        self.settings = {
            "positions": self.starts.settings,
            "opponent": strength.settings(),
            "max_moves": max_moves,
        }
        """Identifies this game; stored with data, in which there are no illegal moves to pay for."""
        self.board = Board()
        """The position and how it came about."""
        self._turns: int | None = None
        self._illegal = 0  # one after another, up to now
        self._move: _Move | None = None

    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Start a game and return its first position; without options the start is drawn from `positions`.

        Raises:
            ValueError: an unknown option, or a position that White cannot play from.
        """
        super().reset(seed=seed)
        options = dict(options or {})
        unknown = set(options) - {"fen"}
        if unknown:
            raise ValueError(f"chess: unknown reset options {sorted(unknown)}, the only one is fen")
        drawn = self.starts.draw(self.np_random)
        self.board = read_state(options.get("fen", drawn))
        if not self.board.turn or self.board.is_game_over():
            raise ValueError(f"chess: White must be to move, and the game not over, in {self.board.fen()!r}")
        self._turns, self._illegal, self._move = 0, 0, None
        return state_text(self.board), {}

    def step(self, action: str) -> StepResult:
        """Play a move and let Black reply.

        Raises:
            EngineFailedError: the engine died twice over one position.
            RuntimeError: no game is running.
        """
        return self.judge(self.partner.act([self.address(action)])[0])

    def address(self, action: str) -> Request:
        """Play the agent's move; return the position for Black, or an empty request if Black has nothing to do.

        Raises:
            RuntimeError: no game is running.
        """
        if self._turns is None:
            raise RuntimeError("chess: the game has ended, call reset() before step()")
        move = read_move(self.board, action)
        self._turns += 1
        if move is None:
            self._move = _Move.INVALID
            return Request(())
        self.board.push(move)
        if self.board.is_game_over():
            self._move = _Move.LAST
            return Request(())
        self._move = _Move.ANSWERED
        shown = Turn(state_text(self.board), is_action=False)
        return Request((shown,), seed=int(self.np_random.integers(2**63)), turn=self._turns)

    def judge(self, reply: Action) -> StepResult:
        """Play Black's reply, if it was asked for, and return the step's result.

        Raises:
            RuntimeError: no move was made before, or the reply is no legal move.
        """
        if self._turns is None or self._move is None:
            raise RuntimeError("chess: call address() before judge()")
        kind, self._move = self._move, None
        if kind is _Move.ANSWERED:
            move = read_move(self.board, reply.text)
            if move is None:
                raise RuntimeError(f"chess: the opponent's reply {reply.text!r} is illegal at {self.board.fen()!r}")
            self.board.push(move)
        is_invalid = kind is _Move.INVALID
        self._illegal = self._illegal + 1 if is_invalid else 0
        outcome = None if is_invalid else self.board.outcome()
        is_stuck = self.max_illegal is not None and self._illegal >= self.max_illegal
        truncated = outcome is None and (self._turns >= self.max_moves or is_stuck)
        success = outcome is not None and outcome.winner is True
        info = {"success": success, "is_invalid": is_invalid, "opponent": self.partner.strength.name}
        if outcome is not None or truncated:
            self._turns = None
            names = {None: "draw", True: "win", False: "loss"}
            result = "limit" if outcome is None else names[outcome.winner]
            info |= {"result": result, "engine": self.partner.engine}
        if is_invalid:
            reward = self.illegal_reward
        else:
            reward = 0.0 if outcome is None or outcome.winner is None else 1.0 if outcome.winner else -1.0
        return state_text(self.board), reward, outcome is not None, truncated, info

    def evaluation_starts(self) -> Sequence[Mapping[str, Any]]:
        """Return the positions of the evaluation; of the usual game only the usual start."""
        return tuple({"fen": fen} for fen in self.starts.evaluation()) if self.starts.settings != "initial" else ({},)

    def picture(self) -> str:
        """Return the board as text, White below; capitals are White's pieces."""
        ranks = [f"{8 - index}  {rank}" for index, rank in enumerate(str(self.board).splitlines())]
        return "\n".join([*ranks, "", "   a b c d e f g h"])

    def validation_starts(self) -> Sequence[Mapping[str, Any]]:
        """Return as hard positions that are not in the evaluation; in whole games, and of a file, those of it."""
        return tuple({"fen": fen} for fen in self.starts.validation()) or self.evaluation_starts()

    def legal_actions(self) -> Sequence[str]:
        """Return all legal moves of the position."""
        return tuple(move_text(self.board, move) for move in self.board.legal_moves)
