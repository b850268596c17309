"""Chess and end games: rules with literal transcripts, players, data, published files, and records."""

import json
import math
import os
import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("chess")

import chess
import chess.pgn
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from lmrl.config.checks import changed_env
from lmrl.data import store
from lmrl.data.generate import load_or_generate
from lmrl.data.recipe import Recipe
from lmrl.evaluation import evaluation_starts
from lmrl.policies.core import Action, Policy, Request
from lmrl.rollout import Start, rollout
from lmrl.tasks.chess.checks import Checks
from lmrl.tasks.chess.endgames import RandomizedEndgames
from lmrl.tasks.chess.engine import find_engine
from lmrl.tasks.chess.env import Chess, EnginePlayer, RandomMover
from lmrl.tasks.chess.games import main, plies, save_games
from lmrl.tasks.chess.mirrors import IMAGES, image_of_board, image_of_game
from lmrl.tasks.chess.positions import (
    draw_position,
    move_text,
    pieces,
    read_move,
    read_positions,
    read_state,
    state_text,
    unspaced,
)
from lmrl.tasks.chess.published import PublishedChess
from lmrl.tasks.chess.recipe import EngineGames
from lmrl.text.trajectory import Trajectory, Turn

try:
    find_engine()
except FileNotFoundError as error:
    if os.environ.get("LMRL_REQUIRE_ENGINE"):
        raise
    pytest.skip(str(error), allow_module_level=True)

CONF = Path(__file__).resolve().parents[3] / "conf"
SETS = ["kQK", "kQRK", "kRK", "kRRK"]
ENDGAMES = partial(Chess, positions=SETS)
START = (
    "r n b q k b n r / p p p p p p p p / 8 / 8 / 8 / 8 / P P P P P P P P / R N B Q K B N R   w   K Q k q   -   0   1\n"
)
MATE_IN_ONE = "k7/8/1K6/8/8/8/8/7R w - - 0 1"


def at(fen: str, **arguments: Any) -> Chess:
    """Return a game at a position."""
    env = Chess(**arguments)
    env.reset(seed=0, options={"fen": fen})
    return env


# Texts


def test_the_start_is_written_with_spaces_and_read_back() -> None:
    env = Chess()
    assert env.reset(seed=0)[0] == START
    assert read_state(START).fen() == read_state(chess.STARTING_FEN).fen() == chess.STARTING_FEN
    assert unspaced(START) == unspaced(chess.STARTING_FEN) == chess.STARTING_FEN


def test_any_position_and_move_is_read_back() -> None:
    rng = np.random.default_rng(0)
    board = chess.Board()
    for _ in range(120):
        if board.is_game_over():
            break
        moves = list(board.legal_moves)
        assert read_state(state_text(board)).fen() == board.fen()
        assert [read_move(board, move_text(board, move)) for move in moves] == moves
        board.push(moves[int(rng.integers(len(moves)))])


