"""A policy and its values on the grid of a maze, beside the exact solution."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrow, FancyBboxPatch, Rectangle

from lmrl.config.types import PositiveShare
from lmrl.tasks.maze.env import Maze, Solution, optimal_values
from lmrl.tasks.maze.grid import MOVES, Cell, Layout

INK = "#1f2933"
MUTED = "#6b7785"
WALL = "#d5dbe3"
NEUTRAL = "#f7f8fa"
WRONG = "#d1495b"
VALUES = LinearSegmentedColormap.from_list("values", ["#fbf3df", "#cfe6c4", "#8cc9a1", "#4ea98c"])
CELL_INCHES = 0.48
LEAST_PROBABILITY = 0.02
"""Moves less likely than this are not drawn."""

Explain = Callable[[Sequence[str]], tuple[Float[np.ndarray, "n actions"], Float[np.ndarray, " n"] | None]]
"""From observations to the probability of each legal action (in the environment's order), and values if it has any."""


@dataclass(frozen=True, slots=True)
class _View:
    """The values of one player: the probability of each move, and the value of each cell."""

    moves: Mapping[Cell, Mapping[str, float]]
    values: Mapping[Cell, float]
    wrong: frozenset[Cell] = frozenset()


def policy_map(*, env: Maze, explain: Explain, path: Path, gamma: PositiveShare = 1.0, title: str = "") -> Path:
    """Draw a policy's moves and its critic's values in each cell, beside the exact optimum, as a PNG.

    Each cell is asked about alone, as the first observation of an episode: where the observation does not tell the
    position, cells that look alike show the same, and the policy's memory is not used.

    Args:
        env: the maze.
        explain: as `Explain`; probabilities may sum to less than 1, the rest is for texts that are no move.
        path: the PNG to write.
        gamma: discount of each move, for the exact values.
        title: the name of the run.

    Raises:
        ValueError: `explain` does not return one row for each observation and one column for each move.
    """
    best = optimal_values(env.layout, goal=env.layout.goal, gamma=gamma)
    cells = [cell for cell in env.layout.free if cell != env.layout.goal]
    texts = [env.reset(seed=0, options={"init_position": cell})[0] for cell in cells]
    probabilities, values = explain(texts)
    expected = (len(cells), len(MOVES))
    if np.shape(probabilities) != expected or (values is not None and np.shape(values) != expected[:1]):
        raise ValueError(f"explain must return probabilities {expected} and values {expected[:1]} or None")
    moves = {cell: dict(zip(MOVES, row, strict=True)) for cell, row in zip(cells, probabilities.tolist(), strict=True)}
    wrong = frozenset(cell for cell in cells if max(moves[cell], key=moves[cell].__getitem__) not in best.greedy[cell])
    learned = _View(moves, {} if values is None else dict(zip(cells, values.tolist(), strict=True)), wrong)
    figure = _draw(
        env.layout, learned, _solution(best), title, len(set(texts)), float(probabilities.sum(axis=1).mean())
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=140)
    return path


def _solution(best: Solution) -> _View:
    """Return the exact solution as a view: equally good moves are equally likely."""
    moves = {cell: dict.fromkeys(greedy, 1 / len(greedy)) for cell, greedy in best.greedy.items()}
    return _View(moves, {cell: best.values[cell] for cell in moves})


def _draw(layout: Layout, learned: _View, best: _View, title: str, observations: int, said_a_move: float) -> Figure:
    """Draw both views on one scale of colours."""
    rows, columns = len(layout.rows), len(layout.rows[0])
    figure = Figure(figsize=(2 * columns * CELL_INCHES + 1.2, rows * CELL_INCHES + (1.15 if title else 0.65)))
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.08)
    shown = [*learned.values.values(), *best.values.values()]
    norm = Normalize(min(shown), max(*shown, min(shown) + 1e-6))
    left, right = figure.subplots(1, 2)
    right_moves = len(learned.moves) - len(learned.wrong)
    _draw_view(left, layout, learned, norm)
    _draw_view(right, layout, best, norm)
    said = f"likeliest move is optimal in {right_moves} of {len(learned.moves)} cells"
    if said_a_move < 0.995:
        said += f" · {1 - said_a_move:.1%} on texts that are no move"
    solved = "value iteration; equally good moves share"
    if observations < len(learned.moves):
        said += f"\nfirst observation only, no history: the {len(learned.moves)} cells look like {observations}"
        solved += "\nfor a player who knows the cell"
    _caption(left, "Learned policy" + (" and values" if learned.values else ""), said)
    _caption(right, "Exact optimum", solved)
    if title:
        figure.suptitle(title, color=INK, fontsize=14, fontweight="bold", x=0.01, ha="left")
    bar = figure.colorbar(ScalarMappable(norm, VALUES), ax=[left, right], shrink=0.7, pad=0.01, aspect=30)
    bar.set_label("value of the cell", color=MUTED, fontsize=9)
    bar.ax.tick_params(labelsize=8, colors=MUTED, length=0)
    bar.outline.set_visible(False)  # type: ignore[operator]
    return figure


