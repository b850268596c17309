"""Solve the maze's offline methods exactly, in tables: what the data allow, without any network.

    python scripts/maze_exact.py <dataset folder of task=maze> <dataset folder of task=maze_po>

A state is an observation (a memory of 1). Guided policies are prior(a | o) exp(beta Q(o, a)), normalised; the prior
is how often the data take each action. Returns are exact: expectations over starts and moves, 101-step rule
included.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lmrl.data import store
from lmrl.scores import Anchors, score
from lmrl.tasks.maze.env import Maze
from lmrl.tasks.maze.grid import MOVES, Layout
from lmrl.text.trajectory import Trajectory

ACTIONS = list(MOVES)
BETAS = (0.5, 1, 2, 3, 4, 5, 6, 8, 16, 32)


@dataclass(frozen=True)
class Table:
    """Means over the data, by observation and action."""

    states: dict[str, int]
    counts: np.ndarray  # (S, 4)
    rewards: np.ndarray  # (S, 4)
    returns: np.ndarray  # (S, 4), discounted rewards to go
    transitions: np.ndarray  # (S, 4, S); rows sum to less than 1 where the game may end

    @property
    def prior(self) -> np.ndarray:
        """How often each action is taken."""
        return self.counts / np.maximum(self.counts.sum(1, keepdims=True), 1)


def tabulate(trajectories: Sequence[Trajectory], gamma: float) -> Table:
    """Count the data."""
    texts = {turn.text for t in trajectories for turn in t.turns[:-1] if not turn.is_action}
    states = {text: index for index, text in enumerate(sorted(texts | {t.turns[-1].text for t in trajectories}))}
    size = len(states)
    counts, rewards, returns = (np.zeros((size, len(ACTIONS))) for _ in range(3))
    transitions = np.zeros((size, len(ACTIONS), size))
    for trajectory in trajectories:
        to_go = 0.0
        for i in reversed(range(1, len(trajectory.turns), 2)):
            turn = trajectory.turns[i]
            at = states[trajectory.turns[i - 1].text], ACTIONS.index(turn.text)
            to_go = turn.reward + gamma * to_go
            counts[at] += 1
            rewards[at] += turn.reward
            returns[at] += to_go
            if not (trajectory.terminated and i == len(trajectory.turns) - 2):
                transitions[(*at, states[trajectory.turns[i + 1].text])] += 1
    seen = np.maximum(counts, 1)
    return Table(states, counts, rewards / seen, returns / seen, transitions / seen[:, :, None])


def expectiles(q: np.ndarray, weight: np.ndarray, tau: float) -> np.ndarray:
    """Return each row's weighted tau-expectile, by fixed-point iteration."""
    v = (q * weight).sum(1)
    for _ in range(50):
        w = weight * np.where(q >= v[:, None], tau, 1 - tau)
        v = (w * q).sum(1) / np.maximum(w.sum(1), 1e-12)
    return v


def action_values(table: Table, gamma: float, tau: float, share: float) -> np.ndarray:
    """Solve ILQL's fixed point; `share` of each target is the return (1: Monte-Carlo returns alone)."""
    weight = table.counts / np.maximum(table.counts.sum(1, keepdims=True), 1)
    q = table.returns
    for _ in range(2000):
        v = expectiles(q, weight, tau)
        new = share * table.returns + (1 - share) * (table.rewards + gamma * table.transitions @ v)
        if np.abs(new - q).max() < 1e-7:
            break
        q = new
    return q


def guided(table: Table, q: np.ndarray, beta: float) -> np.ndarray:
    """Return the guided policy's probabilities; states without data get uniform ones."""
    with np.errstate(divide="ignore"):
        logits = np.where(table.counts > 0, np.log(np.maximum(table.counts, 1)) + beta * q, -np.inf)
    logits[table.counts.sum(1) == 0] = 0.0
    p = np.exp(logits - logits.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


def expected_return(layout: Layout, describe: str, table: Table, policy: np.ndarray) -> float:
    """Return the mean over all starts of the policy's expected return."""
    env = Maze(layout="double_t", describe=describe)
    cells = [cell for cell in layout.free if cell != layout.goal]
    number = {cell: index for index, cell in enumerate(cells)}
    moves, reward = np.zeros((len(cells), len(cells))), np.full(len(cells), -1.0)
    for cell in cells:
        row = policy[table.states[env.reset(seed=0, options={"init_position": cell})[0]]]
        for action, probability in zip(ACTIONS, row, strict=True):
            reached = layout.move(cell, action)
            if reached == layout.goal:
                reward[number[cell]] += probability
            else:
                moves[number[cell], number[reached]] += probability
    value = np.full(len(cells), -1.0)  # the 101st step
    for _ in range(100):
        value = reward + moves @ value
    return float(value.mean())


def main(full: str, partial: str) -> None:
    """Print the tables."""
    layout = Maze().layout
    out = sys.stdout.write

    def line(name: str, table: Table, describe: str, q: np.ndarray, anchors: Anchors) -> None:
        scores = (score(expected_return(layout, describe, table, guided(table, q, beta)), anchors) for beta in BETAS)
        out(f"{name:<44}" + " ".join(f"{value:6.1f}" for value in scores) + "\n")

    out(f"{'scores at beta =':<44}" + " ".join(f"{beta:6g}" for beta in BETAS) + "\n")
    fully, partly = Anchors(min=-101, data=-83, max=-6.84), Anchors(min=-101, data=-83, max=-25.75)
    data = store.load(full).trajectories
    table = tabulate(data, 0.99)
    line("maze: Monte-Carlo returns, gamma .99", table, "position", table.returns, fully)
    line("maze: ILQL, gamma .99, tau .95", table, "position", action_values(table, 0.99, 0.95, 0.0), fully)
    wins = [trajectory for trajectory in data if trajectory.info.get("success")]
    won = tabulate(wins, 0.99)
    for rest, name in ((np.full_like(table.prior, 0.25), "uniform"), (table.prior, "the data's policy")):
        policy = rest.copy()
        for text, index in won.states.items():
            if won.counts[index].sum():
                policy[table.states[text]] = won.counts[index] / won.counts[index].sum()
        value = score(expected_return(layout, "position", table, policy), fully)
        out(f"maze: successful episodes, elsewhere {name}: {value:.1f}\n")
    data = store.load(partial).trajectories
    for gamma in (0.99, 0.95):
        table = tabulate(data, gamma)
        for share in (0.0, 0.2, 0.35, 0.5, 1.0):
            q = action_values(table, gamma, 0.95, share)
            line(f"maze_po: ILQL, gamma {gamma}, tau .95, returns {share:g}", table, "walls", q, partly)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2])
