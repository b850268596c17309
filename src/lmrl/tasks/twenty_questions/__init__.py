"""Twenty Questions: find a hidden object by questions."""

GYMNASIUM_IDS = {"lmrl/TwentyQuestions-v0": ("TwentyQuestions", {})}