def _draw_view(axes: Axes, layout: Layout, view: _View, norm: Normalize) -> None:
    """Draw the grid, and in each cell its value as colour and number, and its moves as arrows."""
    rows, columns = len(layout.rows), len(layout.rows[0])
    # Of the border only a rim is shown: it is always wall.
    axes.set_xlim(0.5, columns - 0.5)
    axes.set_ylim(rows - 0.5, 0.5)
    axes.set_aspect("equal")
    axes.axis("off")
    axes.add_patch(FancyBboxPatch((0.7, 0.7), columns - 1.4, rows - 1.4, boxstyle="round,pad=0.2", color=WALL, lw=0))
    for row, column in layout.free:
        value = view.values.get((row, column))
        colour = NEUTRAL if value is None else VALUES(norm(value))
        axes.add_patch(Rectangle((column, row), 1, 1, facecolor=colour, edgecolor="white", linewidth=1.2))
    goal_row, goal_column = layout.goal
    axes.add_patch(Rectangle((goal_column, goal_row), 1, 1, facecolor="#f2c14e", edgecolor="white", linewidth=1.2))
    axes.text(
        goal_column + 0.5, goal_row + 0.52, "goal", ha="center", va="center", fontsize=8, color=INK, weight="bold"
    )
    for cell, moves in view.moves.items():
        _draw_cell(axes, cell, moves, view.values.get(cell), cell in view.wrong)


def _draw_cell(axes: Axes, cell: Cell, moves: Mapping[str, float], value: float | None, wrong: bool) -> None:
    """Draw the arrows of a cell, its number in the corner, and a red frame if its likeliest move is not optimal."""
    row, column = cell
    best = max(moves.values())
    for action, probability in moves.items():
        if probability < LEAST_PROBABILITY:
            continue
        down, along = MOVES[action]
        reach = 0.12 + 0.26 * probability
        tail = 0.35 * max(0.0, 2 * probability - 1)  # a nearly certain move is one long arrow through the cell
        head = min(0.17, 0.75 * reach)
        colour = (WRONG if wrong else INK) if probability == best else MUTED
        arrow = FancyArrow(
            *(column + 0.5 - along * tail, row + 0.52 - down * tail, along * (reach + tail), down * (reach + tail)),
            width=0.025 + 0.055 * probability,
            head_width=1.25 * head,
            head_length=head,
            length_includes_head=True,
            facecolor=colour,
            linewidth=0,
            alpha=0.5 + 0.5 * probability,
            zorder=3,
        )
        axes.add_patch(arrow)
    if wrong:
        frame = Rectangle((column + 0.05, row + 0.05), 0.9, 0.9, fill=False, edgecolor=WRONG, linewidth=1.6, zorder=2)
        axes.add_patch(frame)
    if value is not None:
        text = f"{value:.1f}" if abs(value) < 99.95 else f"{value:.0f}"
        axes.text(column + 0.09, row + 0.1, text, fontsize=6.5, color=INK, alpha=0.8, ha="left", va="top", zorder=4)


def _caption(axes: Axes, name: str, said: str) -> None:
    """Write the name of a view and one line about it above the grid."""
    axes.set_title(name, loc="left", fontsize=12, color=INK, pad=8 + 12 * (1 + said.count("\n")))
    axes.annotate(
        said, (0, 1), (0, 4), xycoords="axes fraction", textcoords="offset points", fontsize=9, color=MUTED, va="bottom"
    )
