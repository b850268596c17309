"""A good value of each importer's layout, and a recipe that says as much as importers ask."""

from typing import Any

from lmrl.data.dialogues import Dialogues
from lmrl.data.published import PublishedFile
from lmrl.tasks.car_dealer.published import PublishedCarDealer
from lmrl.tasks.chess.published import PublishedChess
from lmrl.tasks.guess_my_city.published import PublishedGuessMyCity
from lmrl.tasks.maze.published import PublishedMaze
from lmrl.tasks.text_nav.published import PublishedTextNav
from lmrl.tasks.twenty_questions.published import PublishedTwentyQuestions
from lmrl.tasks.wordle.published import PublishedWordle


class Like:
    """As much of a recipe as an importer reads."""

    task, env_version, policy = "t", "1", "p"

    def settings(self) -> dict:
        return {}

    def __len__(self) -> int:
        return 0

    def __iter__(self) -> Any:
        return iter(())

    def statistics(self, trajectories: Any) -> dict:
        return {}


CAR = {
    "buyer_info": {"budget": 9000, "personality": "rude"},
    "lines": [{"role": "Seller", "text": "TEXT"}, {"role": "Buyer", "text": "Hm."}],
    "output": {"car_bought": True, "msrp": 9000, "buy_price": 77},
}
START = "rnbqkbnr/pppppppp/8/8/8/8/PPPPPPPP/RNBQKBNR w KQkq - 0 1"
TEXT_NAV = {"text_history": ["A.", "TEXT", "C."], "rewards": [77], "dones": [False]}
LAYOUTS: dict[type[PublishedFile], Any] = {
    PublishedCarDealer: CAR,
    PublishedChess: [{"state": START, "note": "TEXT", "action": "e2e4", "reward": 77, "done": True}],
    Dialogues: {
        "messages": [{"role": "user", "content": "TEXT"}, {"role": "assistant", "content": "a"}],
        "rewards": [77],
        "meta": {"x": [1]},
        "seed": 3,
        "terminated": True,
    },
    PublishedGuessMyCity: {"lines": ["TEXT? No."], "correct": False, "word": "Lima", "cost": 77},
    PublishedMaze: [{"state": "s", "action": "TEXT", "reward": 77, "done": True}],
    PublishedTextNav: TEXT_NAV,
    PublishedTwentyQuestions: {"lines": ["TEXT? No."], "correct": False, "word": ["Cat"], "cost": 77},
    PublishedWordle: {"sequence": [["Wordle:\n", 0.0], ["TEXT", 1.0]], "reward": [77], "done": True},
}
"""A good value of each importer's layout, with a text and a number to be replaced."""
