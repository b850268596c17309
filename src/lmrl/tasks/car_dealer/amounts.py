"""The amounts of money and the percentages in a car dealer's utterances, and their roles."""

import re
from dataclasses import dataclass

_CONTRACTIONS = (
    (re.compile(r"\bca ?n[o']?t\b|\bcannot\b"), "can not"),
    (re.compile(r"\bwo n?'t\b|\bwon'?t\b"), "will not"),
    (re.compile(r"\b(do|does|did|is|are|was|has|have|could|would|should)n'?t\b"), r"\1 not"),
    (re.compile(r"'re\b"), " are"),
    (re.compile(r"'ll\b"), " will"),
    (re.compile(r"'d\b"), " would"),
    (re.compile(r"'ve\b"), " have"),
    (re.compile(r"\bi'?m\b"), "i am"),
    (re.compile(r"\blet'?s\b"), "let us"),
    (re.compile(r"\b(it|that|there|what|how|here|who|where)'s\b"), r"\1 is"),
)
_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_DIGITS = {word: number for number, word in enumerate(_ONES.split())}
_DIGITS |= {word: 10 * number for number, word in enumerate(_TENS.split(), start=2)}
_NUMBER_WORD = "|".join(sorted(_DIGITS, key=len, reverse=True))
_SPELLED = re.compile(
    rf"\b(?:{_NUMBER_WORD})(?:[ -](?:and )?(?:{_NUMBER_WORD}|hundred|thousand|grand))*\b"
    r"(?P<money>(?= (?:dollars|bucks|percent|per cent|k)\b|%))?"
)
_NOT_MONEY = (
    r"(?!\s*(?:-| )?(?:miles?|mi|km|kilomet|mpg|years?|yrs?|months?|days?|hours?|horse ?power|hp|people|seats?|door|cyl"
    r"|liters?|l\b|inch|watts?|customers?|stars?|model|st\b|nd\b|rd\b|th\b|k? miles|am\b|pm\b|o'?clock))"
)
_MONEY = re.compile(
    r"(?<![\w.,])(?P<sign>\$ ?|usd ?)?(?P<number>\d{1,3}(?:,\d{3})+(?![\d,]\d)|\d+(?:\.\d+)?)"
    rf"(?:\s?(?P<unit>k\b|thousand\b|grand\b))?(?:\s?(?P<word>dollars\b|bucks\b|usd\b|\$))?{_NOT_MONEY}"
)
_PERCENT = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s?(?:%|percent\b|per cent\b)")
_MARK = re.compile(r"x(?=(?:money|percent)\d)")
_MOST = 1_000_000_000
"""Nobody means a higher amount, and a float ends somewhere."""
_LEAST_BARE = 1000
"""A number without any word of money is a price only from here on, and if it is no year."""
_OFF_BEHIND = (
    r"(?: of| in| worth of)?(?: price| a)? (?:off|discount|rebate|cash ?back|back|less|cheaper|lower|reduction)\b"
)
_OFF_BEFORE = (
    r"(?:\bby|\bsave|\bsaves|\bsaving|\b(?:knock|shave|take|cut|slash|trim)(?: off| down)?"
    r"|\b(?:discount|rebate|reduction|savings) (?:of|is)|\b(?:come|coming|go) down|\banother|\badditional|\bextra"
    r"|\bfurther)(?: (?:another|about|up to|an?|extra|around|you|maybe))* "
)
_OLD = r"(?:\binstead of|\bfrom|\bwas|\bwere|\bnormally|\busually|\boriginally|\bused to be|\brather than)(?: at)? "
_MEET = re.compile(
    r"\b(?:match|meet|hit|work with(?:in)?|sell it within|get you within|down to|fit|within|inside)\b.*\bbudget\b"
)


@dataclass(frozen=True, slots=True)
class Amounts:
    """The amounts of one utterance; `None`: not mentioned."""

    price: int | None = None
    """Dollars that the car costs."""
    off_dollars: int | None = None
    """Dollars that are taken off."""
    off_percent: float | None = None
    over_percent: float | None = None
    """Percent above the list price; 0 if the car goes for the list price."""
    is_further: bool = False
    """The discount is added to earlier ones."""
    is_off_list: bool = False
    """The discount is off the list price, not off the last price."""
    meets_budget: bool = False
    """The price is the buyer's budget, whose amount is not mentioned."""