@pytest.mark.parametrize("text", ["", "x", "k 7\n", START.replace("k", "K"), "8/8/8/8/8/8/8/8 w - - 0 1", "Success\n"])
def test_texts_that_are_no_position_are_told(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a FEN|cannot occur"):
        read_state(text)


# Rules


def test_black_replies_to_a_legal_move() -> None:
    env = Chess()
    env.reset(seed=1)
    observation, reward, terminated, truncated, info = env.step("e 4\n")
    assert (reward, terminated, truncated) == (0.0, False, False)
    assert info == {"success": False, "is_invalid": False, "opponent": "depth1"}
    board = read_state(observation)
    assert board.turn
    assert board.fullmove_number == 2
    assert board.piece_at(chess.E4) == chess.Piece.from_symbol("P")
    assert env.step("Nf3")[1] == 0.0, "spaces and the line break are not needed"


@pytest.mark.parametrize(
    "action", ["e 5\n", "K e 2\n", "hello\n", "\n", "", "- -\n", "Z 0\n", "0000\n", "e 7 e 5\n", "N d 2\n", "♞ f 3\n"]
)
def test_what_is_no_legal_move_costs_one_and_changes_nothing(action: str) -> None:
    env = Chess()
    env.reset(seed=0)
    for _ in range(2):
        assert env.step(action) == (
            START,
            -1.0,
            False,
            False,
            {"success": False, "is_invalid": True, "opponent": "depth1"},
        )
    assert env.step("e 4\n")[1:3] == (0.0, False)


def test_checkmating_wins() -> None:
    observation, reward, terminated, truncated, info = at(MATE_IN_ONE).step("R h 8 #\n")
    assert observation == "k 6 R / 8 / 1 K 6 / 8 / 8 / 8 / 8 / 8   b   -   -   1   1\n"
    assert (reward, terminated, truncated) == (1.0, True, False)
    assert (info["success"], info["result"], info["is_invalid"]) == (True, "win", False)
    assert info["engine"].startswith("Stockfish")


def test_being_checkmated_loses() -> None:
    # After any quiet move Black mates on the back rank; at full strength it sees that.
    env = at("3r2k1/5ppp/8/8/8/8/5PPP/6K1 w - - 0 1", opponent="nodes")
    observation, reward, terminated, _, info = env.step("h 3\n")
    assert (reward, terminated, info["success"]) == (0.0, False, False), "the king has air on h2"
    env = at("3r2k1/5ppp/8/8/8/P7/5PPP/6K1 w - - 0 1", opponent="nodes")
    observation, reward, terminated, _, info = env.step("a 4\n")
    assert read_state(observation).is_checkmate()
    assert (reward, terminated, info["success"], info["result"]) == (-1.0, True, False, "loss")


@pytest.mark.parametrize(
    ("fen", "action"),
    [
        ("k7/8/1K6/8/8/8/8/2Q5 w - - 0 1", "Q c 7\n"),  # stalemate
        ("k7/8/8/8/8/8/1p6/K7 w - - 0 1", "K x b 2\n"),  # too few pieces
        ("k7/8/8/8/8/8/8/K6R w - - 149 80", "R h 2\n"),  # 75 moves without a pawn or a capture
    ],
)
def test_draws_end_the_game_and_pay_nothing(fen: str, action: str) -> None:
    _, reward, terminated, truncated, info = at(fen).step(action)
    assert (reward, terminated, truncated) == (0.0, True, False)
    assert (info["success"], info["result"]) == (False, "draw")


def test_the_turn_limit_cuts_off_and_counts_illegal_moves() -> None:
    env = Chess()
    env.reset(seed=0)
    results = [env.step("no\n") for _ in range(400)]
    assert [(terminated, truncated) for _, _, terminated, truncated, _ in results[:399]] == [(False, False)] * 399
    assert results[399][:4] == (START, -1.0, False, True)
    assert results[399][4]["result"] == "limit"
    assert sum(reward for _, reward, *_ in results) == -400.0
    with pytest.raises(RuntimeError, match="reset"):
        env.step("e 4\n")


def test_the_price_of_illegal_moves_is_all_that_practice_changes() -> None:
    """The data are the same ones, and what is reported is paid as published."""
    cheap = at(MATE_IN_ONE, illegal_reward=-0.1)
    assert cheap.step("R h 9\n")[1] == -0.1
    assert cheap.step("R h 8\n")[1] == 1.0
    assert cheap.settings == at(MATE_IN_ONE).settings
    for task in ("chess", "endgames"):
        with initialize_config_dir(str(CONF), version_base="1.3"):
            changes = ["task.env.illegal_reward=-0.1", "task.env.max_illegal=3"]
            cfg = compose("config", overrides=[f"task={task}", "algo=ppo", *changes])
        reported = changed_env("evaluation.env", cfg.task.env, cfg.evaluation.env)
        assert (reported.illegal_reward, reported.max_illegal) == (-1.0, None)


def test_illegal_moves_one_after_another_can_end_practice() -> None:
    """A legal move between them begins the count anew, as does a new game; the last one is paid like any other."""
    env = at("4k3/8/8/8/8/8/8/R3K3 w - - 0 1", max_illegal=2)
    assert env.settings == at(MATE_IN_ONE).settings
    for _ in range(2):
        results = [env.step(move)[1:4] for move in ("K e 9\n", "R a 2\n", "K e 9\n", "R a 9\n")]
        assert [result[0] for result in results] == [-1.0, 0.0, -1.0, -1.0]
        assert [result[1:] for result in results] == [(False, False)] * 3 + [(False, True)]
        with pytest.raises(RuntimeError, match="reset"):
            env.step("R a 3\n")
        env.reset(options={"fen": "4k3/8/8/8/8/8/8/R3K3 w - - 0 1"})


def test_mate_with_the_last_turn_is_a_win() -> None:
    assert at(MATE_IN_ONE, max_moves=1).step("R h 8\n")[1:4] == (1.0, True, False)
    assert at(MATE_IN_ONE, max_moves=1).step("R h 7\n")[1:4] == (0.0, False, True)


def test_same_seed_same_game_other_seed_other_game() -> None:
    def game(seed: int) -> list[str]:
        env = Chess()
        env.reset(seed=seed)
        return [env.step(move)[0] for move in ("e 4\n", "d 4\n", "N f 3\n", "a 3\n")]

    assert game(3) == game(3)
    assert len({tuple(game(seed)) for seed in range(6)}) > 1


def test_step_is_address_then_judge_and_asks_nothing_without_need() -> None:
    env, other = Chess(), Chess()
    for game in (env, other):
        game.reset(seed=7)
    for action in ("e 4\n", "nonsense\n", "d 4\n"):
        request = other.address(action)
        assert bool(request.history) == (action != "nonsense\n")
        assert other.judge(other.partner.act([request])[0]) == env.step(action)
    assert at(MATE_IN_ONE).address("R h 8\n").history == ()
    with pytest.raises(RuntimeError, match="call address"):
        env.judge(Action(""))
    env.address(env.legal_actions()[0])
    with pytest.raises(RuntimeError, match=r"the opponent's reply 'Q h 1.n' is illegal"):
        env.judge(Action("Q h 1\n"))


def test_rollouts_do_not_depend_on_how_many_games_are_played_at_once() -> None:
    starts = [Start(seed) for seed in range(6)]
    make = partial(Chess, positions=["kRRK"], max_moves=12)
    alone, together = (rollout(make, RandomMover(), starts, memory=1, slots=slots) for slots in (1, 6))
    assert alone == together
    assert {trajectory.info["opponent"] for trajectory in alone} == {"depth1"}


def test_environments_travel_to_other_processes() -> None:
    env = ENDGAMES()
    copy = pickle.loads(pickle.dumps(env))
    assert copy.partner is env.partner
    assert copy.reset(seed=2) == env.reset(seed=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"opponent": "weak"}, "opponent must be one of reference, depth1"),
        ({"max_moves": 0}, "max_moves must be at least 1"),
        ({"max_illegal": 0}, r"max_illegal must be at least 1 \(or null\), got 0"),
        ({"illegal_reward": math.nan}, "illegal_reward must be a finite number, got nan"),
        ({"positions": ["kQ"]}, "'kQ' is not a set of pieces"),
        ({"positions": ["kKK"]}, "'kKK' is not a set of pieces"),
        ({"positions": ["kXK"]}, "'kXK' is not a set of pieces"),
        ({"positions": []}, "positions is an empty list"),
    ],
)
def test_bad_arguments_are_told(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Chess(**arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": "x"}, r"unknown reset options \['start'\], the only one is fen"),
        ({"fen": "nothing"}, "not a FEN"),
        ({"fen": "k7/8/1K6/8/8/8/8/7R b - - 0 1"}, "White must be to move"),
        ({"fen": "k7/8/8/8/8/8/8/K7 w - - 0 1"}, "the game not over"),
        ({"fen": "k7/8/8/8/8/8/8/7R w - - 0 1"}, "cannot occur"),
    ],
)
def test_bad_options_are_told(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Chess().reset(options=options)


def test_settings_tell_opponents_apart() -> None:
    known = [Chess(opponent=name).settings for name in ("reference", "depth1", "nodes", "depth")]
    assert len({json.dumps(settings) for settings in known}) == 4
    assert known[0]["opponent"] == {"name": "reference", "elo": 1350, "seconds": 0.1}
    assert Chess(elo=1200).settings == known[1], "Stockfish plays no weaker than 1350"
    assert ENDGAMES().settings["positions"] == SETS


def test_the_reference_opponent_plays() -> None:
    env = Chess(opponent="reference", seconds=0.02, max_moves=3)
    env.reset(seed=0)
    results = [env.step(move) for move in ("a 3\n", "h 3\n", "no\n")]
    assert [info["opponent"] for *_, info in results] == ["reference"] * 3
    assert read_state(results[-1][0]).fullmove_number == 3


def test_a_missing_library_is_told_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "chess.py").write_text("raise ImportError('not here')\n")
    for module in ("lmrl.tasks.chess.env", "lmrl.tasks.chess.engine", "lmrl.tasks.chess.games"):
        code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\nimport {module}"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        last = done.stderr.strip().splitlines()[-1]
        how = "uv sync --extra chess, or pip install -e '.[chess]'"
        assert last == f"ImportError: the chess tasks need the package chess (GPL-3): {how}"


