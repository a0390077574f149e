"""The public Python API: `load` a trained model, then `Recommender.recommend` and `Recommender.explain`.

    import gream_ext

    model = gream_ext.load("runs/quickstart")  # a workspace, an export, or owner/name on the Hugging Face hub
    for one in model.recommend(history=["50", "172"], k=5):
        print(one.item_id, one.title, one.score)
    print(model.explain(["50", "172"]).text)

Item ids are strings, as in items.parquet; whole numbers are taken for the same ids.
"""

import secrets
from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path

from gream_ext.errors import GreamError
from gream_ext.inference import model as inference
from gream_ext.inference.export_format import MANIFEST
from gream_ext.inference.loading import check_device
from gream_ext.inference.questions import Answer, Question, Recommendation
from gream_ext.inference.sharing import means_hub
from gream_ext.inference.source import Source, find_source, known_items
from gream_ext.workspace import Workspace

ItemId = str | int


def load(
    folder: str | Path,
    model: str | None = None,
    device: str = "auto",
    max_tokens: int = 1024,
    prior_weight: float | None = None,
) -> "Recommender":
    """The model of a workspace, or of what ``gream export`` wrote, here or on the Hugging Face hub.

    Args:
        folder: a workspace, the folder of an export, or ``owner/name`` on the hub where there is no such folder, nor
            one called ``owner``; ``owner/name@revision`` fixes a branch, tag or commit of it.
        model: ``sft`` or ``srpo`` of a workspace; None: the one that was trained last.
        device: as torch names it; ``auto``: cuda where there is one.
        max_tokens: longest reasoning, in tokens.
        prior_weight: how much counts of training pairs guide `recommend` beside the model (docs/evaluation.md); None:
            not at all. Needs a workspace.

    Raises:
        GreamError: there is no such model or device, or the folder is not whole.
    """
    check_device(device)
    folder = Path(folder).expanduser()
    exported = (folder / MANIFEST).is_file() or means_hub(str(folder))
    if not exported and not folder.is_dir():
        raise GreamError(f"{folder} is no folder here: give a workspace, an export, or owner/name on the hub")
    if exported and model is not None:
        raise GreamError(f"{folder} is an export of one model: leave model out")
    source = find_source(Workspace(folder), model, str(folder) if exported else None)
    return Recommender(source, inference.load(source, device, max_tokens, prior_weight=prior_weight))


class Recommender:
    """A trained model with its catalogue. Not for two threads at once."""

    def __init__(self, source: Source, recommender: inference.ModelRecommender):
        self._source, self._recommender = source, recommender

    @property
    def items(self) -> dict[str, str]:
        """Titles by item id, all that can be recommended."""
        return dict(self._source.titles.titles)

    def recommend(
        self,
        history: Iterable[ItemId],
        k: int = 10,
        exclude_seen: bool | None = None,
        only: Collection[ItemId] | None = None,
        exclude: Collection[ItemId] = (),
    ) -> list[Recommendation]:
        """Direct mode: the ``k`` likeliest next items after ``history`` (oldest first; empty: a new user), best first.

        ``only`` limits what may be recommended, ``exclude`` leaves items out, ``exclude_seen`` those of the history;
        None, as the command: if nobody in the data has an item twice. Fewer than ``k`` where fewer may be recommended.
        `GreamError` for an unknown item, and when none may.
        """
        return self.recommend_many([history], k, exclude_seen, only, exclude)[0]

    def recommend_many(
        self,
        histories: Iterable[Iterable[ItemId]],
        k: int = 10,
        exclude_seen: bool | None = None,
        only: Collection[ItemId] | None = None,
        exclude: Collection[ItemId] = (),
    ) -> list[list[Recommendation]]:
        """`recommend` for many histories, computed together."""
        return self._recommender.direct(
            [self._question(history, k, exclude_seen, only, exclude) for history in histories]
        )

    def explain(
        self,
        history: Iterable[ItemId],
        seed: int | None = None,
        exclude_seen: bool | None = None,
        only: Collection[ItemId] | None = None,
        k: int | None = None,
        reasonings: int = 1,
    ) -> Answer:
        """Reasoning mode: a recommended ``item``, None where the model names none, and the reasoning, ``text``.

        With ``k`` also ``ranked``, the ``k`` likeliest items after ``reasonings`` of which ``text`` is the first
        (docs/decoding.md, think, then rank). The same for the same ``seed``; None draws a fresh one.
        """
        if k is not None and reasonings < 1:
            raise GreamError(f"reasonings must be at least 1, not {reasonings}")
        seed = secrets.randbits(32) if seed is None else seed
        asked = self._question(history, 1 if k is None else k, exclude_seen, only, ())
        asked = replace(asked, seed=seed, reasonings=0 if k is None else reasonings)
        *_, last = self._recommender.reason(asked)
        assert isinstance(last, Answer)
        return last

    def search(self, words: str, limit: int = 10) -> list[str]:
        """Ids of the items whose titles hold all of ``words``, the nearest first."""
        return self._source.titles.search(words, limit)

    def _question(
        self,
        history: Iterable[ItemId],
        k: int,
        exclude_seen: bool | None,
        only: Collection[ItemId] | None,
        exclude: Collection[ItemId],
    ) -> Question:
        if k < 1:
            raise GreamError(f"k must be at least 1, not {k}")
        seen = self._ids(history)
        leave_out = not self._source.repeats if exclude_seen is None else exclude_seen
        left_out = frozenset(self._ids(exclude)) | frozenset(seen if leave_out else ())
        return Question(seen, k, left_out, None if only is None else frozenset(self._ids(only)))

    def _ids(self, items: Iterable[ItemId]) -> tuple[str, ...]:
        if isinstance(items, str):
            raise GreamError(f"{items!r} is one text, and a list of item ids is wanted")
        return known_items(self._source.titles, [str(item) for item in items])
