"""The quality of an index as text for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any


def quality_table(quality: Mapping[str, Any]) -> str:
    """The figures of `code_quality`, for the terminal."""
    lines = [
        f"{quality['items']:,} items, raw collision rate {quality['raw_collision_rate']:.3f} "
        f"({quality['colliding_items']:,} items collide, the largest group has {quality['largest_group']})",
        "level  codes  used  perplexity  quantisation error",
    ]
    for number, level in enumerate(quality["levels"], start=1):
        error = level["quantisation_error"]
        lines.append(
            f"{number:>5}  {level['size']:>5}  {level['utilisation']:>4.0%}  {level['perplexity']:>10.1f}  "
            f"{'—' if error is None else f'{error:.4f}':>18}"
        )
    return "\n".join(lines)


def beside_random(quality: Mapping[str, Any]) -> str:
    """An index beside a random one: collisions and use of the levels, then what items that share levels share."""
    chance = quality["random"]
    lines = [f"{'':<26}{'this index':>14}{'random index':>14}"]
    for key, name, form in (
        ("raw_collision_rate", "raw collision rate", ".4f"),
        ("colliding_items", "items that collide", ",d"),
        ("largest_group", "largest group", ",d"),
    ):
        lines.append(f"{name:<26}{quality[key]:>14{form}}{chance[key]:>14{form}}")
    for key, name in (("utilisation", "used"), ("perplexity", "perplexity"), ("quantisation_error", "error after")):
        for number, (ours, theirs) in enumerate(zip(quality["levels"], chance["levels"], strict=True), start=1):
            lines.append(f"{f'level {number}: {name}':<26}{_cell(ours[key]):>14}{_cell(theirs[key]):>14}")
    return "\n".join(lines)


def shared_table(rows: Sequence[Mapping[str, Any]], chance: Sequence[Mapping[str, Any]]) -> str:
    """What pairs of items have in common that share levels, in this index and in a random one."""
    lines = [
        f"{'items that share':<18}{'pairs':>12}{'(random)':>12}{'a category':>12}{'(random)':>10}"
        f"{'next to each other':>20}{'(random)':>10}"
    ]
    for row, beside in zip(rows, chance, strict=True):
        name = f"{row['levels']} level{'s' if row['levels'] > 1 else ''}" if row["levels"] else "any two items"
        lines.append(
            f"{name:<18}{row['pairs']:>12,}{beside['pairs']:>12,}{_cell(row['share_category']):>12}"
            f"{_cell(beside['share_category']):>10}{_cell(row['next_item']):>20}{_cell(beside['next_item']):>10}"
        )
    return "\n".join(lines)


def _cell(value: float | None) -> str:
    return "—" if value is None else f"{value:.1f}" if value >= 10 else f"{value:.4f}"
