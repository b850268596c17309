"""The maze of LMRL-Gym: walk to the goal, told where you stand (fully observed) or only which walls are near."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from lmrl.config.types import PositiveCount, Text
from lmrl.envs.core import StepResult, TextEnv
from lmrl.policies.core import Action, Request
from lmrl.tasks.maze.grid import MOVES, Cell, Layout

SIDES = (("to your right", (0, 1)), ("to your left", (0, -1)), ("above you", (-1, 0)), ("below you", (1, 0)))
"""The order in which walls are told."""


@dataclass(frozen=True, slots=True)
class Rewards:
    """The reward of a step."""

    goal: float
    invalid: float
    """For an action that is none of the four moves."""
    otherwise: float


REWARDS: Mapping[str, Rewards] = {
    "standard": Rewards(goal=0.0, invalid=-4.0, otherwise=-1.0),
    "illegal_penalty": Rewards(goal=1.0, invalid=-1.0, otherwise=0.0),
    "illegal_penalty_scaled": Rewards(goal=1.0, invalid=-100.0, otherwise=-1.0),
}
TIME_OUT_REWARD = -1.0
"""The reward of the step after the last one, for every reward function."""


def _spelled(cell: Cell) -> str:
    """Write a cell digit by digit, as `1, 1 1`, so that tokenizers see single digits."""
    return ", ".join(" ".join(str(number)) for number in cell)


def describe_walls(layout: Layout, cell: Cell, goal: Cell) -> str:  # noqa: ARG001 - all renderers share one signature
    """Tell only the walls next to the cell."""
    near = [name for name, (dr, dc) in SIDES if layout.is_wall((cell[0] + dr, cell[1] + dc))]
    if not near:
        return "There are no walls near you.\n"
    return f"There {'is a wall' if len(near) == 1 else 'are walls'} {', '.join(near)}.\n"


def describe_goal_and_walls(layout: Layout, cell: Cell, goal: Cell) -> str:
    """Tell the goal and the walls next to the cell, but not the cell."""
    return f"The goal is at position {_spelled(goal)}. {describe_walls(layout, cell, goal)}"


def describe_position(layout: Layout, cell: Cell, goal: Cell) -> str:
    """Tell the goal, the cell and the walls next to it: everything there is to know."""
    here = f"Your current position is at position {_spelled(cell)}."
    return f"The goal is at position {_spelled(goal)}. {here} {describe_walls(layout, cell, goal)}"


DESCRIPTIONS = {"position": describe_position, "walls": describe_walls, "goal_and_walls": describe_goal_and_walls}

_CELL = r"([\d ]+), ([\d ]+)"
_POSITION = re.compile(rf"The goal is at position {_CELL}\. Your current position is at position {_CELL}\.")


def read_position(text: str) -> tuple[Cell, Cell] | None:
    """Return the cell and the goal that an observation tells, or `None` if it does not tell them."""
    found = _POSITION.search(text)
    if not found:
        return None
    goal_row, goal_column, row, column = (int(digits.replace(" ", "")) for digits in found.groups())
    return (row, column), (goal_row, goal_column)


class Maze(TextEnv):
    """One maze; `reset` takes the options `init_position` and `goal`, both (row, column).

    An episode ends at the goal (terminated) or with step `max_steps + 1` (truncated), which ignores its action.

    Args:
        layout: a name or a drawing, as `Layout.parse` takes it.
        describe: the form of observations, one of `DESCRIPTIONS`.
        reward: the reward function, one of `REWARDS`.
        max_steps: how many moves there are before the time is up.
    """

    version: ClassVar[str] = "1"

    def __init__(
        self,
        *,
        layout: Text = "double_t",
        describe: Literal["position", "walls", "goal_and_walls"] = "position",
        reward: Literal["standard", "illegal_penalty", "illegal_penalty_scaled"] = "standard",
        max_steps: PositiveCount = 100,
    ) -> None:
        super().__init__()
        for name, value, known in (("describe", describe, DESCRIPTIONS), ("reward", reward, REWARDS)):
            if value not in known:
                raise ValueError(f"maze: {name} must be one of {', '.join(known)}, got {value!r}")
        if max_steps < 1:
            raise ValueError(f"maze: max_steps must be at least 1, got {max_steps}")
        self.layout = Layout.parse(layout)
        self.rewards = REWARDS[reward]
        self.max_steps = max_steps
        drawing = "/".join(self.layout.rows)
        self.settings = {"layout": drawing, "describe": describe, "reward": reward, "max_steps": max_steps}
        """Identifies this maze; stored with data."""
        self._describe = DESCRIPTIONS[describe]
        self._texts: dict[tuple[Cell, Cell], str] = {}
        self.goal = self.position = self.layout.goal
        self._steps: int | None = None

    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Start an episode and return its first observation; without options the start is drawn evenly.

        Raises:
            ValueError: an unknown option, a cell that is not free, or a start on the goal.
        """
        super().reset(seed=seed)
        options = dict(options or {})
        unknown = set(options) - {"init_position", "goal"}
        if unknown:
            raise ValueError(f"maze: unknown reset options {sorted(unknown)}, known are goal and init_position")
        self.goal = self._free_cell(options.get("goal", self.layout.goal))
        starts = [cell for cell in self.layout.free if cell != self.goal]
        drawn = starts[int(self.np_random.integers(len(starts)))]
        self.position = self._free_cell(options.get("init_position", drawn))
        if self.position == self.goal:
            raise ValueError(f"maze: an episode cannot start on its goal {self.goal}")
        self._steps = 0
        return self._text(), {}

    def step(self, action: str) -> StepResult:
        """Move, or find that the time is up.

        Raises:
            RuntimeError: no episode is running.
        """
        if self._steps is None:
            raise RuntimeError("maze: the episode has ended, call reset() before step()")
        if self._steps >= self.max_steps:
            self._steps = None
            return "Failure\n", TIME_OUT_REWARD, False, True, {"success": False, "is_invalid": False}
        self._steps += 1
        self.position = self.layout.move(self.position, action)
        is_invalid = action not in MOVES
        info = {"success": self.position == self.goal, "is_invalid": is_invalid}
        if info["success"]:
            self._steps = None
            return "Success\n", self.rewards.goal, True, False, info
        reward = self.rewards.invalid if is_invalid else self.rewards.otherwise
        return self._text(), reward, False, False, info

    def evaluation_starts(self) -> Sequence[Mapping[str, Any]]:
        """Return every free cell but the goal as a start."""
        return tuple({"init_position": cell} for cell in self.layout.free if cell != self.layout.goal)

    def legal_actions(self) -> Sequence[str]:
        """Return the four moves; a move into a wall is legal too."""
        return tuple(MOVES)

    def _text(self) -> str:
        """Describe the present state; each state is put into words once."""
        state = (self.position, self.goal)
        if state not in self._texts:
            self._texts[state] = self._describe(self.layout, *state)
        return self._texts[state]

    def _free_cell(self, value: Sequence[int]) -> Cell:
        """Return the cell as a tuple of plain integers, or raise `ValueError`."""
        free = [cell for cell in self.layout.free if cell == tuple(value)]
        if not free:
            raise ValueError(f"maze: {tuple(value)} is not a free cell of the layout (row, column)")
        return free[0]


