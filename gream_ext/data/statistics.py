"""The figures of the paper's Table 1."""

from typing import Any

import polars as pl


def statistics(interactions: pl.DataFrame) -> dict[str, Any]:
    """Users, items, interactions, density and history lengths.

    ``density`` is interactions / (users x items). Table 1 prints it as "sparsity", which is one less this.

    >>> statistics(pl.DataFrame({"user_id": ["a", "a", "b"], "item_id": ["x", "y", "x"]}))
    {'users': 2, 'items': 2, 'interactions': 3, 'density': 0.75, 'mean_length': 1.5, 'longest': 2}
    """
    lengths = interactions.group_by("user_id").len()["len"].to_numpy()
    items = interactions["item_id"].n_unique()
    return {
        "users": len(lengths),
        "items": items,
        "interactions": len(interactions),
        "density": len(interactions) / max(1, len(lengths) * items),
        "mean_length": len(interactions) / max(1, len(lengths)),
        "longest": int(lengths.max(initial=0)),
    }
