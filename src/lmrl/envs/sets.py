"""Sets of indices as the bits of an integer: fast intersections of candidates in guessing games."""


def members(bits: int) -> list[int]:
    """Return the indices in a set, in order."""
    return [index for index, bit in enumerate(bin(bits)[:1:-1]) if bit == "1"]


def member(bits: int, rank: int) -> int:
    """Return the index that has `rank` smaller ones in the set."""
    for _ in range(rank):
        bits &= bits - 1
    return (bits & -bits).bit_length() - 1