# Positions


def test_drawn_positions_are_playable_and_not_in_the_evaluation() -> None:
    env = ENDGAMES()
    evaluation = {options["fen"].split()[0] for options in env.evaluation_starts()}
    kinds: Counter[str] = Counter()
    for seed in range(300):
        board = read_state(env.reset(seed=seed)[0])
        assert board.is_valid()
        assert board.turn
        assert not board.is_check()
        assert board.fen().endswith(" w - - 0 1")
        assert board.board_fen() not in evaluation
        kinds[pieces(board.fen())] += 1
    assert set(kinds) == {"KQk", "KQRk", "KRk", "KRRk"}
    assert min(kinds.values()) > 40


def test_evaluation_positions_are_never_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    first = draw_position(np.random.default_rng(5), "kQK")
    monkeypatch.setattr("lmrl.tasks.chess.positions._placements", lambda: frozenset({first.split()[0]}))
    assert draw_position(np.random.default_rng(5), "kQK") != first


def test_evaluation_is_645_positions_that_white_can_play() -> None:
    starts = [options["fen"] for options in ENDGAMES().evaluation_starts()]
    assert len(starts) == len(set(starts)) == 645
    assert Counter(map(pieces, starts)) == {"KQk": 322, "KRk": 323}
    for fen in starts:
        board = chess.Board(fen)
        assert board.is_valid()
        assert board.turn
        assert not board.is_check()
    assert len(Chess(positions=["kKQ"]).evaluation_starts()) == 322, "the order of letters does not matter"
    assert Chess().evaluation_starts() == ({},)
    with pytest.raises(ValueError, match="no evaluation position has the pieces kPK"):
        Chess(positions=["kPK"]).evaluation_starts()


def test_checkpoints_are_chosen_by_positions_that_are_not_reported() -> None:
    reported, chosen = (
        [start.options["fen"] for start in evaluation_starts(ENDGAMES, 1, 0, stream=stream)]
        for stream in ("test", "validation")
    )
    images = {image_of_board(chess.Board(fen), image).fen() for fen in reported for image in range(IMAGES)}
    assert len(chosen) == len(set(chosen)) == 256
    assert not images & set(chosen)
    assert Counter(map(pieces, chosen)) == {"KQk": 128, "KRk": 128}
    for fen in chosen:
        board = chess.Board(fen)
        assert board.is_valid()
        assert board.turn
        assert not board.is_check()
        assert fen.endswith(" w - - 0 1")
    assert len(Chess(positions=["kRK"]).validation_starts()) == 128
    assert Chess().validation_starts() == ({},)  # whole games have one start


