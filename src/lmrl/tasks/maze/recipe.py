"""The behaviour data of the maze: short wanders inside overlapping sub-mazes, rebuilt from the paper's description."""

import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lmrl.config.types import PositiveCount, Share, checked
from lmrl.data.recipe import GameRecipe
from lmrl.tasks.maze.env import TIME_OUT_REWARD, Maze, Rewards, optimal_values, read_position
from lmrl.tasks.maze.grid import MOVES, Cell, Layout
from lmrl.text.trajectory import Trajectory, Turn


@dataclass(frozen=True, slots=True)
class SubMaze:
    """A connected part of a maze that an episode never leaves."""

    cells: frozenset[Cell]
    landmarks: tuple[Cell, ...]
    """Its ends: where there is only one way to go, where the goal is, and where it meets the next part."""


def split(layout: Layout, parts: int) -> tuple[SubMaze, ...]:
    """Cut a maze into connected parts so that every step of every shortest path to the goal is inside one of them.

    The seeds of the parts are the goal and, one after the other, the cell farthest from all seeds so far. Each cell
    joins its nearest seed, and each part is extended by the next cells towards the goal: the boundary cells are shared.
    On `double_t` with 3 parts these are the two Ts and the middle corridor with the stem to the goal.

    Raises:
        ValueError: the maze has too few cells for that many parts.
    """
    if not 1 <= parts < len(layout.free):
        raise ValueError(f"a maze of {len(layout.free)} cells cannot be cut into {parts} parts")
    to_goal = layout.distances(layout.goal)
    seeds = [layout.goal]
    from_seeds = [to_goal]
    while len(seeds) < parts:
        seeds.append(max(layout.free, key=lambda cell: (min(near[cell] for near in from_seeds), cell)))
        from_seeds.append(layout.distances(seeds[-1]))
    # Of equally near seeds the younger one wins, so that the goal's own part is as small as possible.
    owner = {cell: min(range(parts), key=lambda part: (from_seeds[part][cell], -part)) for cell in layout.free}
    cores = [{cell for cell in layout.free if owner[cell] == part} for part in range(parts)]
    if cores[0] == {layout.goal}:
        raise ValueError(f"a maze of {len(layout.free)} cells cannot be cut into {parts} parts: one has only the goal")
    return tuple(_sub_maze(layout, core, to_goal) for core in cores)


def _sub_maze(layout: Layout, core: set[Cell], to_goal: Mapping[Cell, int]) -> SubMaze:
    """Extend a part by the next cells towards the goal and find its landmarks."""
    exits = {n for c in core for n in _neighbours(layout, c) if n not in core and to_goal[n] < to_goal[c]}
    cells = frozenset(core | exits)
    ends = {cell for cell in cells if len(_neighbours(layout, cell) & cells) == 1}
    return SubMaze(cells, tuple(sorted(ends | exits | (cells & {layout.goal}))))


def _neighbours(layout: Layout, cell: Cell) -> set[Cell]:
    """Return the free cells one move away."""
    return set(layout.targets[cell].values()) - {cell}


