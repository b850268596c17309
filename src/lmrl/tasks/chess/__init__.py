"""Chess and its end games against Stockfish."""

GYMNASIUM_IDS = {
    "lmrl/Chess-v0": ("Chess", {}),
    "lmrl/Endgames-v0": ("Chess", {"positions": ["kQK", "kQRK", "kRK", "kRRK"]}),
}