def test_no_mate_is_near_in_the_evaluation() -> None:
    """In 3 moves nothing is won: a full search, in positions that do not depend on the engine's word."""

    def mates(board: chess.Board, moves: int) -> bool:
        for move in board.legal_moves:
            board.push(move)
            replies = list(board.legal_moves)
            is_won = board.is_checkmate() or (moves > 1 and bool(replies))
            for reply in replies if is_won and moves > 1 else ():
                board.push(reply)
                is_won = not board.is_insufficient_material() and mates(board, moves - 1)
                board.pop()
                if not is_won:
                    break
            board.pop()
            if is_won:
                return True
        return False

    assert mates(chess.Board(MATE_IN_ONE), 1)
    assert not mates(chess.Board("k7/8/2K5/8/8/8/8/7R w - - 0 1"), 1)
    starts = [*ENDGAMES().evaluation_starts()[::80], *ENDGAMES().validation_starts()[::80]]
    assert not any(mates(chess.Board(options["fen"]), 2) for options in starts)


def test_files_of_positions_are_read(tmp_path: Path) -> None:
    file = tmp_path / "positions.jsonl"
    file.write_text(
        json.dumps("8/8/7Q/2k5/8/8/K7/8 w - - 2 2") + "\n\n" + json.dumps(START) + "\n" + MATE_IN_ONE + "\n"
    )
    expected = ("8/8/7Q/2k5/8/8/K7/8 w - - 2 2", chess.STARTING_FEN, MATE_IN_ONE)
    assert read_positions(file) == expected
    env = Chess(positions=str(file))
    assert [options["fen"] for options in env.evaluation_starts()] == list(expected)
    assert {unspaced(env.reset(seed=seed)[0]) for seed in range(20)} == set(expected)
    assert env.settings["positions"]["file"] == "positions.jsonl"
    before = env.settings
    file.write_text(MATE_IN_ONE + "\n")
    assert Chess(positions=str(file)).settings != before


def test_half_of_the_practice_is_in_check() -> None:
    env = Chess(positions="checks")
    boards = [chess.Board(unspaced(env.reset(seed=seed)[0])) for seed in range(200)]
    checks = [board for board in boards if board != chess.Board()]
    assert 70 < len(checks) < 130
    assert len({board.fen() for board in checks}) > 60
    assert all(board.is_check() and board.turn and 1 <= board.legal_moves.count() <= 3 for board in checks)
    assert env.settings["positions"] == "checks"


def game_from(*moves: tuple[str, str]) -> Trajectory:
    turns: list[Turn] = []
    board = chess.Board()
    for white, black in moves:
        turns += [
            Turn(state_text(board), is_action=False),
            Turn(move_text(board, board.parse_san(white)), is_action=True),
        ]
        board.push_san(white)
        board.push_san(black)
    return Trajectory((*turns, Turn(state_text(board), is_action=False)), False, True)


def test_positions_to_practise_checks_are_written(tmp_path: Path) -> None:
    script = Path(__file__).parents[3] / "scripts" / "chess_checks.py"
    game = game_from(("e4", "e5"), ("Nc3", "Qh4"), ("Nf3", "Qxf2+"), ("Kxf2", "d6"))
    store.save([game], tmp_path / "d", task="chess", policy="p", env_version="1", recipe={})
    call = [sys.executable, str(script), str(tmp_path / "d"), str(tmp_path / "checks.fen")]
    subprocess.run([*call, "--moves", "1"], check=True, timeout=120)
    check, start = read_positions(tmp_path / "checks.fen")
    assert start == chess.STARTING_FEN
    assert [chess.Board(check).san(move) for move in chess.Board(check).legal_moves] == ["Kxf2"]
    nothing = subprocess.run([*call, "--games", "1", "--moves", "0"], timeout=120, capture_output=True, text=True)
    assert nothing.returncode == 2
    assert "White is never in check" in nothing.stderr


def test_checks_are_told_from_whites_side_and_mirrored() -> None:
    """White answers Qxf2+, and Black the check on f7, which is turned; the kings may not castle then: mirror images."""
    game = game_from(("e4", "e5"), ("Nc3", "Qh4"), ("Nf3", "Qxf2+"), ("Kxf2", "Ke7"), ("Bc4", "d6"), ("Bxf7", "h6"),
                    ("Nd5+", "Kxf7"))  # fmt: skip
    quiet = game_from(("e4", "e5"), ("Nf3", "Nc6"))
    found = [(read_state(one.turns[0].text), one.turns[1].text) for one in Checks(share=1)([quiet, game])]
    assert [text for _, text in found] == ["K x f 2\n", "K x f 2\n", "K x c 2\n"]
    assert all(board.is_check() and board.is_valid() for board, _ in found)
    white, black, image = (board for board, _ in found)
    assert white.fen() == unspaced(game.turns[6].text).strip()
    before = read_state(game.turns[12].text)
    before.push_san("Nd5+")
    assert black == before.mirror()
    assert image == black.transform(chess.flip_horizontal)
    drawn = Trajectory((*game.turns[:14], Turn(state_text(before), is_action=False)), terminated=True)
    assert len(Checks(share=1)([drawn])) == 1  # White's check ended it, as a third repetition does
    assert Checks(share=1)([quiet]) == [quiet]
    claimed = [replace(turn, text=turn.text.replace("N f 3", "N f 3 +")) for turn in quiet.turns]
    boast = replace(quiet, turns=tuple(claimed))
    assert Checks(share=1)([boast]) == [boast]  # a check that is only said is none
    assert Checks(share=0.6)([quiet, game])[:1] == [quiet]
    assert len(Checks(share=0.61)([quiet, game])) == 3


