"""The answers of a model to some users, as rows of an evaluation; runs in this process or in a worker."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import torch

from gream_ext.corpus.prompt_settings import PromptSettings
from gream_ext.data.histories import Case
from gream_ext.decoding.trie import ItemTrie
from gream_ext.errors import GreamError
from gream_ext.evaluation.files import ranked_rows
from gream_ext.evaluation.stages import EvaluateSettings
from gream_ext.inference.co_occurrence import CoOccurrence
from gream_ext.inference.device import chosen_device
from gream_ext.inference.engines.base import Sampling
from gream_ext.inference.engines.choose import open_engine
from gream_ext.inference.modes import Modes, Reasoning, Request, votes, written_history
from gream_ext.inference.questions import Recommendation
from gream_ext.items.index import NO_CODE, ItemIndex
from gream_ext.rewards import compute_score

NOTHING_LEFT = Reasoning("", None, "nothing_left", False, None, 0)
"""In place of each sample of a user who has seen the whole catalogue, where seen items are excluded."""


@dataclass(frozen=True)
class Task:
    """Everything that a worker needs to begin."""

    model: Path
    item_index: Path
    settings: EvaluateSettings
    prompts: PromptSettings
    training: Sequence[Sequence[str]]
    """Training histories, where there is a prior."""


def load(task: Task) -> Modes:
    """The model behind both modes."""
    settings, index = task.settings, ItemIndex.load(task.item_index)
    if settings.threads is not None or "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(settings.threads or max(1, (os.cpu_count() or 1) // settings.processes))
    engine = open_engine(
        settings.engine,
        task.model,
        lambda tokenizer: ItemTrie.from_index(index, tokenizer),
        chosen_device(settings.device),
        settings.dtype,
        settings.server,
        settings.normalisation,
        tokens_at_once=settings.tokens_at_once,
        prompts_at_once=settings.prompts_at_once,
        rows_at_once=settings.rows_at_once,
    )
    prior = CoOccurrence.fitted(index, task.training, settings.prior_weight) if settings.prior else None
    return Modes(engine, index, task.prompts, prior)


def answer(modes: Modes, task: Task, cases: Sequence[Case]) -> pl.DataFrame:
    """One row a case, see `gream_ext.evaluation.files.EVALUATION`; no case is left out.

    Whoever has seen the whole catalogue, where seen items are excluded, is asked nothing and counts as a miss.
    """
    how = task.settings
    asked = [case for case in cases if not (how.exclude_seen and len(set(case.history)) == len(modes.index))]
    requests = [Request(case.history, exclude_seen=how.exclude_seen) for case in asked]
    users = [case.user_id for case in asked]
    if how.mode == "direct":
        rankings = {}
        for user, ranked in zip(users, modes.direct(requests, how.beams), strict=True):
            if ranked.error:
                raise GreamError(f"user {user!r}: {ranked.error}")
            rankings[user] = [(one.item_id, one.score) for one in ranked.items]
        return ranked_rows(cases, [rankings.get(case.user_id, []) for case in cases])
    seeds = [user_seed(how.seed, user) for user in users] if modes.engine.capabilities.seeds else None
    held = how.constrained and how.faithful
    sampling = Sampling(how.n, how.temperature, how.top_p, how.max_new_tokens, how.constrained, held)
    if how.rank:
        both = modes.reason_and_rank(requests, sampling, seeds, how.beams)
        answered = [(samples, list(ranked.items)) for samples, ranked in both]
    else:
        answered = [(samples, votes(samples)) for samples in modes.reason(requests, sampling, seeds)]
    by_user = dict(zip(users, answered, strict=True))
    nothing: tuple[list[Reasoning], list[Recommendation]] = [NOTHING_LEFT] * how.n, []
    rows = [reasoned_row(modes.index, case, *by_user.get(case.user_id, nothing), how.beta) for case in cases]
    return pl.DataFrame(rows, infer_schema_length=None)


def user_seed(seed: int, user_id: str) -> int:
    """A user's own seed: the user's samples are the same whoever else is evaluated."""
    return int.from_bytes(hashlib.sha256(f"{seed}\0{user_id}".encode()).digest()[:8], "big")


def faithfulness(index: ItemIndex, cases: Sequence[Case], rows: pl.DataFrame) -> dict[str, float | None]:
    """Of the histories that responses write again: how many items a response names, and the share that the user has."""
    histories = {case.user_id: set(case.history) for case in cases}
    texts = [(histories[user], text) for user, own in rows.select("user_id", "text").rows() for text in own]
    kept = [item in history for history, text in texts for item in written_history(index, text)]
    return {"written_items": len(kept) / len(texts), "faithful": sum(kept) / len(kept) if kept else None}


def reasoned_row(
    index: ItemIndex, case: Case, samples: Sequence[Reasoning], best: Sequence[Recommendation], beta: float
) -> dict[str, Any]:
    """The row of a user: each sample scored as RL scores it, and the items that they lead to, best first."""
    shortest = index.length - int((index.codes[:, -1] == NO_CODE).any())
    target = index.text(case.target)
    scored = [
        compute_score("gream", one.text, target, mode="reason", beta=beta, levels=index.length, shortest=shortest)
        for one in samples
    ]
    statuses = [
        one.status if one is NOTHING_LEFT else score["status"] for one, score in zip(samples, scored, strict=True)
    ]
    return {
        "user_id": case.user_id,
        "target": case.target,
        "recommendations": [one.item_id for one in best],
        "scores": [one.score for one in best],
        "item": [one.item_id for one in samples],
        "matched_levels": [one["matched_levels"] for one in scored],
        "reward": [one["score"] for one in scored],
        "status": statuses,
        "well_formed": [one["well_formed"] for one in scored],
        "truncated": [one.finish == "length" for one in samples],
        "tokens": [one.tokens for one in samples],
        "text": [one.text for one in samples],
    }
