"""Stockfish is found, started once, asked in parallel, started again when it dies, and gone at the end."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

pytest.importorskip("chess")

import chess

from lmrl.envs.core import Dialogue
from lmrl.policies.core import Policy, Request
from lmrl.tasks.chess.engine import EngineFailedError, Engines, close_engines, find_engine, shared_engines
from lmrl.tasks.chess.env import Chess, EnginePlayer
from lmrl.tasks.chess.search import Candidate, Search
from lmrl.tasks.chess.strength import Strength, weaker_move
from lmrl.text.trajectory import Turn

try:
    ENGINE = find_engine()
except FileNotFoundError as error:
    if os.environ.get("LMRL_REQUIRE_ENGINE"):
        raise
    pytest.skip(str(error), allow_module_level=True)

START = chess.STARTING_FEN
MATE_IN_ONE = "k7/8/1K6/8/8/8/8/7R w - - 0 1"
DEPTH1 = Search(depth=1, lines=4)
ENDGAMES = partial(Chess, positions=["kQK", "kRRK"])


def running() -> list[int]:
    """Return the engines that this process has started and that still exist, dead but unburied ones too."""
    return [child.pid for child in psutil.Process().children() if child.name() == "stockfish"]


@pytest.fixture
def engines() -> Iterator[Engines]:
    pool = Engines(ENGINE, processes=2, hash_megabytes=1)
    yield pool
    pool.close()


@pytest.fixture
def no_shared_engines() -> Iterator[None]:
    close_engines()
    yield
    close_engines()


def positions(count: int) -> list[str]:
    """Return positions of one game in which both sides take their first legal move by number."""
    board, found = chess.Board(), []
    for index in range(count):
        moves = list(board.legal_moves)
        board.push(moves[(7 * index) % len(moves)])
        found.append(board.fen())
    return found


def test_answers_are_best_moves_with_values(engines: Engines) -> None:
    ((move, *others),) = engines.ask([MATE_IN_ONE], DEPTH1)
    assert (move.move, len(others)) == ("h1h8", 3)
    assert move.value == 31_999
    assert move.value > others[0].value >= others[1].value >= others[2].value
    assert engines.ask([MATE_IN_ONE], Search(depth=3)) == [(Candidate("h1h8", 0),)]
    assert engines.name.startswith("Stockfish")
    assert engines.ask([], DEPTH1) == []


def test_answers_depend_on_the_position_alone(engines: Engines) -> None:
    fens = positions(24)
    together = engines.ask(fens, DEPTH1)
    for search in (Search(depth=6), Search(nodes=2000)):
        engines.ask(fens, search)  # fills the memory with other things
    alone = Engines(ENGINE, processes=1, hash_megabytes=1)
    assert [alone.ask([fen], DEPTH1)[0] for fen in reversed(fens)] == together[::-1]
    deep = alone.ask(fens[:6], Search(nodes=2000))
    alone.close()
    assert engines.ask(fens[:6], Search(nodes=2000)) == deep


def test_what_an_engine_remembers_ends_with_the_game() -> None:
    fens = positions(8)
    search = Search(depth=7, remembers=True)
    pool = Engines(ENGINE, processes=1, hash_megabytes=1)
    played = []
    for _ in range(3):
        pool.new_game()
        played.append(pool.ask(fens, search))
    fresh = Engines(ENGINE, processes=1, hash_megabytes=1)
    assert fresh.ask(fens, search) == played[0] == played[1] == played[2]
    assert not search.is_repeatable, "or else answers would be taken from other games"
    fresh.close()
    pool.close()


def test_known_answers_are_not_asked_again(engines: Engines) -> None:
    answer = engines.ask([START], DEPTH1)
    engines.close()
    other_number = START.replace(" 0 1", " 0 9")
    assert engines.ask([START, other_number], DEPTH1) == answer * 2
    assert engines.pids == []
    assert len(engines.ask([START.replace(" 0 1", " 4 3")], DEPTH1)) == 1, "the count of quiet moves matters"
    assert len(engines.pids) == 1


def test_timed_searches_are_never_remembered(engines: Engines) -> None:
    search = Search(seconds=0.02, elo=1350)
    moves = {answer[0].move for answer in engines.ask([START] * 30, search)}
    assert len(moves) > 1, "the engine limits its strength by chance"
    assert not search.is_repeatable


def test_questions_are_answered_in_parallel(engines: Engines) -> None:
    engines.ask(positions(2), DEPTH1)  # both are started
    began = time.perf_counter()
    engines.ask(positions(6), Search(seconds=0.3))
    assert time.perf_counter() - began < 6 * 0.3, "one after the other takes 1.8 seconds"


def test_an_engine_that_died_is_replaced(engines: Engines) -> None:
    expected = Engines(ENGINE, processes=1, hash_megabytes=1)
    fens = positions(12)
    known = expected.ask(fens, DEPTH1)
    expected.close()
    engines.ask(fens[:2], DEPTH1)
    before = engines.pids
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    assert engines.ask(fens, DEPTH1) == known
    assert not set(before) & set(engines.pids)
    assert not set(before) & set(running()), "no zombies"


def test_no_process_is_left_after_closing(engines: Engines) -> None:
    engines.ask(positions(4), DEPTH1)
    started = set(engines.pids)
    assert len(started) == 2
    assert started <= set(running())
    engines.close()
    assert not started & set(running())
    assert not any(psutil.pid_exists(pid) for pid in started)
    engines.close()
    assert len(engines.ask(positions(5), DEPTH1)) == 5, "it can be opened again"


def test_an_engine_that_always_dies_is_told(tmp_path: Path) -> None:
    broken = tmp_path / "engine"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    pool = Engines(str(broken), processes=1, hash_megabytes=1)
    with pytest.raises(EngineFailedError, match=r"failed twice at .*is it a UCI engine"):
        pool.ask([START], DEPTH1)
    pool.close()
    env = Chess(engine_path=str(broken))
    env.reset(seed=0)
    with pytest.raises(EngineFailedError):
        env.step("e 4\n")
    with pytest.raises(EngineFailedError):
        EnginePlayer(engine_path=str(broken)).act([Request((Turn(START, False),))])


def test_engine_is_found_by_name_path_and_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STOCKFISH_PATH", raising=False)
    mine = tmp_path / "stockfish"
    mine.symlink_to(ENGINE)
    assert find_engine(str(mine)) == str(mine)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_engine() == str(mine)
    monkeypatch.setenv("STOCKFISH_PATH", ENGINE)
    assert find_engine() == ENGINE
    missing = "no chess engine at nowhere: install it .`apt install stockfish` or `brew install stockfish`"
    with pytest.raises(FileNotFoundError, match=missing):
        find_engine("nowhere")
    monkeypatch.setenv("STOCKFISH_PATH", "elsewhere")
    with pytest.raises(FileNotFoundError, match="no chess engine at elsewhere"):
        Chess(nodes=77)


def test_all_environments_share_one_player_and_its_engines(no_shared_engines: None) -> None:
    envs = [ENDGAMES() for _ in range(64)]
    assert {id(env.partner) for env in envs} == {id(envs[0].partner)}
    assert isinstance(envs[0], Dialogue)
    assert isinstance(envs[0].partner, Policy)
    requests = []
    for seed, env in enumerate(envs):
        env.reset(seed=seed)
        requests.append(env.address(env.legal_actions()[0]))
    for env, reply in zip(envs, envs[0].partner.act(requests), strict=True):
        env.judge(reply)
    assert 1 <= len(running()) <= 2


def test_killing_the_engine_in_a_game_changes_nothing() -> None:
    env = Chess()
    moves = ["e 4\n", "d 4\n", "N f 3\n", "a 3\n", "h 3\n"]
    undisturbed, disturbed = [], []
    for said, is_cruel in ((undisturbed, False), (disturbed, True)):
        env.reset(seed=4)
        for move in moves:
            if is_cruel:
                pool = shared_engines(ENGINE, processes=min(os.cpu_count() or 1, 2), hash_megabytes=1)
                pool._known.clear()
                for pid in pool.pids:
                    os.kill(pid, signal.SIGKILL)
            said.append(env.step(move))
    assert disturbed == undisturbed
    assert not any(info["is_invalid"] for *_, info in disturbed)


@pytest.mark.parametrize("end", ["", "raise SystemExit(0)", "raise KeyError('x')"])
def test_a_program_ends_with_its_engines(end: str) -> None:
    code = (
        "import psutil\nfrom lmrl.tasks.chess.env import Chess\nenv = Chess()\nenv.reset(seed=0)\nenv.step('e 4\\n')\n"
        f"print(*[child.pid for child in psutil.Process().children()], flush=True)\n{end}\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode != 0) == ("KeyError" in end)
    pids = list(map(int, done.stdout.split()))
    assert pids
    assert not any(psutil.pid_exists(pid) for pid in pids)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_starts_its_own_engines() -> None:
    code = """