def test_other_positions_are_drawn_from_all_games_and_both_sides() -> None:
    """Of 14 and 8 positions 20 are none of check: each is told once, Black's turned, so that Bc5 is Bc4."""
    game = game_from(("e4", "e5"), ("Nc3", "Qh4"), ("Nf3", "Qxf2+"), ("Kxf2", "Ke7"), ("Bc4", "d6"), ("Bxf7", "h6"),
                    ("Nd5+", "Kxf7"))  # fmt: skip
    quiet = game_from(("e4", "e5"), ("Nf3", "Nc6"), ("Bc4", "Bc5"), ("O-O", "Nf6"))
    told = Checks(share=0.1, others="positions")([quiet, game])
    *others, white, black, image = told
    assert Checks(share=1)([quiet, game]) == [white, black, image]
    boards = [read_state(one.turns[0].text) for one in others]
    assert len(others) == 12 + 8
    assert not any(board.is_check() for board in boards)
    assert all(board.turn and read_move(board, one.turns[1].text) for board, one in zip(boards, others, strict=True))
    said = Counter(one.turns[1].text for one in others)
    assert (said["O - O\n"], said["N f 3\n"], said["N c 3\n"]) == (1, 3, 2)
    assert said["B c 4\n"] + said["B f 4\n"] == 3
    assert others != sorted(others, key=lambda one: one.turns[0].text)
    assert told == Checks(share=0.1, others="positions")([quiet, game])
    assert len(Checks(share=0.25, others="positions")([quiet, game])) == 3 + 9
    assert len(Checks(share=0.25)([quiet, game])) == 3 + 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f'"{MATE_IN_ONE}"\n"nothing"\n', r"positions\.jsonl, line 2: not a FEN"),
        ('["a"]\n', "line 1: expected the FEN of a position as text"),
        ('"x\n', "line 1: "),
        ("k7/8/1K6/8/8/8/8/7R b - - 0 1\n", "line 1: White must be to move"),
        ("\n", "it contains no position"),
    ],
)
def test_damaged_files_of_positions_are_told(content: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "positions.jsonl"
    file.write_text(content)
    with pytest.raises(ValueError, match=message):
        Chess(positions=str(file))
    with pytest.raises(FileNotFoundError, match="no such file with positions"):
        Chess(positions=str(tmp_path / "missing"))


# Players


def test_the_random_mover_plays_every_legal_move() -> None:
    player = RandomMover()
    assert isinstance(player, Policy)
    history = (Turn(START, is_action=False),)
    said = Counter(action.text for action in player.act([Request(history, seed=seed) for seed in range(1000)]))
    env = Chess()
    env.reset(seed=0)
    assert set(said) == set(env.legal_actions())
    assert max(said.values()) < 100


def test_the_expert_mates_at_once() -> None:
    (action,) = EnginePlayer().act([Request((Turn(state_text(chess.Board(MATE_IN_ONE)), is_action=False),))])
    assert action.text == "R h 8 #\n"


def test_the_expert_wins_some_end_games() -> None:
    starts = [Start(seed) for seed in range(4)]
    played = rollout(partial(Chess, positions=["kQK", "kRRK"]), EnginePlayer(depth=8), starts, memory=1)
    assert [trajectory.total_reward for trajectory in played] == [1.0] * 4
    assert all(trajectory.info["success"] and trajectory.info["invalid_actions"] == 0 for trajectory in played)


@pytest.mark.slow
def test_the_expert_wins_every_end_game() -> None:
    starts = [Start(seed, options) for seed, options in enumerate(ENDGAMES().evaluation_starts()[::10])]
    starts += [Start(seed) for seed in range(60)]
    played = rollout(ENDGAMES, EnginePlayer(), starts, memory=1)
    assert {trajectory.info["result"] for trajectory in played} == {"win"}


@pytest.mark.slow
def test_full_strength_beats_the_weak_opponent_in_whole_games() -> None:
    played = rollout(Chess, EnginePlayer(depth=8), [Start(seed) for seed in range(10)], memory=1)
    assert {trajectory.info["result"] for trajectory in played} == {"win"}


# Data


@pytest.fixture(scope="module")
def endgames() -> RandomizedEndgames:
    return RandomizedEndgames(
        env=partial(Chess, positions=["kQK", "kRRK"]), task="endgames", trajectories=12, depth=4, max_moves=20
    )


@pytest.fixture(scope="module")
def games() -> EngineGames:
    return EngineGames(env=partial(Chess, max_moves=25), task="chess", trajectories=3, games_per_elo=2)


def test_data_are_what_the_environment_says(endgames: RandomizedEndgames, games: EngineGames) -> None:
    played = {
        partial(Chess, positions=["kQK", "kRRK"]): [endgames.play(index) for index in range(4)],
        partial(Chess, max_moves=25): [games.play(0)],
    }
    for make, trajectories in played.items():
        env = make()
        for trajectory in trajectories:
            observation, _ = env.reset(seed=trajectory.seed)
            assert trajectory.turns[0].text == observation
            for action, reply in zip(trajectory.turns[1::2], trajectory.turns[2::2], strict=True):
                observation, reward, *_ = env.step(action.text)
                assert (reply.text, action.reward) == (observation, reward)


def test_games_depend_on_seed_and_index_alone(endgames: RandomizedEndgames, games: EngineGames) -> None:
    assert isinstance(endgames, Recipe)
    assert isinstance(games, Recipe)
    for recipe in (endgames, games):
        late = recipe.play(2)
        assert pickle.loads(pickle.dumps(recipe)).play(2) == late
        assert recipe.play(1) != late
    other = RandomizedEndgames(env=ENDGAMES, task="endgames", trajectories=12, seed=1)
    assert other.settings() != endgames.settings()
    first, second, third = (games.play(index).info["elo"] for index in range(3))
    assert first == second != third
    assert all(800 <= elo <= 1600 for elo in (first, third))


def test_images_of_a_game_are_games() -> None:
    """Eight different games in a row, in which each move and each reply is legal and gives the next position."""
    recipe = RandomizedEndgames(env=ENDGAMES, task="endgames", trajectories=16, images=8, max_moves=30)
    games = [recipe.play(index) for index in (*range(16), 3)]
    assert games[-1] == games[3]
    assert games[3] == RandomizedEndgames(env=ENDGAMES, task="endgames", images=8, max_moves=30).play(3)
    for first, images in ((games[0], games[:8]), (games[8], games[8:16])):
        assert len({game.turns[0].text for game in images}) == IMAGES
        assert {(game.length, game.total_reward, game.seed) for game in images} == {
            (first.length, first.total_reward, first.seed)
        }
        for game in images:
            for state, action, following in zip(game.turns[::2], game.turns[1::2], game.turns[2::2], strict=False):
                board = read_state(state.text)
                board.push_san(unspaced(action.text))
                replies = [board.copy()] if board.is_game_over() else []
                for reply in board.legal_moves:
                    board.push(reply)
                    replies.append(board.copy())
                    board.pop()
                assert unspaced(following.text) in {after.fen() for after in replies}
    with pytest.raises(ValueError, match="images must be from 1 to 8, got 9"):
        RandomizedEndgames(env=ENDGAMES, task="endgames", images=9)
    with pytest.raises(ValueError, match="images change games with pawns"):
        image_of_game(Trajectory((Turn(state_text(chess.Board()), False),), True), 1)


def test_statistics_tell_who_moved(endgames: RandomizedEndgames, tmp_path: Path) -> None:
    data = load_or_generate(recipe=endgames, root=tmp_path, progress=False)
    assert data.trajectories == list(endgames)
    for trajectory in data.trajectories:
        info = trajectory.info
        assert 0 <= info["engine_moves"] <= trajectory.length <= 20
        assert trajectory.truncated == (info["result"] == "limit")
        assert trajectory.terminated != trajectory.truncated
        assert info["success"] == (trajectory.total_reward == 1.0)
    moves = sum(trajectory.length for trajectory in data.trajectories)
    engine = sum(trajectory.info["engine_moves"] for trajectory in data.trajectories)
    assert data.statistics["engine_move_share"] == pytest.approx(engine / moves)
    assert 0 < data.statistics["unique_state_share"] <= 1
    assert data.recipe["game"]["opponent"] == {"name": "depth1", "elo": 1350}


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (EngineGames, {"trajectories": 0}, "trajectories of EngineGames must be at least 1, got 0"),
        (EngineGames, {"elo_low": 1700}, "elo_low must be at most elo_high"),
        (EngineGames, {"env": partial(Chess, opponent="nodes")}, "the opponent must be depth1 or reference"),
        (RandomizedEndgames, {"depth": 0}, "depth of RandomizedEndgames must be at least 1, got 0"),
    ],
)
def test_bad_recipes_are_told(make: type, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**{"env": Chess, "task": "chess"} | arguments)


