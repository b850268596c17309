"""The data that a method can learn from: its class declares them, and the settings of its data are checked against it.

Nothing here needs PyTorch, so that mistakes are reported before it is imported.
"""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from lmrl.config.signatures import declared, signature_of


class DataNeeds:
    """A method's declarations about its data; by default it learns from any episodes."""

    is_on_policy: ClassVar[bool] = False
    """Whether it learns only from all episodes that its policy has just played: no fixed data, no replay, no filter."""
    needs_groups: ClassVar[bool] = False
    """Whether it compares the `group` episodes of a start, so that the data must have as many of each."""
    needs_episodes: ClassVar[bool] = True
    """Whether it learns from the returns of episodes, and not from single turns that a filter selects."""
    batches_by: ClassVar[str | None] = None
    """Name of the extra whose rows a batch must hold together, such as the `pair` of two compared episodes."""


def unlearnable(config: Any, key: str = "") -> Iterator[str]:
    """Yield the data settings that the methods of a configuration cannot learn from, in all stages.

    Args:
        config: plain dictionaries and values.
        key: where `config` stands in the whole.
    """
    if not isinstance(config, Mapping):
        return
    module, data = config.get("module"), config.get("datamodule")
    if isinstance(module, Mapping) and isinstance(data, Mapping) and signature_of(str(module.get("_target_"))):
        yield from data_faults(_declared(str(module["_target_"])), module, data, key)
    for name, part in config.items():
        yield from unlearnable(part, f"{key}.{name}" if key else str(name))


def data_faults(
    needs: type[DataNeeds], module: Mapping[str, Any], data: Mapping[str, Any], key: str = "algo"
) -> Iterator[str]:
    """Yield the data settings that a method cannot learn from, each in one sentence.

    Args:
        needs: the method's class, or one that declares the same under the same name.
        module: the method's settings.
        data: the settings of its data module.
        key: where the stage stands in the configuration.
    """
    name, place = needs.__name__, f"{key}.datamodule"
    if needs.is_on_policy:
        yield from _off_policy(name, data, place)
        yield from _imitated(name, module, data, key)
    if needs.needs_groups and data.get("group", 1) != module.get("group"):
        yield (
            f"{place}.group={data.get('group', 1)}: {name} compares the {module.get('group')} episodes of a start "
            f"({key}.module.group), and the data must have as many of each; set both to the same number"
        )
    rollouts, group = data.get("rollouts"), data.get("group")
    if isinstance(rollouts, int) and isinstance(group, int) and group > 0 and rollouts % group:
        yield f"{place}.group={group} must divide {place}.rollouts={rollouts}, so that no group is incomplete"
    if needs.batches_by and data.get("group_by") != needs.batches_by:
        yield (
            f"{place}.group_by={data.get('group_by')}: {name} compares rows of one {needs.batches_by}, so a batch must "
            f"hold all of them; use lmrl.datamodules.grouped.GroupedDataModule with group_by={needs.batches_by}"
        )
    chosen = data.get("filter")
    target = str(chosen.get("_target_")) if isinstance(chosen, Mapping) else ""
    if needs.needs_episodes and declared(target, "takes_turns"):
        yield (
            f"{place}.filter={target}: it selects single turns, but {name} learns from the "
            f"returns of whole episodes; set {place}.filter=null, or use another filter"
        )


def _off_policy(name: str, data: Mapping[str, Any], place: str) -> Iterator[str]:
    """Yield settings that add other episodes than the newest round, or drop some of it."""
    why = f"{name} learns only from all episodes that its policy has just played"
    if "rollouts" not in data:
        yield f"{place}._target_={data.get('_target_')}: {why}; use lmrl.datamodules.online.OnlineDataModule"
    if data.get("capacity") is not None:
        yield f"{place}.capacity={data['capacity']}: {why}, not from older rounds; set {place}.capacity=null"
    if data.get("filter") is not None:
        yield (
            f"{place}.filter: {why}, and compares the good ones with the bad ones; set {place}.filter=null "
            "(algo=online_filtered_bc imitates the best episodes)"
        )


def _imitated(name: str, module: Mapping[str, Any], data: Mapping[str, Any], key: str) -> Iterator[str]:
    """Yield demonstrations without imitation, and imitation without demonstrations."""
    count, weight = data.get("demonstrations") or 0, module.get("imitation_weight")
    if count and not weight:
        instead = "" if weight is None else f", or {key}.module.imitation_weight above 0"
        yield (
            f"{key}.datamodule.demonstrations={count}: {name} does not imitate, and its policy has not played these "
            f"episodes; set {key}.datamodule.demonstrations=0{instead}"
        )
    if weight and not count:
        yield (
            f"{key}.module.imitation_weight={weight}: there is nothing to imitate; set {key}.datamodule.demonstrations "
            "above 0"
        )


def _declared(target: str) -> type[DataNeeds]:
    """Return a class with the declarations of a class of this dotted name, read from its source."""
    names = [name for name in vars(DataNeeds) if not name.startswith("_")]
    found = {name: value for name in names if (value := declared(target, name)) is not None}
    return type(target.rpartition(".")[2], (DataNeeds,), found)
