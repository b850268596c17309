"""Play a task in the terminal, or let its scripted players play it: `python -m lmrl.play task=wordle`."""

import argparse
import contextlib
import math
import secrets
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lmrl.config.compose import compose_task, guarded
from lmrl.system.signals import ended

_USAGE = """
  python -m lmrl.play task=wordle                              play an episode yourself
  python -m lmrl.play task=wordle --save my_games              and keep it as data
  python -m lmrl.play task=wordle --player expert              let the task's expert play the evaluation's episodes
  python -m lmrl.play task=wordle --player runs/wordle/...     let the trained policy of a run play
  python -m lmrl.play task=twenty_questions --player runs/... --partner human    and answer it yourself
  python -m lmrl.play task=maze task.env.layout=umaze          anything like key=value changes the configuration
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Play, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m lmrl.play", usage=_USAGE, description=__doc__)
    parser.add_argument("overrides", nargs="*", help="task=NAME and other configuration overrides")
    parser.add_argument(
        "--player",
        default="human",
        help="human (default), a name under task.players, or the folder of a finished run or of an exported policy",
    )
    parser.add_argument("--partner", choices=["human"], help="be the other side of the dialogue yourself")
    parser.add_argument("--episodes", type=int, help="how many; default: 1 with a person, else the whole evaluation")
    parser.add_argument("--seed", type=int, help="of the starts; default: a new one with a person, else 0")
    parser.add_argument("--save", type=Path, help="a new folder, for the finished episodes as a dataset")
    parser.add_argument("--config", type=Path, help="the configuration folder; default: conf")
    options = parser.parse_intermixed_args(arguments)
    return guarded(lambda: _play(compose_task(options.overrides, options.config), options))


def _play(task: Any, options: argparse.Namespace) -> None:
    """Play the episodes, sum them up and store them.

    Raises:
        ValueError: an option is impossible.
        FileExistsError: there is something where the episodes should be stored.
    """
    from hydra.utils import instantiate

    from lmrl.evaluation import evaluation_starts
    from lmrl.play.person import HINT
    from lmrl.rollout import rollout

    if options.save is not None and options.save.exists():
        raise FileExistsError(f"{options.save} exists already: delete it first, or choose another folder")
    is_person = options.player == "human"
    is_watched = is_person or options.partner is not None
    (policy, memory), make_env = _player(task, options.player), instantiate(task.env)
    make_env = make_env if options.partner is None else _answered_by_a_person(task, make_env)
    make_env = _watched(make_env, policy) if is_person else make_env
    seed, limit = _extent(options, is_watched)
    starts = evaluation_starts(make_env, task.evaluation.repeats, seed, stream="play", limit=limit)
    if is_watched:
        _explain(task, HINT if is_person else "")
    finished: dict[int, Any] = {}

    def keep(index: int, episode: Any) -> None:
        finished[index] = episode
        if is_watched:
            _tell_end(episode)

    try:
        slots = 1 if is_watched else 64  # a person plays one at a time; players answer for many episodes at once
        rollout(make_env, policy, starts, memory=memory, slots=slots, on_episode=keep)
    except (EOFError, KeyboardInterrupt):
        print("\nstopped: the unfinished episode does not count")
    if finished:
        episodes = {index: finished[index] for index in sorted(finished)}
        _sum_up(task, options.player, [starts[index] for index in episodes], list(episodes.values()))
        if options.save is not None:
            _save(task, options, seed, list(episodes.values()))


def _extent(options: argparse.Namespace, is_watched: bool) -> tuple[int, int | None]:
    """Return the seed of the starts and how many are played: with a person one new one, otherwise all."""
    seed, limit = (secrets.randbelow(2**31), 1) if is_watched else (0, None)
    return (
        seed if options.seed is None else options.seed,
        limit if options.episodes is None else options.episodes,
    )


def _player(task: Any, name: str) -> tuple[Any, int | None]:
    """Build the player, and tell how many earlier turns it reads.

    Raises:
        ValueError: the task knows no player of that name, or the policy is of another task.
        FileNotFoundError: the folder has no trained policy.
    """
    from hydra.utils import instantiate

    from lmrl.play.person import Person

    if name == "human":
        _edit_lines()
        return Person(), None  # a person sees the whole episode
    players = task.get("players") or {}
    if name in players:
        return instantiate(players[name]), task.memory
    if not Path(name).is_dir():
        known = ", ".join(["human", *players])
        raise ValueError(
            f"--player {name}: the task {task.name} has {known}; or pass the folder of a run or of an exported policy"
        )
    trained_for, memory, policy = _trained(Path(name))
    if trained_for != task.name:
        raise ValueError(f"--player {name}: this policy was trained for {trained_for}, not for {task.name}")
    return policy, memory


def _edit_lines() -> None:
    """Let the terminal's line editor handle arrow keys and earlier lines, where Python has one."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - `input` uses it once it is imported