@pytest.mark.parametrize("task", ["chess", "endgames"])
def test_configuration_makes_everything(task: str, tmp_path: Path) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose(
            overrides=[f"+task={task}", f"+data_dir={tmp_path}", "task.dataset.recipe.trajectories=2"]
            + ["task.env.max_moves=6"]
            + (["task.dataset.recipe.max_moves=6"] if task == "endgames" else [])
        ).task
    data = instantiate(cfg.dataset, progress=False)()
    env = instantiate(cfg.env)()
    assert data.task == cfg.name == task
    assert len(data.trajectories) == 2
    assert env.settings == data.recipe["game"]
    assert (cfg.memory, cfg.env.opponent, cfg.evaluation.env.opponent) == (1, "depth1", "reference")
    for name in ("random", "expert"):
        env.reset(seed=0)
        (action,) = instantiate(cfg.players[name]).act([Request((Turn(state_text(env.board), is_action=False),))])
        assert action.text in env.legal_actions()
    for example in cfg.prompt.examples:
        board = read_state(example.history[-1])
        move = read_move(board, example.action)
        assert move is not None
        assert f"{example.action}\n" == move_text(board, move)
        assert len(example.action) < cfg.max_new_tokens


# Published files


def game_steps(*, spaced: bool) -> list[dict[str, Any]]:
    """Return a short won game in the published layout."""
    said = [
        ("8/8/8/8/8/k7/8/1R1K3R w - - 0 1", "Kc2", 0.0),
        ("8/8/8/8/k7/8/2K5/1R5R w - - 2 2", "Rh4+", 0.0),
        ("8/8/8/k7/7R/8/2K5/1R6 w - - 4 3", "Rb8", 0.0),
        ("1R6/8/k7/8/7R/8/2K5/8 w - - 6 4", "Ra4#", 0.0),
    ]
    texts = [(" ".join(fen), " ".join(san) + "\n") if spaced else (fen, san) for fen, san, _ in said[:3]]
    steps = [{"state": fen, "action": san, "reward": 0.0, "done": False} for fen, san in texts]
    fen, san = MATE_IN_ONE, "Rh8#"
    last = {"state": " ".join(fen) if spaced else fen, "action": san, "reward": 1.0, "done": True}
    return [*steps, last]


