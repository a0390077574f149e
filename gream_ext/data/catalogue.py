"""The items of a workspace: what the source tells of them, their reviews and their composite text."""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from gream_ext.data.records import ItemRecord
from gream_ext.data.reviews import Candidate
from gream_ext.errors import GreamError
from gream_ext.items.text import composite_text
from gream_ext.items.text_reviews import HEAD, review_lines
from gream_ext.items.text_tokens import Count

ItemStream = Callable[[Container[str]], Iterable[tuple[str, ItemRecord]]]


@dataclass(frozen=True)
class TextRule:
    """How long a composite text may be."""

    characters: int
    """Of all but the reviews."""
    review_tokens: int
    count: Count


@dataclass(frozen=True)
class Catalogue:
    """Rows of items.parquet and of reviews.parquet."""

    items: pl.DataFrame
    reviews: list[dict[str, Any]]
    untitled: int


def catalogue_of(
    wanted: Sequence[str],
    stream: ItemStream,
    rule: TextRule,
    reviews: Mapping[str, Sequence[Candidate]] | None = None,
    repeated: str = "refuse",
) -> Catalogue:
    """The items in ``wanted`` with their composite text, and how many of them lack a title.

    Items stand in the order of their file, then those that are not in it in the order of ``wanted``. An item
    without a title gets its item_id for one. `GreamError` when an item stands in the file twice and differs, unless
    ``repeated`` says that the first counts, and when most items are not in the file by ids that look alike.
    """
    missing, needed = dict.fromkeys(wanted), frozenset(wanted)
    seen: dict[str, int] = {}
    strangers: set[str] = set()
    rows: list[dict[str, Any]] = []
    shown: list[dict[str, Any]] = []

    def add(item: ItemRecord) -> None:
        candidates = (reviews or {}).get(item["item_id"], ())
        lines = review_lines([one.text for one in candidates], rule.review_tokens, rule.count)
        rows.append(_row(item, rule.characters, [line for line in lines if line]))
        shown.extend(_shown(item["item_id"], one, line) for one, line in zip(candidates, lines, strict=True) if line)

    for where, item in stream(needed):
        if item["item_id"] in missing:
            del missing[item["item_id"]]
            seen[item["item_id"]] = hash(str(item))
            add(item)
        elif item["item_id"] not in needed:
            strangers.add(item["item_id"])
        elif repeated == "refuse" and seen[item["item_id"]] != hash(str(item)):
            raise GreamError(f"{where}: item {item['item_id']!r} stands in the file twice and differs: delete one")
    check_join(missing, strangers, len(needed))
    for item_id in missing:
        add(ItemRecord(item_id=item_id, title=None, brand=None, categories=[], description=None, attributes=[]))
    untitled = sum(row.pop("untitled") for row in rows)
    return Catalogue(pl.DataFrame(rows, infer_schema_length=None), shown, untitled)


def check_join(missing: Iterable[str], strangers: Iterable[str], needed: int) -> None:
    """`GreamError` when most of the needed items are ``missing`` because ids are written in another way."""
    known = {_bare(one): one for one in strangers}
    alike = [(one, known[_bare(one)]) for one in missing if _bare(one) in known]
    if 2 * len(alike) > needed:
        ours, theirs = alike[0]
        raise GreamError(
            f"{len(alike)} of {needed} items are not among the described ones by that id, but look alike: the "
            f"interactions have {ours!r}, the items {theirs!r}: write the ids of both files in one way"
        )


def _bare(item_id: str) -> str:
    """An id without what programs add to numbers: zeros before, ``.0`` behind, blanks around."""
    return item_id.strip().removesuffix(".0").lstrip("0")


def _row(item: ItemRecord, characters: int, reviews: Sequence[str]) -> dict[str, Any]:
    text = composite_text(item, characters, reviews)
    return {
        **item,
        "title": item["title"] or item["item_id"],
        "text": text or item["item_id"],
        "untitled": not item["title"],
    }


def _shown(item_id: str, review: Candidate, line: str) -> dict[str, Any]:
    return {
        "item_id": item_id,
        "user_id": review.user_id,
        "rating": review.rating,
        "helpful": review.helpful,
        "text": line.removeprefix(HEAD),
    }