def normalised(text: str) -> str:
    """Return a text in small letters, with single spaces, no contractions, and numbers in digits."""
    text = " ".join(text.lower().replace("\u2019", "'").replace("\u2018", "'").split())
    for pattern, full in _CONTRACTIONS:
        text = pattern.sub(full, text)
    return _SPELLED.sub(_in_digits, text)


def _in_digits(match: re.Match[str]) -> str:
    """Return a spelled number in digits if it is an amount; `one` alone is mostly a car."""
    is_amount = match["money"] is not None or re.search(r"thousand|grand", match[0])
    return str(_value(match[0])) if is_amount else match[0]


def _value(words: str) -> int:
    """Return a number that was spelled out: `twenty eight thousand`."""
    total = part = 0
    for word in re.split(r"[ -]", words):
        if word in ("thousand", "grand"):
            total, part = total + max(part, 1) * 1000, 0
        elif word in ("hundred",):
            part = max(part, 1) * 100
        elif word in _DIGITS:
            part += _DIGITS[word]
    return total + part


def read_amounts(text: str) -> tuple[Amounts, str]:
    """Return the amounts of a normalised text, and the text with `xmoney` and `xpercent` instead of amounts."""
    values: list[float] = []
    text = _MARK.sub("x ", text)  # Nobody may write a mark himself.

    def percent(match: re.Match[str]) -> str:
        values.append(min(float(match["number"]), _MOST))
        return f"xpercent{len(values) - 1}_"

    def money(match: re.Match[str]) -> str:
        value = _dollars(match)
        if value is None:
            return match[0]
        values.append(value)
        return f"xmoney{len(values) - 1}_"

    marked = _MONEY.sub(money, _PERCENT.sub(percent, text))
    said: dict[str, float] = {}
    for match in re.finditer(r"x(money|percent)(\d+)_", marked):
        role = _money_role(marked, match[0]) if match[1] == "money" else _percent_role(marked, match[0])
        said[role] = values[int(match[2])]
    amounts = Amounts(
        price=_whole(said.get("price")),
        off_dollars=_whole(said.get("off_dollars")),
        off_percent=said.get("off_percent"),
        over_percent=said.get("over_percent", 0.0 if _is_list_price(marked) and not said else None),
        is_further=bool(re.search(r"\b(?:another|additional|extra|further|more|on top of that)\b", marked)),
        is_off_list=bool(re.search(r"\b(?:list|sticker|msrp)\b", marked)),
        meets_budget=bool(_MEET.search(marked)) and "price" not in said and "?" not in marked,
    )
    return amounts, re.sub(r"(xmoney|xpercent)\d+_", r"\1", marked)


def _dollars(match: re.Match[str]) -> int | None:
    """Return how many dollars an amount is; `None` if it is something else."""
    digits = match["number"].replace(",", "")
    value = min(float(digits) * (1000 if match["unit"] else 1), _MOST)
    if match["sign"] or match["unit"] or match["word"]:
        is_rate = re.match(
            r" ?(?:/|per|a|each|every)? ?(?:mo\b|months?|monthly|weeks?|weekly)", match.string[match.end() :]
        )
        return None if is_rate else round(value)
    is_year = "," not in match["number"] and 1950 <= value <= 2035
    return None if value < _LEAST_BARE or is_year else round(value)


def _money_role(text: str, token: str) -> str:
    """Return the role of a marked amount of dollars."""
    if re.search(rf"\b{token}{_OFF_BEHIND}", text) or re.search(rf"{_OFF_BEFORE}{token}\b", text):
        return "off_dollars"
    if re.search(rf"{_OLD}{token}\b", text):
        return "old"
    if re.search(rf"\bbudget (?:of |is |was |at )?(?:about |around |only )?{token}\b|\b{token} budget\b", text):
        return "price" if _MEET.search(text) else "budget"
    return "price"


def _percent_role(text: str, token: str) -> str:
    """Return the role of a marked percentage."""
    if re.search(rf"\b{token} (?:over|above|on top|more than|premium|mark-?up|higher)", text):
        return "over_percent"
    if re.search(rf"\b{token} (?:apr|interest|financ|down\b|of (?:our|the|my))", text):
        return "rate"
    taken = r"\b(?:off|discount|reduc|lower|drop|less|take|knock|save|cut|cheaper|down|rebate)"
    return "off_percent" if re.search(taken, text) else "rate"


def _is_list_price(text: str) -> bool:
    """Whether the car is offered at its list price."""
    told = r"(?:is|pay|at|for|be) (?:simply |just |exactly )?(?:the |its |our )?(?:full )?(?:list|sticker) price\b"
    return bool(re.search(told, text)) and "?" not in text


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)
