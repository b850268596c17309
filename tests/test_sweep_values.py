"""What a grid may be made of."""

from types import SimpleNamespace
from typing import Any

import pytest
from hydra.errors import HydraException

from hydra_plugins.lmrl_sweeps import GridSweeper


def test_a_grid_cannot_contain_an_interval() -> None:
    sweeper: Any = GridSweeper()
    sweeper.hydra_context = SimpleNamespace(config_loader=None)
    assert sweeper._combinations(["a=1,2", "b=x"]) == [["a=1", "b=x"], ["a=2", "b=x"]]
    with pytest.raises(
        HydraException, match=r"^a: a grid cannot contain an interval: list values, or use sweeps=search$"
    ):
        sweeper._combinations(["a=interval(0,1)"])
