"""A person at the terminal: typed lines, lists of actions, what was earned, boards and what the end reveals."""

import io
import re
from collections.abc import Callable, Iterator

import pytest

from lmrl.play.__main__ import main
from lmrl.play.person import LISTED, Person, listing
from lmrl.policies.core import Action, Request
from lmrl.rollout import Start, rollout
from lmrl.tasks.chess.env import Chess
from lmrl.tasks.maze.env import Maze
from lmrl.tasks.wordle.env import Wordle
from lmrl.text.trajectory import Turn


def said(text: str) -> Turn:
    return Turn(text, is_action=False)


def typing(*lines: str) -> tuple[list[str], Callable[[str], str], Iterator[str]]:
    """Return what will be shown, how lines are read, and the lines that were not read."""
    left = iter(lines)
    return [], lambda prompt: next(left), left


def test_a_person_sees_the_news_and_types() -> None:
    shown, read, _ = typing("move up")
    person = Person(write=shown.append, read=read)
    history = (said("old\n"), Turn("go\n", is_action=True, reward=-1), said("new\n"), said("and more\n"))
    assert person.act([Request(history, earned=-3.5)]) == [Action("move up\n")]
    assert shown == ["new\nand more", "[reward -1, total -3.5]"]


@pytest.mark.parametrize("slip", ["", "   ", "\t", "\x1b[A", "move\x1b[D up", "\x7f", "\x00", "up\udce9"])
def test_slips_of_the_keyboard_are_not_sent(slip: str) -> None:
    for is_partner in (False, True):
        shown, read, left = typing(slip, "move up", "too many")
        person = Person(is_partner=is_partner, write=shown.append, read=read)
        assert person.act([Request((said("new\n"),))]) == [Action("move up\n")]
        assert list(left) == ["too many"]
        assert "othing was sent" in shown[-1]


def played(env: Chess | Maze | Wordle, options: dict, *lines: str) -> tuple[list[str], list[Turn]]:
    """Return what a person was shown in a game, and the actions that it recorded."""
    shown, read, _ = typing(*lines)
    person = Person(write=shown.append, read=read)
    (episode,) = rollout(lambda: person.watch(env), person, [Start(0, options)], memory=None)
    return shown, [turn for turn in episode.turns if turn.is_action]


def test_words_may_be_typed_as_words() -> None:
    env = Wordle(words=["shire", "panic", "felon"])
    shown, actions = played(env, {"word": "shire"}, "felon", "PANIC", "p a n i c", "crane", "shire")
    assert [turn.text for turn in actions] == ["f e l o n\n", "p a n i c\n", "p a n i c\n", "crane\n", "s h i r e\n"]
    assert shown[-1] == "[not understood: -1, total -4]"
    assert shown.count("[reward -1, total -1]") == 1


def test_what_was_not_understood_is_said_with_its_price() -> None:
    maze = Maze(layout="###/#.#/#G#/###")
    shown, actions = played(maze, {}, "fly", "", "?", "? DOWN", "move down")
    assert [turn.text for turn in actions] == ["fly\n", "move down\n"]
    assert "[not understood: -4, total -4]" in shown
    assert sorted(re.findall(r"move \w+", shown[-2])) == ["move down", "move left", "move right", "move up"]
    assert shown[-1] == "move down"


def test_long_lists_are_cut_and_can_be_searched() -> None:
    words = [f"word {number}\n" for number in range(LISTED + 5)]
    lines = listing(words, "").splitlines()
    assert lines[-1] == "... and 5 more: ? TEXT lists those that contain TEXT"
    assert sum(line.count("word") for line in lines[:-1]) == LISTED
    found = ["word 6", "word 60", "word 61", "word 62", "word 63", "word 64"]
    assert re.findall(r"word \d+", listing(words, "WORD6")) == found
    assert listing(words, "x") == "No listed action contains 'x'."
    assert listing(None, "") == "This task has no list of actions: anything that the rules allow can be typed."


@pytest.mark.parametrize("task", ["endgames"])  # skipped where there is no engine
def test_a_board_is_shown_with_its_coordinates(task: str) -> None:
    env = Chess(positions=["kRK"], max_moves=1)
    shown, _ = played(env, {"fen": "8/8/8/8/8/1k6/7R/1K6 w - - 0 1"}, "h2h3")
    assert shown[1].splitlines() == [
        "8  . . . . . . . .",
        "7  . . . . . . . .",
        "6  . . . . . . . .",
        "5  . . . . . . . .",
        "4  . . . . . . . .",
        "3  . k . . . . . .",
        "2  . . . . . . . R",
        "1  . K . . . . . .",
        "",
        "   a b c d e f g h",
    ]


@pytest.mark.parametrize("task", ["chess"])  # skipped where there is no engine
def test_a_pawn_is_not_a_bishop(task: str) -> None:
    """Only the capital says which of the two takes."""
    env = Chess(max_moves=1)
    either = "4k3/8/8/2n5/1P1B4/8/8/4K3 w - - 0 1"
    env.reset(options={"fen": either})
    assert {"B x c 5\n", "b x c 5\n"} <= set(env.legal_actions())
    for typed, text in (("bxc5", "b x c 5\n"), ("Bxc5", "B x c 5\n")):
        assert played(env, {"fen": either}, typed)[1][0].text == text


@pytest.mark.parametrize(
    ("task", "line", "secret"),
    [
        ("wordle", "water", "word: "),
        ("guess_my_city", "Is it in Asia?", "city: "),
        ("twenty_questions", "Is it alive?", "object: "),
        ("car_dealer", "The price is firm.", "budget: "),
    ],
)
def test_the_end_reveals_the_secret(
    task: str, line: str, secret: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{line}\n" * 30))
    assert main([f"task={task}", "--seed", "3"]) == 0
    told = capsys.readouterr().out
    assert "Type ? for a list of actions" in told
    assert f"\n{secret}" in told