@dataclass(frozen=True, slots=True)
class Solution:
    """The return of the best possible player, without a time limit."""

    values: Mapping[Cell, float]
    """V*: from each free cell on; 0 at the goal."""
    action_values: Mapping[Cell, Mapping[str, float]]
    """Q*: for each cell but the goal and each of the four moves."""
    greedy: Mapping[Cell, tuple[str, ...]]
    """All best moves of each cell but the goal."""


def optimal_values(
    layout: Layout | str, *, goal: Cell | None = None, gamma: float = 1.0, reward: str = "standard"
) -> Solution:
    """Solve a maze exactly by value iteration; `gamma` discounts each move.

    Raises:
        ValueError: `gamma` is not in (0, 1], or the layout or reward is unknown.
    """
    if not 0 < gamma <= 1:
        raise ValueError(f"gamma must be in (0, 1], got {gamma}")
    if reward not in REWARDS:
        raise ValueError(f"reward must be one of {', '.join(REWARDS)}, got {reward!r}")
    maze = Layout.parse(layout) if isinstance(layout, str) else layout
    end, pay = goal or maze.goal, REWARDS[reward]
    cells = [cell for cell in maze.free if cell != end]
    values = dict.fromkeys(maze.free, 0.0)
    action_values: dict[Cell, dict[str, float]] = {}
    # From 0, one sweep per move of the longest shortest path is exact: standing still never pays.
    for _ in range(max(maze.distances(end).values()) + 1):
        action_values = {
            cell: {
                action: pay.goal
                if (there := maze.targets[cell][action]) == end
                else pay.otherwise + gamma * values[there]
                for action in MOVES
            }
            for cell in cells
        }
        values |= {cell: max(choices.values()) for cell, choices in action_values.items()}
    greedy = {
        cell: tuple(action for action, value in choices.items() if value == values[cell])
        for cell, choices in action_values.items()
    }
    return Solution(values, action_values, greedy)


class OptimalPlayer:
    """Walks a shortest path, reading its position from the text; of equally good moves it takes the first."""

    def __init__(self, *, layout: str = "double_t") -> None:
        self._layout = Layout.parse(layout)
        self._solutions: dict[Cell, Solution] = {}

    def act(self, requests: Sequence[Request]) -> list[Action]:
        """Return a best move for each request.

        Raises:
            ValueError: an observation does not tell the position (`describe` is not `position`).
        """
        return [Action(self._best_move(request.history[-1].text)) for request in requests]

    def _best_move(self, text: str) -> str:
        """Return the first best move from where the text says one stands."""
        told = read_position(text)
        if told is None:
            raise ValueError(f"the optimal maze player needs its position, but the observation is {text!r}")
        cell, goal = told
        if goal not in self._solutions:
            self._solutions[goal] = optimal_values(self._layout, goal=goal)
        return self._solutions[goal].greedy[cell][0]


class RememberingPlayer:
    """Plays the partially observed double T from the walls near by and its own last move; its mean return is -7.24.

    It walks a bar in one direction until that ends, and down wherever down is open.

    Args:
        layout: must be the double T.

    Raises:
        ValueError: it is another one.
    """

    _ONWARD: ClassVar[Mapping[str, str]] = {
        "to your left, above you, below you": "move right\n",
        "to your right, above you, below you": "move left\n",
        "to your left, below you": "move right\n",
        "to your right, below you": "move left\n",
    }

    def __init__(self, *, layout: str = "double_t") -> None:
        if Layout.parse(layout) != Layout.parse("double_t"):
            raise ValueError(f"maze: the remembering player knows only the layout double_t, not {layout!r}")

    def act(self, requests: Sequence[Request]) -> list[Action]:
        """Return the next move of each request; without a move to remember it begins to the right."""
        return [Action(self._move(request)) for request in requests]

    def _move(self, request: Request) -> str:
        walls = request.history[-1].text.removeprefix("There are walls ").removesuffix(".\n")
        if walls == "above you, below you":
            last = request.history[-2].text if len(request.history) > 1 else ""
            return "move left\n" if last == "move left\n" else "move right\n"
        return self._ONWARD.get(walls, "move down\n")
