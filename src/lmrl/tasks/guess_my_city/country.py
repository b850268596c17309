"""True answers about a city of Guess My City: its country, languages, religions and neighbours.

Every function takes a city and the meaning of a question, and returns the sentences that are equally good answers.
"""

import re

from lmrl.tasks.guess_my_city.cities import City, listed, plain
from lmrl.tasks.guess_my_city.location import Answers, either
from lmrl.tasks.guess_my_city.parser import Meaning
from lmrl.tasks.guess_my_city.places import belongs, places


def landlocked(city: City, meaning: Meaning) -> Answers:
    """Tell whether the country, or the city, has no coast."""
    if "country" in meaning.text:
        return either(not listed(city.land["coasts"]), "my country has no coast", "my country has a coast")
    return either(not city.seas, "it is located inland", "it is located on the coast")


def neighbours(city: City, meaning: Meaning) -> Answers:
    """Confirm or name neighbours of the country."""
    theirs = listed(city.derived["neighbours"])
    named = [name for kind, name in places(meaning.text) if kind == "country" and not belongs(city, kind, name)]
    if re.search(r"\bnear\b", meaning.text) and not named and theirs:
        return [f"My country has a border with {name}." for name in theirs[:3]]
    if meaning.is_closed and named:
        usual = {plain(name) for name in theirs} | ({"usa", "america"} if "United States" in theirs else set())
        holds = all(name in usual for name in named)
        return either(holds, "my country has a border with it", "my country has no border with it")
    if not theirs:
        return ["No, my country has no land borders."] if meaning.is_closed else ["My country has no land borders."]
    if meaning.is_closed:
        return ["Yes, my country has borders with other countries."]
    return [f"My country has a border with {name}." for name in theirs[:3]]


def government(city: City, meaning: Meaning) -> Answers:
    """Name the form of government."""
    names = {"communist": "communist state", "military": "state ruled by the army", "theocracy": "religious republic"}
    name = names.get(city.land["government"], city.land["government"])
    if not meaning.is_closed:
        return [f"My country is a {name}."]
    wanted = "monarchy" if "prime minister" in meaning.text else "republic"
    return [f"{'Yes' if city.land['government'] == wanted else 'No'}, my country is a {name}."]


_POWERS = {
    "brit": "Britain",
    "english": "Britain",
    "united kingdom": "Britain",
    "french": "France",
    "france": "France",
    "spain": "Spain",
    "spanish": "Spain",
    "portug": "Portugal",
    "dutch": "Netherlands",
    "netherland": "Netherlands",
    "belgi": "Belgium",
    "japan": "Japan",
    "united states": "United States",
    "russia": "Russia",
}


def ruled(city: City, meaning: Meaning) -> Answers:
    """Confirm or name the colonial powers."""
    asked = [power for word, power in _POWERS.items() if word in meaning.text and power != city.country]
    if asked:
        holds = any(power in city.rulers for power in asked)
        return either(holds, "my country was once ruled from there", "my country was not ruled from there")
    if meaning.is_closed:
        return either(bool(city.rulers), "it was once under foreign rule", "it was never a colony")
    if not city.rulers:
        return ["My country was never a colony."]
    return [f"My country was once ruled by {power}." for power in city.rulers]


def timezone(city: City, meaning: Meaning) -> Answers:
    """Tell the difference to universal time."""
    hours = float(city.derived["utc_offset"])
    said = "the time of Greenwich" if not hours else f"UTC{hours:+g}"
    if meaning.is_closed:
        same = not hours if re.search(r"greenwich|gmt|utc", meaning.text) else None
        return [f"My city has {said} in January."] if same is None else either(same, f"it has {said}", f"it has {said}")
    return [f"My city has {said} in January."]


_MAIN = {
    "Islam": ("islam", "muslim", "sunni"),
    "Shia Islam": ("islam", "muslim", "shia"),
    "Hinduism": ("hindu",),
    "Buddhism": ("buddh",),
    "Shinto": ("shinto",),
    "Taoism": ("tao",),
    "Christianity": ("christian",),
    "Roman Catholicism": ("catholic", "christian"),
    "Protestantism": ("protestant", "christian"),
    "Coptic Christianity": ("copt",),
}


def religion(city: City, meaning: Meaning) -> Answers:
    """Confirm a religion, or name the main one."""
    asked = re.findall(
        r"islam|muslim|sunni|shia|hindu|buddh|shinto|tao|christian|catholic|protestant|orthodox|copt|jud|jew",
        meaning.text,
    )
    first = city.religions[0]
    if meaning.is_closed and asked:
        words = {word for faith in city.religions for word in _MAIN.get(faith, plain(faith).split())}
        holds = any(any(word.startswith(part) or part.startswith(word) for word in words) for part in asked)
        return either(holds, "that religion is important in my city", f"the main religion in my city is {first}")
    if meaning.is_closed:
        return [f"Yes, the main religion in my city is {first}."]
    return [f"The main religion in my city is {first}.", f"Most believers in my city follow {first}."]


def language(city: City, meaning: Meaning) -> Answers:
    """Confirm a language, or name the main one."""
    main, text = city.languages[0], meaning.text
    names = {plain(name) for name in city.languages} | {word for name in city.languages for word in plain(name).split()}
    known = (
        r"arabic|chinese|mandarin|cantonese|english|french|spanish|portuguese|german|italian|russian|japanese|korean|"
    )
    known += (
        r"hindi|urdu|bengali|bangla|punjabi|tamil|telugu|kannada|marathi|gujarati|turkish|persian|farsi|indonesian|"
    )
    known += r"bahasa|javanese|sundanese|malay|thai|vietnamese|burmese|amharic|uzbek|ukrainian|romanian|hungarian|"
    known += r"filipino|tagalog|lingala|quechua|dutch|swahili|hebrew|greek|polish|hokkien|berber|kurdish"
    asked = re.findall(rf"\b(?:{known})\b", text)
    if meaning.is_closed and asked:
        holds = any({"bahasa": "indonesian"}.get(word, word) in names for word in asked)
        return either(holds, "people speak it in my city", f"the main language in my city is {main}")
    if meaning.is_closed and re.search(r"\b(?:more than one|multiple|several|many|two|different|dialect)", text):
        return either(len(city.languages) > 1, "people speak several languages", f"most people speak {main}")
    said = [f"The main language in my city is {main}.", f"People in my city speak {main}."]
    return [f"Yes, people in my city speak {main}."] if meaning.is_closed else said
