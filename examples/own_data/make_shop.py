"""A made-up shop, to try the flow before you have data of your own: interactions.csv and items.jsonl.

python examples/own_data/make_shop.py shop
"""

import json
import random
import sys
from itertools import product
from pathlib import Path

LOOKS = ("Amber", "Blue", "Copper", "Dark", "Elm", "Felt", "Glass", "Heavy")
THINGS = {"Tea": ("Infuser", "Kettle", "Caddy"), "Bath": ("Towel", "Tray", "Brush"), "Desk": ("Lamp", "Pad", "Clock")}
BRANDS = ("Morrow", "Ansavel", "Hexwick")
USERS = 200


def main(folder: Path) -> None:
    rng = random.Random(0)
    kinds = [(category, thing) for category, things in THINGS.items() for thing in things]
    items = [
        {"item_id": f"b{n:02d}", "title": f"{look} {thing}", "brand": BRANDS[n % 3], "categories": ["Home", category]}
        for n, (look, (category, thing)) in enumerate(product(LOOKS, kinds))
    ]
    rows = ["user_id,item_id,timestamp"]
    for user in range(USERS):  # everybody buys mostly in one category, every few days
        own = rng.choice(list(THINGS))
        liked = [item for item in items if item["categories"][1] == own]
        day = rng.randrange(300)
        for _ in range(rng.randint(6, 14)):
            item = rng.choice(liked if rng.random() < 0.8 else items)
            day += rng.randint(1, 5)
            rows.append(f"u{user},{item['item_id']},{1_680_000_000 + 86_400 * day}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
    (folder / "interactions.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    print(f"{folder}: {len(rows) - 1} interactions of {USERS} made-up users with {len(items)} made-up items")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
