"""A baseline of RecBole as a folder of files: our splits in RecBole's format out, recommendations back in.

Users and items travel as numbers, so that no id can hold one of the format's separators. The other side is
`gream_ext.extras.recbole`, in an environment of its own.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml

from gream_ext.data.histories import Case
from gream_ext.errors import GreamError
from gream_ext.evaluation.files import ranked_rows

ATTRIBUTED = ("FDSA", "S3Rec")
"""Models that need the items' categories."""


@dataclass(frozen=True)
class Job:
    """What ``job.json`` says."""

    model: str
    keys: Mapping[str, Any]
    trials: Sequence[Mapping[str, Any]]
    window: int
    recommendations: int
    seed: int
    attributes: bool
    gpu: bool = False


def catalogue_of_models() -> dict[str, Any]:
    """The shipped settings: ``common`` keys, and of each of the ``models`` its ``keys`` and ``trials``."""
    text = files("gream_ext.extras.recbole").joinpath("templates", "recbole.yaml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text))


def make_job(model: str, overrides: Mapping[str, Any], most_trials: int, **rest: Any) -> Job:
    """The shipped settings of a model, with keys that are changed in every trial."""
    shipped = catalogue_of_models()
    own: Mapping[str, Any] = shipped["models"][model]
    trials: list[dict[str, Any]] = []
    for keys in own["trials"]:
        changed = {**keys, **overrides}
        if changed not in trials:  # what is overridden need not be tried twice
            trials.append(changed)
    keys = {**shipped["common"], **own["keys"]}
    return Job(model=model, keys=keys, trials=trials[:most_trials], attributes=model in ATTRIBUTED, **rest)


def write_job(
    folder: Path,
    job: Job,
    training: Mapping[str, Sequence[str]],
    cases: Mapping[str, Sequence[Case]],
    categories: Mapping[str, Sequence[str]],
) -> None:
    """Write the job and its data.

    ``cases`` holds the cases of ``valid``, by which the epoch and the trial are chosen, and of ``test``, the users to
    recommend to; ``categories`` all items of the catalogue in order. `GreamError` for an item that is not there, and
    for a model that needs categories where no item has one.
    """
    if job.attributes and not any(categories.values()):
        raise GreamError(f"{job.model} learns from the items' categories, and no item has one: leave it out")
    users = {user: number for number, user in enumerate(training)}
    items = {item: number for number, item in enumerate(categories)}
    data = folder / "gream"
    data.mkdir(parents=True, exist_ok=True)
    # RecBole pads to the longest history that there is; Caser's filters must not be wider.
    longest = max((len(case.history) for some in cases.values() for case in some), default=1)
    told = {**asdict(job), "window": min(job.window, longest)}
    (folder / "job.json").write_text(json.dumps(told), encoding="utf-8")
    try:
        _write_table(data / "gream.train.inter", _questions(users, items, training_rows(training), job.window))
        for split, some in cases.items():
            rows = ((case.user_id, case.history, case.target) for case in some)
            _write_table(data / f"gream.{split}.inter", _questions(users, items, rows, job.window))
            seen = [sorted({items[item] for item in case.history}) for case in some]
            np.save(folder / f"{split}.seen.npy", np.array([item for one in seen for item in one], dtype=np.int64))
            np.save(folder / f"{split}.ends.npy", np.cumsum([len(one) for one in seen], dtype=np.int64))
    except KeyError as error:
        raise GreamError(
            f"{error.args[0]!r} is not in the training data or the item index: build the index again"
        ) from None
    names = {name: number for number, name in enumerate(sorted({name for own in categories.values() for name in own}))}
    attributes = (
        [str(number), " ".join(str(names[name]) for name in own)] for number, own in enumerate(categories.values())
    )
    _write_table(data / "gream.item", (["item_id:token", "class:token_seq"], *attributes))


def training_rows(training: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, Sequence[str], str]]:
    """Every training interaction but a user's first, with what came before it: ``(user, history, target)``."""
    for user, history in training.items():
        for place in range(1, len(history)):
            yield user, history[:place], history[place]


def read_result(
    folder: Path, cases: Sequence[Case], item_ids: Sequence[str]
) -> tuple[list[pl.DataFrame], dict[str, Any]]:
    """The rows of two evaluations, seen items allowed and excluded, and what ``result.json`` says."""
    items, scores = np.load(folder / "items.npy"), np.load(folder / "scores.npy")
    if items.shape != scores.shape or items.shape[:2] != (2, len(cases)) or items.max(initial=0) >= len(item_ids):
        raise RuntimeError(f"{folder}: recommendations of shape {items.shape} for {len(cases)} users")
    tables = []
    for chosen, values in zip(items, scores, strict=True):
        ranked = [zip(*row, strict=True) for row in zip(chosen, values, strict=True)]
        rankings = [[(item_ids[item], score) for item, score in one if item >= 0] for one in ranked]
        tables.append(ranked_rows(cases, rankings))
    return tables, json.loads((folder / "result.json").read_text(encoding="utf-8"))


def _questions(
    users: Mapping[str, int], items: Mapping[str, int], rows: Iterable[tuple[str, Sequence[str], str]], window: int
) -> Iterator[list[str]]:
    yield ["user_id:token", "item_id_list:token_seq", "item_id:token"]
    for user, history, target in rows:
        shown = " ".join(str(items[item]) for item in history[-window:])
        yield [str(users[user]), shown, str(items[target])]


def _write_table(path: Path, rows: Iterable[Sequence[str]]) -> None:
    with path.open("w", encoding="ascii") as file:
        file.writelines("\t".join(row) + "\n" for row in rows)