def published(file: Path, *lines: Any) -> list[Trajectory]:
    """Write and read a published file."""
    file.write_text("\n".join(map(json.dumps, lines)) + "\n")
    return list(PublishedChess(path=file, like=EngineGames(env=Chess, task="chess")))


@pytest.mark.parametrize("spaced", [True, False])
def test_whole_games_are_read_in_both_layouts(spaced: bool, tmp_path: Path) -> None:
    steps = game_steps(spaced=spaced)
    listed = published(tmp_path / "train.jsonl", steps, steps)
    one_by_one = published(tmp_path / "unshuffled.jsonl", *steps, *steps)
    assert [game.turns for game in listed] == [game.turns for game in one_by_one]
    assert [game.info["line"] for game in listed] == [1, 2]
    assert [game.info["line"] for game in one_by_one] == [1, 5]
    for game in listed:
        assert game.turns[0].text == " ".join("8/8/8/8/8/k7/8/1R1K3R w - - 0 1") + "\n"
        assert game.turns[1].text == "K c 2\n"
        assert (game.length, game.total_reward, game.terminated) == (4, 1.0, True)
        assert (game.info["success"], game.info["result"]) == (True, "win")
        assert game.turns[-1].text == "R h 8 #\n", "the last reply is not recorded"


def test_single_moves_are_read(tmp_path: Path) -> None:
    lines = [
        {"from_state": chess.STARTING_FEN, "action": "Nf3"},
        {"from_state": " ".join(MATE_IN_ONE), "action": "R h 8 \n"},
        {"from_state": MATE_IN_ONE, "action": "Rh7", "reward": 0.0, "done": False, "generated_by": "x", "round": 1},
    ]
    quiet, mate, stored = published(tmp_path / "train_bc.jsonl", *lines)
    assert [turn.text for turn in quiet.turns] == [START, "N f 3\n"]
    assert (quiet.truncated, quiet.total_reward, "success" in quiet.info) == (True, 0.0, False)
    assert (mate.terminated, mate.total_reward, mate.turns[1].text) == (True, 1.0, "R h 8 #\n")
    assert (stored.truncated, stored.total_reward) == (True, 0.0)


def test_ends_of_games_are_told_apart(tmp_path: Path) -> None:
    lost, drawn, cut, illegal = (game_steps(spaced=False)[:2] for _ in range(4))
    for steps, reward, done in ((lost, -1.0, True), (drawn, 0.0, True), (cut, 0.0, False)):
        steps[-1] |= {"reward": reward, "done": done}
    illegal[0] |= {"action": "Qh9", "reward": -1.0}
    illegal[-1]["done"] = True
    games = published(tmp_path / "train.jsonl", lost, drawn, cut, illegal)
    assert [game.info.get("result") for game in games] == ["loss", "draw", None, "draw"]
    assert [game.terminated for game in games] == [True, True, False, True]
    assert [game.info["invalid_actions"] for game in games] == [0, 0, 0, 1]
    assert games[3].turns[1].text == "Qh9\n"
    file = tmp_path / "train.jsonl"
    limited = PublishedChess(path=file, like=EngineGames(env=Chess, task="chess"), max_moves=2)
    assert [game.truncated for game in limited] == [True] * 4


