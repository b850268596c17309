"""The hundred cities of Guess My City, and the facts about them.

Four tables lie beside this file. `geonames.csv` is derived from GeoNames (geonames.org, Creative Commons
Attribution 4.0) by `scripts/facts.py`; the others are curated by hand. Lists are separated by semicolons.
"""

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from functools import cache, cached_property

from lmrl.envs.tables import rows

UNIVERSAL = frozenset(
    {"parks", "markets", "shopping", "cuisine", "museums", "universities", "medicine", "music", "lively", "traditions"}
    | {"hospitality", "architecture", "business", "sports", "crafts", "art", "towers", "nature", "transit", "theatre"}
)
"""Themes that every large city has, whether or not it is known for them."""
LARGE = 2_000_000
"""Inhabitants from which on a city has the themes of every large city."""
KIND_THEMES = {
    "palace": "palaces",
    "castle": "castles",
    "fortress": "forts",
    "temple": "temples",
    "shrine": "temples",
    "pagoda": "pagodas",
    "mosque": "mosques",
    "church": "churches",
    "cathedral": "churches",
    "basilica": "churches",
    "monastery": "monasteries",
    "museum": "museums",
    "bridge": "bridges",
    "market": "markets",
    "garden": "gardens",
    "park": "parks",
    "tomb": "tombs",
    "mausoleum": "tombs",
    "ruins": "ruins",
    "wall": "walls",
    "tower": "towers",
    "skyscraper": "skyscrapers",
    "theatre": "theatre",
    "beach": "beaches",
    "statue": "monuments",
    "monument": "monuments",
    "memorial": "monuments",
    "lighthouse": "lighthouse",
    "pyramid": "pyramids",
    "wheel": "ferriswheel",
    "fountain": "fountains",
    "stadium": "sports",
}
"""Which theme a kind of landmark stands for."""


def plain(text: str) -> str:
    """Return a text in lower case, without accents, and with single spaces between its words.

    Words consist of letters, digits, apostrophes and hyphens; the points of abbreviations are left out.
    """
    letters = unicodedata.normalize("NFKD", text.replace("\u2019", "'").replace("\u02bb", "'"))
    letters = letters.encode("ascii", "ignore").decode().lower()
    letters = re.sub(r"(?<=\d)[,.](?=\d)", "", letters)
    letters = re.sub(r"\b([a-z])\.(?=[a-z]\b)", r"\1", letters).replace(".", " ")
    return " ".join(re.findall(r"[a-z0-9]+(?:['-][a-z0-9]+)*", letters))


def listed(text: str) -> tuple[str, ...]:
    """Return the values of a cell."""
    return tuple(value for value in text.split(";") if value)


@dataclass(frozen=True)
class Theme:
    """Something that a city may be known for."""

    name: str
    phrase: str
    """How it is said: `its nightlife`."""
    words: tuple[str, ...]
    """Its names in questions; an asterisk stands for any ending."""