def _watched(make_env: Callable[[], Any], person: Any) -> Callable[[], Any]:
    """Return how to build environments that the person who plays in them may look at."""
    return lambda: person.watch(make_env())


def _trained(folder: Path) -> tuple[str, int | None, Any]:
    """Return the task, the memory and the policy of an exported policy, or of a run.

    Raises:
        FileNotFoundError: the folder has no trained policy.
        ValueError: a file of the policy is damaged.
    """
    from lmrl.experiment.reload import trained_policy
    from lmrl.exported import PLAYER, load_exported
    from lmrl.runs.recorded import run_config

    if (folder / PLAYER).is_file():
        exported = load_exported(folder)
        return exported.task, exported.memory, exported.policy
    cfg = run_config(folder)
    return cfg.task.name, cfg.task.memory, trained_policy(folder)


def _answered_by_a_person(task: Any, make_env: Callable[[], Any]) -> Callable[[], Any]:
    """Return how to build environments whose partner is the person at the terminal.

    Raises:
        ValueError: the task has no partner whom a person could play.
    """
    from lmrl.play.person import Person

    if not task.get("partner_rules"):
        raise ValueError(f"--partner human: the task {task.name} has no partner whom a person could play")
    _edit_lines()
    print(f"{task.partner_rules.strip()}\n")

    def build() -> Any:
        env = make_env()
        env.partner = Person(is_partner=True)
        return env

    return build


def _explain(task: Any, hint: str) -> None:
    """Print the rules, as a prompted model is told them, and how to type."""
    if task.get("prompt"):
        print(f"{task.prompt.rules.strip()}\n{task.prompt.get('actions', '')}")
    print(f"{hint}\n")


def _tell_end(episode: Any) -> None:
    """Print the end of an episode for a person."""
    from lmrl.play.person import earned, secrets

    last = episode.turns[-1]
    said = "" if last.is_action else last.text.rstrip("\n") + "\n"
    reward = next(turn.reward for turn in reversed(episode.turns) if turn.is_action)
    result = "success" if episode.info.get("success") else "no success" if episode.terminated else "time is up"
    print(f"{said}{earned(reward, episode.total_reward, episode.info)}\n{secrets(episode.info)}", end="")
    print(f"{result}: return {episode.total_reward:g} after {episode.length} actions")


def _sum_up(task: Any, player: str, starts: Sequence[Any], episodes: Sequence[Any]) -> None:
    """Print the result of all episodes, with score and interval."""
    from lmrl.evaluation import summarize
    from lmrl.scores import Anchors

    numbers = summarize(episodes, Anchors.of_task(task), starts=starts)
    low, high = numbers["return_ci95"]
    interval = f" ({low:.3f} to {high:.3f})" if math.isfinite(low) else ""
    score = "" if numbers["score"] is None else f", score {numbers['score']:.1f}"
    score += "" if numbers["own_score"] is None else f" (by own constants {numbers['own_score']:.1f})"
    plural = "episode" if len(episodes) == 1 else "episodes"
    print(
        f"{task.name}, {player}, {len(episodes):,} {plural}: "
        f"return {numbers['return_mean']:.3f}{interval}{score}, "
        f"success {100 * numbers['success_rate']:.1f} %, invalid actions {100 * numbers['invalid_action_rate']:.1f} %, "
        f"{numbers['turns_mean']:.2f} actions per episode"
    )


def _save(task: Any, options: argparse.Namespace, seed: int, episodes: Sequence[Any]) -> None:
    """Store the episodes as a dataset of the task."""
    from hydra.utils import instantiate

    from lmrl.data import store

    env = instantiate(task.env)()
    settings = dict(getattr(env, "settings", {}))
    recipe = {"player": options.player, "seed": seed, "episodes": len(episodes), "env": settings}
    store.save(episodes, options.save, task=task.name, policy=options.player, env_version=env.version, recipe=recipe)
    print(f"saved as data: task.dataset.folder={options.save}")


if __name__ == "__main__":
    sys.exit(ended(main))
