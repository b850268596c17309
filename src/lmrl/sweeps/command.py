"""The command line of a sweep, as Hydra can take it."""

from collections.abc import Sequence


def defer(arguments: Sequence[str]) -> list[str]:
    """Return the arguments so that values inside a varied group are set in each job: `algo=bc,ilql algo.steps=100`.

    Hydra applies every fixed value before there are jobs, when a varied group does not exist yet, and then complains
    that it has no such key. A list of one value waits for the jobs.

    Args:
        arguments: the command's arguments, without the program's name.
    """
    if not any(sign in argument for argument in arguments for sign in ",("):
        return list(arguments)  # nothing is varied
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser, varied = OverridesParser.create(), {}
    for argument in arguments:
        try:
            varied[argument] = not argument.startswith("-") and parser.parse_override(argument).is_sweep_override()
        except HydraException:
            varied[argument] = False  # Hydra itself reports the mistake
    groups = {argument.lstrip("+").split("=")[0] for argument, is_varied in varied.items() if is_varied}

    def deferred(argument: str) -> str:
        key, _, value = argument.partition("=")
        inside = key.lstrip("+").replace("/", ".").split(".")
        is_fixed = bool(value) and not varied[argument] and not argument.startswith(("-", "~"))
        return f"{key}=choice({value})" if is_fixed and len(inside) > 1 and inside[0] in groups else argument

    return [deferred(argument) for argument in arguments]