def changed(**fields: Any) -> list[dict[str, Any]]:
    """Return a game whose second step has other fields; `None` leaves one out."""
    steps = game_steps(spaced=False)
    steps[1] = {name: value for name, value in (steps[1] | fields).items() if value is not None}
    return steps


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ([], "the whole line: a game without any move"),
        (3, "the whole line: expected a list or an object, got 3"),
        (MATE_IN_ONE, "the whole line: a text, as in a file of positions; use that as task.env.positions"),
        (changed(reward=None), "step 1, field 'reward': missing"),
        (changed(state="9/8 w"), "step 1, field 'state': not a FEN"),
        (changed(state="k7/8/1K6/8/8/8/8/7R b - - 0 1"), "step 1, field 'state': White must be to move"),
        (changed(action="Qh9"), "step 1, field 'action': 'Qh9' is not a legal move at 8/8/8/8/k7/8/2K5/1R5R w - - 2 2"),
        (changed(action=7), "step 1, field 'action': expected text, got 7"),
        (changed(done="no"), "step 1, field 'done': expected true or false, got 'no'"),
        ({"state": MATE_IN_ONE, "action": "Rh8", "reward": 1.0}, "step 0, field 'done': missing"),
        ({"from_state": MATE_IN_ONE}, "field 'action': missing"),
        ({"from_state": 5, "action": "Rh8"}, "field 'from_state': expected text, got 5"),
        ({"from_state": "x", "action": "Rh8"}, "field 'from_state': not a FEN"),
        ({"from_state": MATE_IN_ONE, "action": "Rh9"}, "field 'action': 'Rh9' is not a legal move"),
        ({"from_state": MATE_IN_ONE, "action": "Rh8", "reward": "x"}, "field 'reward': expected a finite number"),
    ],
)
def test_damaged_lines_name_file_line_and_field(line: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"train\.jsonl, line 2, .*{message}"):
        published(tmp_path / "train.jsonl", game_steps(spaced=False), line)


def test_published_files_become_datasets(tmp_path: Path) -> None:
    file = tmp_path / "train.jsonl"
    file.write_text("\n".join(json.dumps(game_steps(spaced=True)) for _ in range(3)))
    for like in (EngineGames(env=Chess, task="chess"), RandomizedEndgames(env=ENDGAMES, task="endgames")):
        source = PublishedChess(path=file, like=like)
        data = load_or_generate(recipe=source, root=tmp_path / "data", progress=False)
        assert (data.task, data.policy, len(data.trajectories)) == (like.task, "lmrl-gym", 3)
        assert data.statistics["success_rate"] == 1.0
        assert data.statistics["unique_state_share"] == pytest.approx(4 / 12)


# Records


def recorded(path: Path) -> list[Mapping[str, Any]]:
    """Return the games of a PGN file, as an independent reader sees them."""
    games = []
    with path.open() as file:
        while (game := chess.pgn.read_game(file)) is not None:
            assert not game.errors
            games.append(game)
    return games


def test_games_are_recorded_as_pgn_and_pictures(tmp_path: Path) -> None:
    starts = [Start(seed, {"fen": MATE_IN_ONE}) for seed in range(2)] + [Start(5)]
    played = rollout(partial(Chess, max_moves=4), Foolish(), starts, memory=1)
    files = save_games(trajectories=played, folder=tmp_path / "games", pictures=1)
    assert all(file.is_file() for file in files)
    assert [file.name for file in files] == [
        *("games.pgn", "game_001_1_start.svg", "game_001_2_illegal.svg", "game_001_4_end.svg")
    ]
    assert all("<svg" in file.read_text() for file in files[1:])
    games = recorded(files[0])
    assert [game.headers["Result"] for game in games] == ["1-0", "1-0", "*"]
    assert [game.headers["IllegalMoves"] for game in games] == ["1", "1", "3"]
    assert "depth1" in games[0].headers["Black"]
    assert games[0].headers["FEN"] == MATE_IN_ONE
    assert [move.uci() for move in games[0].mainline_moves()] == ["h1h8"]
    assert "illegal: f l y   (now)" in games[0].comment
    final = read_state(played[2].turns[-1].text)
    assert games[2].end().board().fen() == final.fen(), "the game is whole"
    assert "FEN" not in games[2].headers


class Foolish:
    """Says something foolish first, then mates if that is possible, else plays a pawn once."""

    def act(self, requests: Any) -> list[Action]:
        texts = {0: "f l y   {now}\n", 1: "R h 8\n", 2: "e 4\n"}
        return [Action(texts.get(request.turn, "no\n")) for request in requests]


def test_blacks_moves_are_found_again() -> None:
    (game,) = rollout(partial(Chess, max_moves=12), EnginePlayer(strength="depth1"), [Start(3)], memory=1)
    board = chess.Board()
    for ply in plies(game):
        assert ply.board.fen() == board.fen()
        assert ply.move is not None
        board.push(ply.move)
    assert state_text(board) == game.turns[-1].text
    assert board.fullmove_number == 13


def test_transcripts_become_pgn(tmp_path: Path) -> None:
    from lmrl.evaluation import Evaluation
    from lmrl.experiment.record import write_transcripts

    starts = [Start(1, {"fen": MATE_IN_ONE}), Start(2)]
    played = rollout(partial(Chess, max_moves=4), Foolish(), starts, memory=1)
    write_transcripts(Evaluation(tuple(starts), tuple(played), 1.0), tmp_path / "transcripts.jsonl")
    main([str(tmp_path / "transcripts.jsonl"), "--to", str(tmp_path / "games.pgn")])
    first, second = recorded(tmp_path / "games.pgn")
    assert (first.headers["Result"], second.headers["Result"]) == ("1-0", "*")
    assert first.headers["Seed"] == "1"
