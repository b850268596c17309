"""Random numbers that depend on nothing but who asks: the episode's seed and the turn."""

import numpy as np
from jaxtyping import Float64

_WORD = 2**64 - 1


class Uniforms:
    """Uniform numbers from a counter-based generator (Philox) whose key is an episode's seed and a turn.

    The t-th number of a turn is a pure function of (seed, turn, t), so a policy that draws one number per token gives
    the same episode whatever else is played beside it.
    """

    def __init__(self) -> None:
        self._bits = np.random.Philox(key=0)
        self._generator = np.random.Generator(self._bits)
        self._state = self._bits.state
        self._key: np.ndarray = self._state["state"]["key"]
        self._counter: np.ndarray = self._state["state"]["counter"]

    def draw(self, seed: int, turn: int, count: int) -> Float64[np.ndarray, " count"]:
        """Return the first `count` numbers of a turn, each in [0, 1)."""
        # Setting the state of one generator is five times cheaper than making a new one for each request.
        self._key[:] = (seed & _WORD, turn & _WORD)
        self._counter[:] = 0
        self._state["buffer_pos"] = 4
        self._bits.state = self._state
        return self._generator.random(count)