import os, sys, psutil
from lmrl.tasks.chess.env import Chess
env = Chess()
def play():
    env.reset(seed=3)
    return [env.step(move)[0] for move in ("e 4\\n", "d 4\\n", "a 3\\n")]
first = play()
mine = {child.pid for child in psutil.Process().children()}
child = os.fork()
if child == 0:
    env.partner.strength.engines(env.partner.path, None)._known.clear()
    same = play() == first
    own = {child.pid for child in psutil.Process().children()}
    sys.exit(0 if same and own and not own & mine else 7)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
alive = all(psutil.Process(pid).status() != "zombie" for pid in mine)
sys.exit(status or (0 if alive and play() == first else 8))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def candidates(*values: int) -> tuple[Candidate, ...]:
    return tuple(Candidate(f"m{index}", value) for index, value in enumerate(values))


@pytest.mark.parametrize(
    ("values", "draws", "expected"),
    [
        # w = 120, d = 100: merits 100, 50 + 46, 0 + 93, and without chance the best move stays the best.
        ((100, 50, 0), (0.0, 0.0, 0.0), "m0"),
        # The last draw adds int((12000 + 100 * 118) / 128) = 185 to 0; the others 0 and 46.
        ((100, 50, 0), (0.0, 0.0, 0.99), "m2"),
        ((100, 50, 0), (0.99, 0.99, 0.99), "m0"),
        # A mate is worth too much for chance: 31999 against 0 + int((120 * 31999 + 126 * 118) / 128) = 30115.
        ((31_999, 0), (0.0, 0.99), "m0"),
        # The last one of equally good moves.
        ((10, 10, 10), (0.1, 0.9, 0.5), "m2"),
        ((7,), (0.5, 0.5, 0.5, 0.5), "m0"),
    ],
)
def test_weaker_moves_by_hand(values: tuple[int, ...], draws: tuple[float, ...], expected: str) -> None:
    assert weaker_move(candidates(*values), 0.0, draws) == expected


