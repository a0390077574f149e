"""Made-up shops for tests: small, deterministic, and with something in them to learn.

Items belong to genres and carry made-up titles. A user walks: mostly to the item that follows the
last one in its genre, sometimes to another of the genre, seldom into another genre.
"""

import csv
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from gream_ext.items.index import NO_CODE, ItemIndex
from gream_ext.workspace import INTERACTIONS, ITEMS, Workspace, write_table

GENRES = ("Comedy", "Drama", "Horror", "Western", "Musical", "Mystery", "Romance", "Animation")
BRANDS = ("Velta", "Ormond", "Kisaro", "Brennick")
ONSETS = ("b", "br", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "st", "t", "tr", "v", "z")
VOWELS = ("a", "e", "i", "o", "u", "ai", "ea")
FIRST_TIMESTAMP = 1_000_000_000


def synthetic_items(items: int = 80, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of items.jsonl; item ``i<n>`` is of genre ``n % 8``, titles are unique."""
    chance = random.Random(f"items {seed}")
    rows: list[dict[str, Any]] = []
    titles: set[str] = set()
    for number in range(items):
        genre = GENRES[number % len(GENRES)]
        title = _title(chance)
        while title in titles:
            title = _title(chance)
        titles.add(title)
        row: dict[str, Any] = {"item_id": f"i{number}", "title": title, "categories": [genre]}
        if number % 3 == 0:
            row["brand"] = chance.choice(BRANDS)
        if number % 2 == 0:
            row["description"] = f"A {genre.lower()} about a {_word(chance)} and its {_word(chance)}."
        rows.append(row)
    return rows


def synthetic_interactions(users: int = 60, items: int = 80, seed: int = 0) -> list[tuple[str, str, int]]:
    """Rows (user_id, item_id, timestamp), 10 to 20 a user, oldest first within each user."""
    chance = random.Random(f"interactions {seed}")
    genres = [list(range(first, items, len(GENRES))) for first in range(min(len(GENRES), items))]
    rows = []
    for user in range(users):
        here = user % items
        for step in range(chance.randint(10, 20)):
            rows.append((f"u{user}", f"i{here}", FIRST_TIMESTAMP + 10_000 * user + 60 * step))
            genre = genres[here % len(GENRES)]
            draw = chance.random()
            if draw < 0.75:
                here = genre[(genre.index(here) + 1) % len(genre)]
            elif draw < 0.9:
                here = chance.choice(genre)
            else:
                here = chance.choice(chance.choice(genres))
    return rows


def write_synthetic_source(folder: str | Path, users: int = 60, items: int = 80, seed: int = 0) -> Path:
    """Write ``interactions.csv`` and ``items.jsonl`` as a user would bring them; returns the folder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "interactions.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("user_id", "item_id", "timestamp"))
        writer.writerows(synthetic_interactions(users, items, seed))
    with (folder / "items.jsonl").open("w", encoding="utf-8") as file:
        for row in synthetic_items(items, seed):
            file.write(json.dumps(row) + "\n")
    return folder


def synthetic_index(item_ids: list[str], slot: str = "always") -> ItemIndex:
    """Four levels and the conflict slot: genre, then the digits of the place in the genre; items collide in pairs.

    ``slot``: ``always``, ``colliding`` (the first item of each genre collides with nobody and has no slot) or
    ``none`` (four levels, no two items collide).
    """
    numbers = [int(item_id[1:]) for item_id in item_ids]
    places = [number // len(GENRES) for number in numbers]
    together = 1 if slot == "none" else 2
    base = 2
    while base**3 <= (max(places) + 1) // together:
        base += 1
    codes = np.full((len(item_ids), 5), NO_CODE, dtype=np.int32)
    for row, (number, place) in enumerate(zip(numbers, places, strict=True)):
        shared = (place + 1) // together
        codes[row, :4] = number % len(GENRES), shared // base**2, shared // base % base, shared % base
        codes[row, 4] = (place + 1) % 2 if place else 0
    sizes: tuple[int, ...] = (len(GENRES), base, base, base, 4)
    if slot == "none":
        codes, sizes = codes[:, :4], sizes[:4]
    if slot == "colliding":
        _, inverse, count = np.unique(codes[:, :4], axis=0, return_inverse=True, return_counts=True)
        codes[count[inverse] == 1, 4] = NO_CODE
    return ItemIndex(tuple(item_ids), codes, sizes)


def make_workspace(
    folder: str | Path, users: int = 60, items: int = 80, seed: int = 0, slot: str = "always"
) -> Workspace:
    """A workspace as far as interactions, items, statistics and item index, made without any encoder.

    No k-core: every user is kept, and every item that somebody bought. Items and users stand in the order
    of their numbers.
    """
    workspace = Workspace(folder)
    rows = synthetic_interactions(users, items, seed)
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row").with_columns(
        position=pl.int_range(pl.len()).over("user_id")
    )
    last = pl.len().over("user_id") - 1 - pl.col("position")
    split = pl.when(last == 0).then(pl.lit("test")).when(last == 1).then(pl.lit("valid")).otherwise(pl.lit("train"))
    write_table(frame.with_columns(split=split), workspace.interactions, INTERACTIONS)

    bought = set(frame["item_id"])
    about = [
        {
            "item_id": row["item_id"],
            "title": row["title"],
            "brand": row.get("brand"),
            "categories": row["categories"],
            "description": row.get("description"),
            "attributes": [f"year: {1950 + place % 50}"],
            "text": "\n".join([row["title"], *row["categories"], row.get("description") or ""]).strip(),
        }
        for place, row in enumerate(synthetic_items(items, seed))
        if row["item_id"] in bought
    ]
    write_table(pl.DataFrame(about), workspace.items, ITEMS)
    statistics = {"users": users, "items": len(about), "interactions": len(rows)}
    workspace.statistics.write_text(json.dumps(statistics, indent=2) + "\n", encoding="utf-8")
    synthetic_index([str(row["item_id"]) for row in about], slot).save(workspace.item_index)
    return workspace


def _word(chance: random.Random) -> str:
    return "".join(chance.choice(ONSETS) + chance.choice(VOWELS) for _ in range(chance.randint(2, 3)))


def _title(chance: random.Random) -> str:
    words = [_word(chance).capitalize() for _ in range(chance.randint(1, 2))]
    return " ".join(["The", *words] if chance.random() < 0.3 else words)
