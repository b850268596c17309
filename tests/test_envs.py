"""What every environment must keep to, whatever its task."""

import math
import subprocess
import sys
import warnings

import gymnasium
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lmrl.envs
from lmrl.envs.core import PRINTABLE, TextEnv

STEPS = 30


@pytest.fixture(params=lmrl.envs.ENV_IDS)
def env(request: pytest.FixtureRequest) -> TextEnv:
    try:
        made = gymnasium.make(request.param).unwrapped
    except ImportError as error:
        pytest.skip(f"{request.param} needs an extra: {error}")
    assert isinstance(made, TextEnv)
    return made


def play(env: TextEnv, seed: int, options: dict | None = None) -> list[tuple]:
    """Play the same foolish actions each time, and return all that the environment said."""
    observation, info = env.reset(seed=seed, options=options)
    said: list[tuple] = [(observation, info)]
    for index in range(STEPS):
        legal = env.legal_actions()
        action = legal[(7 * index + index // 4) % len(legal)] if legal else "a\n"
        said.append(env.step(action))
        if said[-1][2] or said[-1][3]:
            break
    return said


def test_some_ids_are_registered() -> None:
    assert {"lmrl/Maze-v0", "lmrl/MazePO-v0"} <= set(lmrl.envs.ENV_IDS)
    assert set(lmrl.envs.ENV_IDS) <= set(gymnasium.registry)


def test_registering_again_is_harmless(recwarn: pytest.WarningsRecorder) -> None:
    assert lmrl.envs.register_all() == list(lmrl.envs.ENV_IDS)
    assert not recwarn.list


def test_registering_imports_no_game() -> None:
    code = "import re, sys, lmrl.envs; sys.exit(any(re.match(r'lmrl.tasks.\\w+\\.', name) for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_gymnasium_finds_nothing_wrong(env: TextEnv) -> None:
    env.action_space.seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # These are no faults of an environment: it is checked bare on purpose, and it has nothing to draw.
        warnings.filterwarnings("ignore", message=".*different from the unwrapped version.*")
        warnings.filterwarnings("ignore", message=".*[Rr]ender.*")
        check_env(env, skip_render_check=True)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.text("0123456789.,$%- kxabyemonprct?!'\n", max_size=80) | st.text(max_size=60), min_size=1, max_size=4)
)
def test_no_text_breaks_a_game(env: TextEnv, said: list[str]) -> None:
    env.reset(seed=1)
    for text in said:
        _, reward, terminated, truncated, _ = env.step(text)
        assert math.isfinite(reward)
        if terminated or truncated:
            break


def test_same_seed_same_episode(env: TextEnv) -> None:
    assert play(env, seed=5) == play(env, seed=5)


def test_seed_zero_is_a_seed(env: TextEnv) -> None:
    first = [play(env, seed=0) for _ in range(2)]
    assert first[0] == first[1]


def test_steps_are_five_tuples_with_facts(env: TextEnv) -> None:
    for observation, reward, terminated, truncated, info in play(env, seed=1)[1:]:
        assert isinstance(observation, str)
        assert set(observation) <= set(PRINTABLE)
        assert isinstance(reward, float)
        assert isinstance(terminated, bool)
        assert isinstance(truncated, bool)
        assert not (terminated and truncated)
        assert isinstance(info, dict)
        for name in {"success", "is_invalid"} & set(info):
            assert isinstance(info[name], bool)


def test_every_evaluation_start_is_playable(env: TextEnv) -> None:
    starts = env.evaluation_starts()
    assert len(starts) >= 1
    for options in [*starts[:40], *starts[-3:]]:
        copy = dict(options)
        observation, _ = env.reset(seed=3, options=copy)
        assert observation
        assert copy == dict(options), "reset must not change its options"


def test_environments_do_not_share_randomness(env: TextEnv) -> None:
    other = gymnasium.make(env.spec.id).unwrapped  # type: ignore[union-attr]
    assert isinstance(other, TextEnv)
    alone = play(env, seed=11)
    env.reset(seed=11)
    other.reset(seed=99)
    play(other, seed=99)
    assert play(env, seed=11) == alone


def test_version_is_text(env: TextEnv) -> None:
    assert isinstance(env.version, str)
    assert env.version


def test_episode_ends_are_reported_once(env: TextEnv) -> None:
    """An unknown action forever must not make an endless episode."""
    env.reset(seed=2)
    for _ in range(1000):
        _, _, terminated, truncated, _ = env.step("no such action at all\n")
        if terminated or truncated:
            return
    pytest.fail("1000 invalid actions did not end the episode")
