"""Mazes as grids: named layouts, drawings, random mazes, moves and distances."""

import random
import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

from pydantic import Field

from lmrl.config.types import Count

Cell = tuple[int, int]
"""Row and column, counted from 0 at the top left."""

MOVES: Mapping[str, Cell] = {
    "move left\n": (0, -1),
    "move right\n": (0, 1),
    "move up\n": (-1, 0),
    "move down\n": (1, 0),
}
LAYOUTS = {
    "double_t": "#############/#.....#.....#/###.#####.###/###.#####.###/###.#####.###/###.......###/"
    "######.######/######.######/######G######/#############",
    "umaze": "#####/#...#/#.#.#/#.#G#/#####",
    "medium": "########/#..##..#/#..#...#/##...###/#..#...#/#.#..#.#/#...#G.#/########",
    "large": "############/#....#.....#/#.##.#.#.#.#/#......#...#/#.####.###.#/#..#.#.....#/##.#.#.#.###/"
    "#..#...#.G.#/############",
}


@dataclass(frozen=True)
class Layout:
    """A grid of walls (`#`) and free cells (`.`) with one goal (`G`), closed and connected."""

    rows: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> "Layout":
        """Return the layout of that name, or the one that the text draws (rows separated by `/` or new lines).

        Raises:
            ValueError: an unknown name, or a drawing that is no maze; the message says where.
        """
        if not set(text) & set("#/\n") and text not in LAYOUTS:
            raise ValueError(f"unknown maze layout {text!r}: use one of {', '.join(LAYOUTS)}, or draw one with # . G")
        rows = tuple(row.strip() for row in re.split(r"[/\n]", LAYOUTS.get(text, text)) if row.strip())
        _check_drawing(rows)
        layout = cls(rows)
        lost = set(layout.free) - set(layout.distances(layout.goal))
        if lost:
            raise ValueError(f"the goal of the maze cannot be reached from cell {min(lost)}")
        return layout

    @cached_property
    def free(self) -> tuple[Cell, ...]:
        """All cells without a wall, the goal's too, row by row."""
        return tuple((r, c) for r, row in enumerate(self.rows) for c, mark in enumerate(row) if mark != "#")

    @cached_property
    def goal(self) -> Cell:
        """The cell marked `G`."""
        return next(cell for cell in self.free if self.rows[cell[0]][cell[1]] == "G")

    def is_wall(self, cell: Cell) -> bool:
        """Tell whether the cell is blocked."""
        return self.rows[cell[0]][cell[1]] == "#"

    @cached_property
    def targets(self) -> Mapping[Cell, Mapping[str, Cell]]:
        """Where each of the four moves leads from each free cell; walls leave it where it is."""
        ahead = {(r, c): {action: (r + dr, c + dc) for action, (dr, dc) in MOVES.items()} for r, c in self.free}
        return {
            cell: {action: cell if self.is_wall(target) else target for action, target in targets.items()}
            for cell, targets in ahead.items()
        }

    def move(self, cell: Cell, action: str) -> Cell:
        """Return where the action leads from the cell; unknown actions leave it where it is."""
        return self.targets[cell].get(action, cell)

    def distances(self, target: Cell, within: frozenset[Cell] | None = None) -> dict[Cell, int]:
        """Return the number of moves to the target from every cell that can reach it without leaving `within`."""
        distance, queue = {target: 0}, deque([target])
        while queue:
            cell = queue.popleft()
            for neighbour in self.targets[cell].values():
                if neighbour not in distance and (within is None or neighbour in within):
                    distance[neighbour] = distance[cell] + 1
                    queue.append(neighbour)
        return distance


def _check_drawing(rows: Sequence[str]) -> None:
    """Raise `ValueError` unless the rows are a closed rectangle of `#`, `.` and one `G`."""
    for r, row in enumerate(rows):
        if len(row) != len(rows[0]):
            raise ValueError(f"row {r} of the maze has {len(row)} cells, but row 0 has {len(rows[0])}")
        for c, mark in enumerate(row):
            if mark not in "#.G":
                raise ValueError(f"row {r}, column {c} of the maze is {mark!r}: only # (wall), . (free), G (goal)")
            if mark != "#" and (r in (0, len(rows) - 1) or c in (0, len(row) - 1)):
                raise ValueError(f"row {r}, column {c} of the maze is open: the border must be all walls")
    drawing = "".join(rows)
    if drawing.count("G") != 1:
        raise ValueError(f"a maze needs exactly one goal G, but this one has {drawing.count('G')}")
    if "." not in drawing:
        raise ValueError("a maze needs at least one free cell besides the goal")


def random_layout(
    *, rows: Annotated[int, Field(ge=3, le=999)], columns: Annotated[int, Field(ge=3, le=999)], seed: Count
) -> str:
    """Draw a random maze without loops (depth-first search), the same for the same seed.

    Raises:
        ValueError: a side is even or too small; walls stand on even coordinates, so sides are odd.
    """
    if rows < 3 or columns < 3 or rows % 2 == 0 or columns % 2 == 0 or rows + columns < 8:
        raise ValueError(f"a random maze needs odd sides of at least 3, and one of at least 5, got {rows} x {columns}")
    chance = random.Random(seed)
    grid = [["#"] * columns for _ in range(rows)]
    path = [(1 + 2 * chance.randrange(rows // 2), 1 + 2 * chance.randrange(columns // 2))]
    grid[path[0][0]][path[0][1]] = "."
    while path:
        r, c = path[-1]
        ahead = [(r + 2 * dr, c + 2 * dc) for dr, dc in MOVES.values()]
        closed = [(i, j) for i, j in ahead if 0 < i < rows and 0 < j < columns and grid[i][j] == "#"]
        if not closed:
            path.pop()
            continue
        i, j = chance.choice(closed)
        grid[i][j] = grid[(r + i) // 2][(c + j) // 2] = "."
        path.append((i, j))
    goal = chance.choice([(r, c) for r in range(rows) for c in range(columns) if grid[r][c] == "."])
    grid[goal[0]][goal[1]] = "G"
    return "/".join(map("".join, grid))
