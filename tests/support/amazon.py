"""Small made-up files in the formats of Amazon Reviews 2014, 2018 and 2023: what a shop of four items would give.

The seven reviews of `REVIEWS` are the same in each edition. No line is Amazon's.
"""

import gzip
import json
from pathlib import Path
from typing import Any, NamedTuple


class Written(NamedTuple):
    user: str
    item: str
    time: int
    text: str
    heading: str = "Fine"
    stars: float = 5.0
    helpful: int = 0
    unhelpful: int = 0


LONG = "It is soft and warm and I would not want to be without it in winter"
REVIEWS = [
    Written("U1", "B001", 100, f"{LONG}, says the first."),
    Written(
        "U1", "B002", 300, "Good &amp; cheap, but the <b>lid</b> never closed as it should have done.", "Lid", 3.0, 4, 1
    ),
    Written("U1", "B003", 200, "Too short."),
    Written("U2", "B001", 100, f"{LONG}, <br />says &quot;the&quot; second.", "Warm!", 4.0, 2),
    Written("U2", "B003", 300, f"{LONG}, says a held-out one.", helpful=90),
    Written("U2", "B004", 250, f"{LONG}, says a held-out one too.", helpful=99),
    Written("U1", "B004", 400, "", ""),
]
FILES = {
    2014: ("reviews_Toys_5.json.gz", "meta_Toys.json.gz"),
    2018: ("Toys_5.json.gz", "meta_Toys.json.gz"),
    2023: ("Toys.jsonl.gz", "meta_Toys.jsonl.gz"),
}


def review_line(year: int, one: Written) -> dict[str, Any]:
    """A review as that edition writes it."""
    if year == 2023:
        return {
            "rating": one.stars, "title": one.heading, "text": one.text, "images": [], "asin": f"X{one.item}",
            "parent_asin": one.item, "user_id": one.user, "timestamp": one.time * 1000 + 7,
            "helpful_vote": one.helpful, "verified_purchase": True,
        }  # fmt: skip
    line: dict[str, Any] = {
        "reviewerID": one.user, "asin": one.item, "reviewerName": "A. Nobody", "reviewText": one.text,
        "overall": one.stars, "summary": one.heading, "unixReviewTime": one.time, "reviewTime": "01 1, 1970",
    }  # fmt: skip
    if year == 2014:
        return {**line, "helpful": [one.helpful, one.helpful + one.unhelpful]}
    return {**line, "verified": True, **({"vote": f"{one.helpful:,}"} if one.helpful else {})}


def item_lines(year: int) -> list[dict[str, Any]]:
    """Items as that edition writes them: B001 to B003 with all fields, one nobody bought, none of B004."""
    if year == 2014:
        return [
            {"asin": "B001", "title": "Velta's Scarf", "brand": "Velta", "price": 3.17, "imUrl": "http://a/b.jpg",
             "salesRank": {"Toys": 211}, "related": {"also_bought": ["B002"], "also_viewed": ["B003"]},
             "categories": [["Toys", "Winter"], ["Gifts"]], "description": "A <i>scarf</i> of wool.\n"},
            {"asin": "B009", "title": "Nobody's", "categories": [["Toys"]]},
            {"asin": "B002", "categories": [["Toys", "Boxes"]], "title": 'The "Box"', "description": None},
            {"asin": "B003", "title": "Ormond &amp; Sons", "categories": [["Toys"]]},
        ]  # fmt: skip
    if year == 2018:
        return [
            {"category": ["Toys", "Winter", "<span>junk</span>"], "description": ["A <i>scarf</i>", "of wool."],
             "title": "Velta's Scarf", "also_buy": ["B002"], "brand": "Velta", "feature": ["Soft", "Warm"],
             "rank": "211 in Toys (", "details": {"x": "y"}, "similar_item": "", "price": "$3.17", "asin": "B001"},
            {"category": ["Toys"], "title": "Nobody's", "asin": "B009"},
            {"category": ["Toys", "Boxes"], "title": "var x = getTime();", "asin": "B002", "brand": ""},
            {"category": ["Toys", "Boxes"], "title": "Second line of B002", "asin": "B002"},
            {"category": [], "title": "Ormond &amp; Sons", "asin": "B003", "description": []},
        ]  # fmt: skip
    return [
        {"main_category": "Toys", "title": "Velta's Scarf", "average_rating": 4.9, "rating_number": 99,
         "features": ["Soft", "Warm"], "description": ["A <i>scarf</i>", "of wool."], "price": 3.17, "images": [],
         "store": "Velta", "categories": ["Toys", "Winter"], "bought_together": None, "parent_asin": "B001",
         "details": {"Color": "Red", "Best Sellers Rank": {"Toys": 211}, "UPC": "0123", "Item Weight": "2 oz"}},
        {"main_category": "Toys", "title": "Nobody's", "parent_asin": "B009"},
        {"main_category": "Toys", "title": None, "categories": [], "parent_asin": "B002", "details": {}},
        {"main_category": None, "title": "Ormond &amp; Sons", "categories": [], "parent_asin": "B003"},
    ]  # fmt: skip


def write_amazon(folder: Path, year: int, reviews: list[Written] | None = None) -> Path:
    """Write the two files of an edition into ``folder``, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    review_file, item_file = (folder / name for name in FILES[year])
    lines = [json.dumps(review_line(year, one)) for one in (REVIEWS if reviews is None else reviews)]
    about = [repr(line) if year == 2014 else json.dumps(line) for line in item_lines(year)]
    for path, content in ((review_file, lines), (item_file, about)):
        path.write_bytes(gzip.compress("\n".join([*content, ""]).encode(), mtime=0))
    return folder