class City:
    """One city with all that the tables say.

    Args:
        own: its row in `cities.csv`.
        derived: its row in `geonames.csv`.
        country: its country's row in `countries.csv`.
    """

    def __init__(self, own: dict[str, str], derived: dict[str, str], country: dict[str, str]) -> None:
        self.own, self.derived, self.land = own, derived, country
        self.name, self.country = own["name"], own["country"]
        self.names = tuple(dict.fromkeys(n for n in (own["name"], own["listed"], *listed(own["variants"])) if n))
        """Every spelling that counts as its name, the canonical one first."""
        self.country_names = (self.country, *listed(country["aliases"]))
        self.population = int(derived["population"])
        """Inhabitants."""
        self.latitude, self.longitude = float(derived["latitude"]), float(derived["longitude"])
        """Degrees, positive in the north and in the east."""
        self.elevation = int(own["elevation"])
        """Metres above the sea."""
        self.founded = int(own["founded"])
        """Year, negative before Christ; often an estimate."""
        self.seas, self.rivers, self.lakes = (listed(own[name]) for name in ("seas", "rivers", "lakes"))
        self.mountains, self.part = listed(own["mountains"]), own["part"]
        self.regions = (derived["continent"], *listed(country["regions"]))
        self.languages = listed(own["languages"] or country["languages"])
        """The main one first."""
        self.religions = listed(own["religions"] or country["religions"])
        """The main one first; the others include its wider names."""
        self.rulers = listed(own["rulers"] or country["ruled"])
        self.landmarks = tuple((kind, name) for kind, _, name in (m.partition(":") for m in listed(own["landmarks"])))
        """Kind and name of each."""
        self.dishes, self.local_dishes = listed(country["dishes"]), listed(own["dishes"])
        self.industries, self.festivals = listed(own["industries"]), listed(country["festivals"])
        self.local_festivals = listed(own["festivals"])

    @property
    def brief(self) -> dict[str, str]:
        """The citizen's brief."""
        return {"name": self.name, "country": self.country}

    @property
    def is_capital(self) -> bool:
        """Whether it is the capital of its country; the seat of government of India lies in Delhi."""
        return plain(self.derived["capital"]) in {plain(name) for name in self.names}

    @cached_property
    def known_for(self) -> tuple[str, ...]:
        """Themes that the city itself is known for, as curated."""
        return tuple(dict.fromkeys((*listed(self.own["themes"]), *self.industries)))

    @cached_property
    def themes(self) -> frozenset[str]:
        """All themes that are true of the city: its own, its country's, and those that follow from other facts."""
        own = {*self.known_for, *listed(self.land["themes"])}
        own |= {KIND_THEMES[kind] for kind, _ in self.landmarks if kind in KIND_THEMES}
        eaten = {word for dish in (*self.dishes, *self.local_dishes) for word in (plain(dish), plain(dish).split()[-1])}
        played = {plain(sport).replace(" ", "_") for sport in listed(self.land["sports"])}
        played |= {"hockey"} if "ice_hockey" in played else set()
        own |= (eaten | played) & set(themes())
        follows = {
            "lakes": self.lakes,
            "mountains": self.mountains,
            "springs": "springs" in own,
            "historic": self.founded < 1850 or self.landmarks,
            "traffic": self.population > 4_000_000,
            "nightlife": self.population > 3_000_000,
            "skyscrapers": self.population > 5_000_000,
            "diversity": self.population > 6_000_000,
            "ancient": self.founded < 500,
            "ruins": "ancient" in own and "ruins" in own,
            "pilgrimage": "pilgrimage" in own or {"temples", "mosques", "churches"} & own,
            "tourism": self.landmarks,
            "monuments": self.landmarks,
        }
        own |= UNIVERSAL if self.population > LARGE else set()
        return frozenset(own | {theme for theme, holds in follows.items() if holds})


@cache
def cities() -> tuple[City, ...]:
    """Return all cities, in the order of LMRL-Gym's list."""
    derived = {row["name"]: row for row in rows(__file__, "geonames.csv")}
    countries = {row["country"]: row for row in rows(__file__, "countries.csv")}
    return tuple(City(row, derived[row["name"]], countries[row["country"]]) for row in rows(__file__, "cities.csv"))


@cache
def themes() -> dict[str, Theme]:
    """Return all themes by name."""
    table = rows(__file__, "themes.csv")
    return {row["theme"]: Theme(row["theme"], row["phrase"], listed(row["words"])) for row in table}


@cache
def common(column: str) -> frozenset[str]:
    """Return the values of a column of the countries that at least two have: naming one gives no country away."""
    counts = Counter(value for row in rows(__file__, "countries.csv") for value in listed(row[column]))
    return frozenset(value for value, count in counts.items() if count > 1)


@cache
def shared(column: str, least: int = 2) -> frozenset[str]:
    """Return the values of a column of the cities that at least `least` have: naming one singles out no city."""
    counts = Counter(value for city in cities() for value in listed(city.own[column]))
    return frozenset(value for value, count in counts.items() if count >= least)
