"""Wordle: guess a word of five letters from coloured feedback."""

GYMNASIUM_IDS = {"lmrl/Wordle-v0": ("Wordle", {}), "lmrl/WordleOfficial-v0": ("Wordle", {"feedback": "official"})}
