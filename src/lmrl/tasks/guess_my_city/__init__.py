"""Guess My City: find the city in which somebody lives, by questions."""

GYMNASIUM_IDS = {
    "lmrl/GuessMyCity-v0": ("GuessMyCity", {}),
    "lmrl/GuessMyCityYesNo-v0": ("GuessMyCity", {"yes_no_only": True}),
}
