"""The mazes, fully and partially observed."""

GYMNASIUM_IDS = {"lmrl/Maze-v0": ("Maze", {}), "lmrl/MazePO-v0": ("Maze", {"describe": "walls"})}