class SubMazeRecipe(GameRecipe):
    """Plays the behaviour policy of LMRL-Gym's maze data (arXiv 2311.18232, C.1) in the real environment.

    Each episode draws a sub-maze, a sub-goal in it and a start. A step follows the shortest path to the sub-goal with
    probability `directed`, and is uniformly random otherwise; moves that would leave the sub-maze are drawn again. The
    episode ends at the sub-goal (truncated), at the goal (terminated) or after `max_moves` (truncated).

    The paper leaves the sub-goals open: here they are a landmark of the sub-maze with probability `landmark`, else any
    cell of it, which meets the published statistics.

    Args:
        parts: into how many sub-mazes the maze is cut.
        directed: probability of a step towards the sub-goal.
        landmark: probability that the sub-goal is a landmark.
        max_moves: the longest episode, if the environment allows as many moves.
        common: see `GameRecipe`.
    """

    game_class, policy = Maze, "sub-mazes"

    @checked
    def __init__(
        self,
        *,
        parts: PositiveCount = 3,
        directed: Share = 0.15,
        landmark: Share = 0.5,
        max_moves: PositiveCount = 100,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self._parts, self._directed, self._landmark = parts, directed, landmark
        self._max_moves = min(max_moves, self.game.max_steps)
        self.sub_mazes = split(self.game.layout, parts)

    def options(self) -> Mapping[str, Any]:
        """Return the recipe's own arguments."""
        return {
            "parts": self._parts,
            "directed": self._directed,
            "landmark": self._landmark,
            "max_moves": self._max_moves,
        }

    def play(self, index: int) -> Trajectory:
        """Play one episode; it depends on the seed and its index only."""
        seed = int(np.random.SeedSequence([self.seed, index]).generate_state(1)[0])
        chance = random.Random(seed)
        part = chance.randrange(len(self.sub_mazes))
        cells, goal = self.sub_mazes[part].cells, self.game.layout.goal
        pool = self.sub_mazes[part].landmarks if chance.random() < self._landmark else sorted(cells)
        # In a part of two cells with the goal, only the goal leaves a cell to start from.
        sub_goal = chance.choice([cell for cell in pool if cells - {cell, goal}])
        start = chance.choice(sorted(cells - {sub_goal, goal}))

        observation, _ = self.game.reset(seed=seed, options={"init_position": start})
        turns = [Turn(observation, is_action=False)]
        terminated, distances = False, self.game.layout.distances(sub_goal, cells)
        while not terminated and self.game.position != sub_goal and len(turns) < 2 * self._max_moves:
            action = self._choose(chance, cells, distances)
            observation, reward, terminated, _, _ = self.game.step(action)
            turns += [Turn(action, is_action=True, reward=reward), Turn(observation, is_action=False)]
        info = {"success": terminated, "start": list(start), "sub_maze": part, "sub_goal": list(sub_goal)}
        return Trajectory(tuple(turns), terminated=terminated, truncated=not terminated, seed=seed, info=info)

    def _choose(self, chance: random.Random, cells: frozenset[Cell], distances: Mapping[Cell, int]) -> str:
        """Return the behaviour policy's move from where the maze stands."""
        position = self.game.position
        targets = self.game.layout.targets[position]
        if chance.random() < self._directed:
            nearer = (move for move, cell in targets.items() if distances.get(cell, math.inf) < distances[position])
            return chance.choice(list(nearer))
        return chance.choice([move for move, cell in targets.items() if cell in cells])

    def statistics(self, trajectories: Iterable[Trajectory]) -> dict[str, int | float]:
        """Return the exact returns, in the full maze, of players that the data or the maze define.

        `empirical_policy_return` is the paper's "dataset average": the policy that acts in each cell as often as the
        data do. Data whose cells are unknown (imported, partially observed) have none.
        """
        maze = self.game.layout
        even = dict.fromkeys(MOVES, 1.0)
        best = {cell: {moves[0]: 1.0} for cell, moves in optimal_values(maze).greedy.items()}
        policies: dict[str, Mapping[Cell, Mapping[str, int | float]]] = {
            "random_policy_return": dict.fromkeys(maze.free, even),
            "optimal_policy_return": best,
        }
        counts = action_counts(trajectories, maze)
        if counts:
            policies["empirical_policy_return"] = {cell: counts.get(cell, even) for cell in maze.free}
        return {
            name: expected_return(maze, weights, self.game.rewards, self.game.max_steps)
            for name, weights in policies.items()
        }


def action_counts(trajectories: Iterable[Trajectory], layout: Layout) -> dict[Cell, Counter[str]]:
    """Count the moves that the data make from each cell; cells come from the text or from replaying from the start."""
    counts: dict[Cell, Counter[str]] = defaultdict(Counter)
    for trajectory in trajectories:
        cell: Cell | None = None
        if "start" in trajectory.info:
            row, column = trajectory.info["start"]
            cell = (row, column)
        for turn in trajectory.turns:
            if not turn.is_action:
                told = read_position(turn.text)
                cell = told[0] if told else cell
            elif cell is not None and cell in layout.free:
                if turn.text in MOVES:
                    counts[cell][turn.text] += 1
                cell = layout.move(cell, turn.text)
    return dict(counts)


def expected_return(
    layout: Layout, weights: Mapping[Cell, Mapping[str, int | float]], rewards: Rewards, max_steps: int
) -> float:
    """Return the exact mean return over all starts of a memoryless player, with the step after the last move.

    Args:
        layout: the maze.
        weights: for each cell but the goal, how often each move is chosen (any positive scale).
        rewards: the rewards of steps.
        max_steps: how many moves there are before the time is up.
    """
    starts = [cell for cell in layout.free if cell != layout.goal]
    values = dict.fromkeys(starts, TIME_OUT_REWARD)
    for _ in range(max_steps):
        later = values
        values = {}
        for cell in starts:
            total = sum(weights[cell].values())
            values[cell] = 0.0
            for action, weight in weights[cell].items():
                there = layout.targets[cell][action]
                gain = rewards.goal if there == layout.goal else rewards.otherwise + later[there]
                values[cell] += weight / total * gain
    return sum(values.values()) / len(starts)
