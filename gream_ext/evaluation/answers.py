"""The answers of a model to some users, as rows of an evaluation; runs in this process or in a worker."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from gream_ext.corpus.prompt_settings import PromptSettings
from gream_ext.data.histories import Case
from gream_ext.errors import GreamError
from gream_ext.evaluation.protocol import SAMPLED
from gream_ext.inference.engines.base import Sampling
from gream_ext.inference.engines.names import EngineName
from gream_ext.items.index import NO_CODE, ItemIndex
from gream_ext.rewards import compute_score

if TYPE_CHECKING:
    from gream_ext.inference.modes import Modes, Reasoning


@dataclass(frozen=True)
class Task:
    """How to answer, with everything that a worker needs to begin."""

    model: Path
    item_index: Path
    mode: Literal["direct", "reason"]
    beams: int
    sampling: Sampling
    exclude_seen: bool
    prompts: PromptSettings
    beta: float
    seed: int
    device: str
    dtype: str
    prompts_at_once: int
    rows_at_once: int
    threads: int | None = None
    engine: EngineName = "transformers"
    server: str | None = None


def load(task: Task) -> "Modes":
    """The model behind both modes."""
    import torch

    from gream_ext.decoding.trie import ItemTrie
    from gream_ext.inference.device import chosen_device
    from gream_ext.inference.engines.choose import open_engine
    from gream_ext.inference.modes import Modes

    if task.threads is not None:
        torch.set_num_threads(task.threads)
    index = ItemIndex.load(task.item_index)
    engine = open_engine(
        task.engine,
        task.model,
        lambda tokenizer: ItemTrie.from_index(index, tokenizer),
        chosen_device(task.device),
        task.dtype,
        task.server,
        prompts_at_once=task.prompts_at_once,
        rows_at_once=task.rows_at_once,
    )
    return Modes(engine, index, task.prompts)


def answer(modes: "Modes", task: Task, cases: Sequence[Case]) -> pl.DataFrame:
    """One row a case, see `gream_ext.evaluation.protocol.EVALUATION`; no case is left out."""
    rows = (_direct if task.mode == "direct" else _reason)(modes, task, cases)
    return pl.DataFrame(rows, infer_schema_length=None)


def user_seed(seed: int, user_id: str) -> int:
    """A user's own seed: the user's samples are the same whoever else is evaluated."""
    return int.from_bytes(hashlib.sha256(f"{seed}\0{user_id}".encode()).digest()[:8], "big")


def _direct(modes: "Modes", task: Task, cases: Sequence[Case]) -> list[dict[str, Any]]:
    from gream_ext.inference.modes import Request

    requests = [Request(case.history, exclude_seen=task.exclude_seen) for case in cases]
    rows = []
    for case, answered in zip(cases, modes.direct(requests, task.beams), strict=True):
        if answered.error:
            raise GreamError(f"user {case.user_id!r}: {answered.error}")
        rows.append(
            {
                "user_id": case.user_id,
                "target": case.target,
                "recommendations": [one.item_id for one in answered.items],
                "scores": [one.score for one in answered.items],
                **{column: [] for column in SAMPLED},
            }
        )
    return rows


def _reason(modes: "Modes", task: Task, cases: Sequence[Case]) -> list[dict[str, Any]]:
    from gream_ext.inference.modes import Request

    requests = [Request(case.history, exclude_seen=task.exclude_seen) for case in cases]
    repeats = modes.engine.capabilities.seeds
    seeds = [user_seed(task.seed, case.user_id) for case in cases] if repeats else None
    sampled = modes.reason(requests, task.sampling, seeds)
    return [reasoned_row(modes.index, case, samples, task.beta) for case, samples in zip(cases, sampled, strict=True)]


def reasoned_row(index: ItemIndex, case: Case, samples: "Sequence[Reasoning]", beta: float) -> dict[str, Any]:
    """The row of a user: each sample scored as RL scores it, and the items that they name by votes."""
    from gream_ext.inference.modes import votes

    shortest = index.length - int((index.codes[:, -1] == NO_CODE).any())
    target = index.text(case.target)
    scored = [
        compute_score("gream", one.text, target, mode="reason", beta=beta, levels=index.length, shortest=shortest)
        for one in samples
    ]
    best = votes(samples)
    return {
        "user_id": case.user_id,
        "target": case.target,
        "recommendations": [one.item_id for one in best],
        "scores": [one.score for one in best],
        "item": [one.item_id for one in samples],
        "matched_levels": [one["matched_levels"] for one in scored],
        "reward": [one["score"] for one in scored],
        "status": [one["status"] for one in scored],
        "well_formed": [one["well_formed"] for one in scored],
        "truncated": [one.finish == "length" for one in samples],
        "tokens": [one.tokens for one in samples],
        "text": [one.text for one in samples],
    }
