"""The repertoire of the scripted players of Guess My City: questions in a few wordings each, and guesses."""

from lmrl.tasks.guess_my_city.cities import cities, themes

_OPEN = (
    ("Which continent is your city on?", "What continent do you live on?"),
    ("What language do people speak in your city?", "What is the main language in your city?"),
    ("What is the climate like in your city?", "How is the weather in your city?"),
    ("What is the population of your city?", "How many people live in your city?"),
    ("What is the main religion in your city?", "Which religion do most people follow?"),
    ("What is a typical dish of your city?", "What do people eat in your city?"),
    ("What is a famous landmark in your city?", "What are the famous landmarks of your city?"),
    ("What is your city known for?", "What is your city famous for?"),
    ("What is the main industry in your city?", "What are the important industries in your city?"),
    ("What festivals do you celebrate in your city?", "What is an important festival in your city?"),
    ("What sport is popular in your city?", "What sports do people like in your city?"),
    ("What currency do you use in your city?", "Which currency do people pay with?"),
    ("How old is your city?", "When was your city founded?"),
    ("How high above sea level is your city?", "What is the elevation of your city?"),
    ("Which part of the country is your city in?", "In what part of your country is your city?"),
    ("Is your city the largest in the country?", "Is it the largest city of its country?"),
    ("What is the name of your city?", "Which city are you from?"),
)
_CLOSED = (
    ("Is your city the capital of its country?", "Is it the capital city?"),
    ("Is your city the capital of a province?", "Is it a provincial capital?"),
    ("Is your city on the coast?", "Is your city located by the sea?"),
    ("Is your city on an island?", "Is it located on an island?"),
    ("Is there a river in your city?", "Does a river flow through your city?"),
    ("Is there a lake near your city?", "Does your city have a lake?"),
    ("Are there mountains near your city?", "Is your city close to mountains?"),
    ("Is your city at a high altitude?", "Is it located at high altitude?"),
    ("Is your city in the northern hemisphere?", "Is it in the northern hemisphere?"),
    ("Does it snow in winter?", "Do you get snow in winter?"),
    ("Was your country a colony?", "Was it ever a colony?"),
    ("Did your city have another name in the past?", "Was your city renamed?"),
    ("Was your city the capital of an empire?", "Was your city ever an ancient capital?"),
)
_REGIONS = (
    *("Asia", "Europe", "Africa", "North America", "South America", "Oceania", "East Asia", "South Asia"),
    *("Southeast Asia", "the Middle East", "Eastern Europe", "Western Europe", "North Africa", "Latin America"),
)
_PARTS = ("north", "south", "east", "west", "centre")
_SEAS = ("Pacific Ocean", "Atlantic Ocean", "Yellow Sea", "Mediterranean Sea", "Java Sea", "Arabian Sea")
_PLACES = ("Yangtze River", "Nile", "Andes")
_ISLANDS = ("Java", "Honshu")
_THEMES = (
    *(
        "nightlife",
        "skyscrapers",
        "beaches",
        "street_art",
        "film",
        "technology",
        "textiles",
        "cars",
        "seafood",
        "temples",
    ),
    *("palaces", "castles", "bridges", "springs", "coffee", "tea", "beer", "spicy", "opera", "fashion", "universities"),
    *(
        "football",
        "cricket",
        "baseball",
        "harbour",
        "pollution",
        "oil",
        "steel",
        "gardens",
        "silk",
        "shopping",
        "walls",
    ),
)


def _countries() -> tuple[str, ...]:
    """Return the countries that questions name, with the article where they have one."""
    names = dict.fromkeys(city.country for city in cities() if city.country != city.name)
    article = {"USA": "the USA", "UK": "the UK", "Philippines": "the Philippines"}
    return tuple(article.get(name, name) for name in names)


def _questions() -> dict[str, list[tuple[str, ...]]]:
    """Return all questions by group, each with its wordings."""
    groups: dict[str, list[tuple[str, ...]]] = {"open": list(_OPEN), "closed": list(_CLOSED)}
    groups["where"] = [(f"Is your city located in {name}?", f"Are you from {name}?") for name in _REGIONS]
    groups["country"] = [(f"Is your city located in {name}?", f"Are you from {name}?") for name in _countries()]
    parts = [
        (f"Is it in the {part} of the country?", f"Is your city in the {part} of your country?") for part in _PARTS
    ]
    seas = [(f"Is your city on the coast of the {sea}?", f"Is it on the {sea}?") for sea in _SEAS]
    near = [(f"Is your city located on the {name}?", f"Is it near the {name}?") for name in _PLACES]
    islands = [(f"Is your city on the island of {name}?", f"Is it on the island of {name}?") for name in _ISLANDS]
    groups["near"] = [*parts, *seas, *near, *islands]
    phrases = [themes()[name].phrase for name in _THEMES]
    groups["theme"] = [(f"Is your city known for {phrase}?", f"Is it famous for {phrase}?") for phrase in phrases]
    return groups


_SHARES = {"open": 0.4, "closed": 0.15, "where": 0.1, "country": 0.08, "near": 0.07, "theme": 0.2}
"""How often people ask questions of each group."""
SENTENCES: tuple[tuple[str, ...], ...] = tuple(
    tuple(f"{text}\n" for text in wordings) for group in _questions().values() for wordings in group
)
"""Every question that a player may ask, as its wordings."""
SHARES: tuple[float, ...] = tuple(_SHARES[name] / len(group) for name, group in _questions().items() for _ in group)
"""How often people ask each of them; the shares add up to 1."""
GUESSES: tuple[tuple[str, ...], ...] = tuple(
    (f"Is it {city.name}?\n", f"Is the city you are from {city.name}?\n") for city in cities()
)
"""For each city, in the order of the table, the wordings that propose it."""
