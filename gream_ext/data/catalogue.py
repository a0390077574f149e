"""The items of a workspace: what the source tells of them, their reviews and their composite text."""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Any

import polars as pl

from gream_ext.data.records import ItemRecord
from gream_ext.data.reviews import Candidate
from gream_ext.errors import GreamError
from gream_ext.items.text import composite_text
from gream_ext.items.text_reviews import HEAD

ItemStream = Callable[[Container[str]], Iterable[tuple[str, ItemRecord]]]


def catalogue_of(
    wanted: Sequence[str],
    stream: ItemStream,
    characters: int,
    lines_of: Callable[[Sequence[str]], list[str]],
    reviews: Mapping[str, Sequence[Candidate]] | None = None,
    repeated: str = "refuse",
) -> tuple[pl.DataFrame, list[dict[str, Any]], int]:
    """The items in ``wanted`` with their composite text, rows of reviews.parquet, and how many items lack a title.

    ``characters`` bounds a text without its reviews, of which ``lines_of`` makes lines (see `review_lines`).
    Items stand in the order of their file, then those that are not in it in the order of ``wanted``. An item
    without a title gets its item_id for one. `GreamError` when an item stands in the file twice and differs, unless
    ``repeated`` says that the first counts, and when most items are not in the file by ids that look alike.
    """
    missing, needed = dict.fromkeys(wanted), frozenset(wanted)
    seen: dict[str, int] = {}
    strangers: set[str] = set()
    rows: list[dict[str, Any]] = []
    shown: list[dict[str, Any]] = []
    untitled = 0

    def add(item: ItemRecord) -> None:
        item_id, candidates = item["item_id"], (reviews or {}).get(item["item_id"], ())
        lines = lines_of([one.text for one in candidates])
        text = composite_text(item, characters, [line for line in lines if line])
        rows.append({**item, "title": item["title"] or item_id, "text": text or item_id})
        for one, line in zip(candidates, lines, strict=True):
            if line:
                told = {"user_id": one.user_id, "rating": one.rating, "helpful": one.helpful}
                shown.append({"item_id": item_id, **told, "text": line.removeprefix(HEAD)})

    for where, item in stream(needed):
        item_id = item["item_id"]
        if item_id not in needed:
            strangers.add(item_id)
        elif item_id in missing:
            del missing[item_id]
            seen[item_id] = hash(str(item))
            untitled += not item["title"]
            add(item)
        elif repeated == "refuse" and seen[item_id] != hash(str(item)):
            raise GreamError(f"{where}: item {item_id!r} stands in the file twice and differs: delete one")
    check_join(missing, strangers, len(needed))
    for item_id in missing:
        add(ItemRecord(item_id=item_id, title=None, brand=None, categories=[], description=None, attributes=[]))
    return pl.DataFrame(rows, infer_schema_length=None), shown, untitled + len(missing)


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
