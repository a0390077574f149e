"""Write made-up products and where they belong: ``python make_data.py FOLDER``."""

import random
import sys
from pathlib import Path

import polars as pl

TAXONOMY = {
    "Home > Kitchen > Pans": ["skillet", "saucepan", "wok"],
    "Home > Kitchen > Knives": ["paring knife", "cleaver", "bread knife"],
    "Home > Bath": ["towel", "soap dish", "bath mat"],
    "Garden > Tools > Hand tools": ["trowel", "dibber", "hand fork"],
    "Garden > Tools > Power tools": ["strimmer", "hedge cutter"],
    "Garden > Seeds": ["radish seeds", "poppy seeds"],
    "Sports": ["gift card for athletes", "sports voucher"],
}
ADJECTIVES = ("small", "sturdy", "blue", "steel", "wooden", "professional", "cheap", "large")
QUESTION = (
    "Where in the shop does this product belong: {product}? Think, then give the path in <answer> tags, "
    "its levels separated by >, as in <answer>Home > Kitchen > Pans</answer>."
)


def rows(count: int, seed: int) -> list[dict]:
    """Prompts with their ground truth, as verl reads them."""
    chance = random.Random(seed)
    found = []
    for number in range(count):
        path = chance.choice(list(TAXONOMY))
        product = f"{chance.choice(ADJECTIVES)} {chance.choice(TAXONOMY[path])}"
        found.append(
            {
                "data_source": "taxonomy",
                "prompt": [{"role": "user", "content": QUESTION.format(product=product)}],
                "ability": "classification",
                "reward_model": {"style": "rule", "ground_truth": path},
                "extra_info": {"index": number},
            }
        )
    return found


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(rows(1024, seed=0)).write_parquet(folder / "train.parquet")
    pl.DataFrame(rows(128, seed=1)).write_parquet(folder / "valid.parquet")