def test_levels_stand_for_elos() -> None:
    assert Strength("depth1", 1350).level == pytest.approx(0.0096, abs=2e-4)
    assert Strength("depth1", 800).level == Strength("depth1", 1350).level
    assert Strength("depth1", 1490).level == pytest.approx(1.0, abs=1e-3)
    assert [Strength("depth1", elo).search.depth for elo in (800, 1350, 1489, 1491, 1596, 1599)] == [1, 1, 1, 2, 2, 3]
    assert Strength("reference", 1200).search == Search(seconds=0.1, elo=1350)
    assert Strength("reference", 1200).settings() == {"name": "reference", "elo": 1350, "seconds": 0.1}
    assert Strength("nodes", nodes=5).settings() == {"name": "nodes", "nodes": 5}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "weak"}, "opponent must be one of reference, depth1, nodes, depth, got 'weak'"),
        ({"elo": 2851}, "elo must be at most 2850"),
        ({"seconds": 0.0}, "seconds must be in"),
        ({"nodes": 0}, "nodes and depth must be positive"),
        ({"depth": 0}, "nodes and depth must be positive"),
    ],
)
def test_bad_strengths_are_told(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Strength(**arguments)


def test_players_depend_on_seed_and_turn_alone() -> None:
    player = EnginePlayer(strength="depth1")
    requests = [Request((Turn(START, False),), seed=seed, turn=turn) for seed in range(8) for turn in range(3)]
    together = player.act(requests)
    assert [player.act([request])[0] for request in reversed(requests)] == together[::-1]
    assert len({action.text for action in together}) > 1
    assert player.act([Request(()), requests[0]])[0].text == ""
    with pytest.raises(ValueError, match="not a FEN"):
        player.act([Request((Turn("Hello\n", False),))])
    with pytest.raises(ValueError, match="processes must be at least 1"):
        EnginePlayer(processes=0)
