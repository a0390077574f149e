"""The made-up shop of the report's demonstration: its films, its users, and an item index."""

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from gream_ext.extras.report.index_report import run
from gream_ext.extras.report.stages import IndexReportSettings
from gream_ext.items.index import ItemIndex
from gream_ext.workspace import INTERACTIONS, ITEMS, Workspace, write_json, write_table

GENRES = ("Comedy", "Drama", "Mystery", "Romance", "Adventure", "Musical", "Western", "Fantasy")
ADJECTIVES = ("Amber", "Borrowed", "Crooked", "Distant", "Electric", "Forgotten", "Gentle", "Hollow", "Idle", "Lunar")
THINGS = (
    "Almanac",
    "Bakery",
    "Cartographer",
    "Drawbridge",
    "Envelope",
    "Ferryman",
    "Glasshouse",
    "Harmonica",
    "Icebox",
)
PLACES = ("Ansavel", "Brindmoor", "Caldrey", "Dunhollow", "Eskerby", "Farrowmere", "Galdenport", "Hexwick")
PATTERNS = ("The {a} {t}", "The {t} of {p}", "One {t} for {p}", "{a} Nights in {p}", "Last {t} in {p}", "{a} {t}")


def make_shop(workspace: Workspace, users: int, items: int, chance: random.Random) -> None:
    """Films of eight genres, users who mostly stay in two of them, and an item index by genre."""
    titles: list[str] = []
    while len(titles) < items:
        slots = {"a": chance.choice(ADJECTIVES), "t": chance.choice(THINGS), "p": chance.choice(PLACES)}
        title = chance.choice(PATTERNS).format(**slots)
        if title not in titles:
            titles.append(title)
    rows = [
        {
            "item_id": f"f{number}",
            "title": title,
            "brand": None,
            "categories": [GENRES[number % len(GENRES)]],
            "description": None,
            "attributes": [f"year: {chance.randint(1962, 2004)}"],
            "text": f"{title}\n{GENRES[number % len(GENRES)]}",
        }
        for number, title in enumerate(titles)
    ]
    write_table(pl.DataFrame(rows), workspace.items, ITEMS)

    interactions = []
    for user in range(users):
        liked = chance.sample(range(len(GENRES)), 2)
        length = chance.randint(12, 40)
        seen = [_film(chance, items, liked) for _ in range(length)]
        for position, item in enumerate(seen):
            split = {length - 1: "test", length - 2: "valid"}.get(position, "train")
            interactions.append((f"u{user + 1}", f"f{item}", position, 1_000_000_000 + 5000 * position, split))
    columns = list(INTERACTIONS.columns)
    write_table(pl.DataFrame(interactions, schema=columns, orient="row"), workspace.interactions, INTERACTIONS)
    counts = {"users": users, "items": items, "interactions": len(interactions)}
    write_json(workspace.statistics, {**counts, "density": len(interactions) / users / items})

    index = make_index(rows, chance)
    index.save(workspace.item_index)
    levels = [
        {"size": size, "quantisation_error": error}
        for size, error in zip(index.sizes, (0.61, 0.47, 0.39, 0.33), strict=False)
    ]
    write_json(workspace.path("index_quality.json"), {"items": items, "levels": levels})
    run(workspace, IndexReportSettings())


def make_index(rows: Sequence[dict[str, Any]], chance: random.Random) -> ItemIndex:
    """The first level is mostly the genre, the second the decade, the others chance; collisions get a slot."""
    groups: Counter[tuple[int, ...]] = Counter()
    codes = []
    for row in rows:
        genre = GENRES.index(row["categories"][0]) if chance.random() < 0.85 else chance.randrange(len(GENRES))
        decade = (int(row["attributes"][0].split()[-1]) - 1962) // 11
        own = (genre, decade, chance.randrange(6), chance.randrange(6))
        codes.append([*own, groups[own]])
        groups[own] += 1
    sizes = (len(GENRES), 4, 6, 6, max(groups.values()) + 2)
    return ItemIndex(tuple(row["item_id"] for row in rows), np.array(codes, np.int32), sizes)


def _film(chance: random.Random, items: int, liked: Sequence[int]) -> int:
    genre = chance.choice(liked) if chance.random() < 0.8 else chance.randrange(len(GENRES))
    return int(chance.betavariate(0.7, 2.0) * (items // len(GENRES))) * len(GENRES) + genre
