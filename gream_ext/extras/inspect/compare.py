"""Which initialisation of the identifier tokens learns the alignment data soonest: what ``base-model compare`` does.

Every initialisation gets the same model, the same training rows in the same order and the same held-out rows; only
the new tokens' first values differ, and, unless asked otherwise, all of them have the same length.
"""

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, cast

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils import logging

from gream_ext.base_model.build import item_texts
from gream_ext.base_model.extend import extend
from gream_ext.base_model.pretrained import load_pretrained
from gream_ext.corpus.files import read_rows
from gream_ext.errors import GreamError
from gream_ext.extras.inspect.card import prompt_and_response
from gream_ext.extras.inspect.stages import COMPARISON, CompareSettings
from gream_ext.items.index import ItemIndex
from gream_ext.progress import progress
from gream_ext.workspace import Workspace, read_json, write_json

DRAWS = 4
"""Training rows, as a multiple of what a run sees, from which each seed draws its own."""
IGNORED = -100
"""The label of a token that is not learnt."""


class Lesson(NamedTuple):
    """A row as tokens: all ``ids``, of which the first ``prompt`` are not learnt."""

    ids: list[int]
    prompt: int


def compare(workspace: Workspace, settings: CompareSettings) -> None:
    """Write the losses after each run of an initialisation and seed, and print their table."""
    path, identity = workspace.path(COMPARISON), _identity(workspace, settings)
    earlier = read_json(path, "base-model compare") if path.exists() else {}
    runs: list[dict[str, Any]] = earlier["runs"] if earlier.get("identity") == identity else []
    done = {(one["initialisation"], one["seed"]) for one in runs}
    asked = [(how, seed) for seed in settings.seeds for how in settings.initialisations]
    if wanted := [one for one in asked if one not in done]:
        index = ItemIndex.load(workspace.item_index)
        texts = item_texts(workspace, index)
        logging.disable_progress_bar()
        loaded = load_pretrained(settings.base_model)
    for how, seed in wanted:
        model, tokenizer = copy.deepcopy(loaded)
        extend(model, tokenizer, index, texts, cast(Any, how), seed, settings.equal_length)
        enough = DRAWS * settings.steps * settings.batch_size
        lessons = lessons_of(workspace, tokenizer, settings.held_out, settings.longest, enough)
        identifiers = cast(list[int], tokenizer.convert_tokens_to_ids(index.vocabulary))
        losses = trial(model.float(), *lessons, settings, seed, identifiers)
        runs.append({"initialisation": how, "seed": seed, "losses": losses})
        write_json(path, {"identity": identity, "settings": _told(settings), "runs": runs})
        first, last = losses["0"]["all"], losses[str(settings.steps)]["all"]
        print(f"{how}, seed {seed}: held-out loss {first:.3f} → {last:.3f}", flush=True)
    print(table(runs, settings.steps))


def lessons_of(
    workspace: Workspace, tokenizer: PreTrainedTokenizerFast, held_out: int, longest: int, enough: int | None = None
) -> tuple[list[Lesson], list[Lesson]]:
    """Rows to train on, ``enough`` of them or all, and ``held_out`` others, of at most ``longest`` tokens.

    Always the same for the same numbers; no prompt stands on both sides. `GreamError` where there are too few rows.
    """
    rows = [row for row in read_rows(workspace.align, "corpus align") if row.get("epoch", 1) == 1]
    Random("held out").shuffle(rows)
    train, found, asked = list[Lesson](), list[Lesson](), set[str]()
    for row in rows:
        if len(train) == enough:
            break
        prompt, _ = prompt_and_response(row["messages"], tokenizer)
        before: list[int] = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        after: list[int] = tokenizer(row["messages"][-1]["content"], add_special_tokens=False)["input_ids"]
        lesson = Lesson([*before, *after, int(tokenizer.eos_token_id or 0)], len(before))
        question = row["messages"][-2]["content"]
        if len(lesson.ids) > longest:
            continue
        if len(found) < held_out:
            found.append(lesson)
            asked.add(question)
        elif question not in asked:
            train.append(lesson)
    if len(found) < held_out or not train:
        raise GreamError(
            f"{workspace.align} has {len(found) + len(train)} rows of at most {longest} tokens: "
            "lower --held-out or raise --longest"
        )
    return train, found


def batch_of(lessons: Sequence[Lesson]) -> dict[str, torch.Tensor]:
    """``input_ids``, ``attention_mask`` and ``labels``, int64 [rows, tokens], padded on the right."""
    ids = [torch.tensor(lesson.ids) for lesson in lessons]
    labels = [torch.tensor([IGNORED] * lesson.prompt + lesson.ids[lesson.prompt :]) for lesson in lessons]
    return {
        "input_ids": pad_sequence(ids, batch_first=True),
        "attention_mask": pad_sequence([torch.ones_like(one) for one in ids], batch_first=True),
        "labels": pad_sequence(labels, batch_first=True, padding_value=IGNORED),
    }


def token_losses(model: PreTrainedModel, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross entropy (nats) of each response token, float32 [tokens], and those tokens, int64 [tokens]."""
    learnt = batch["labels"][:, 1:] != IGNORED
    # The vocabulary is long: no logits where no row has a response.
    columns = learnt.any(dim=0).nonzero()[:, 0]
    output: Any = model(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], logits_to_keep=columns, use_cache=False
    )
    logits = output.logits[learnt[:, columns]].float()
    wanted = batch["labels"][:, 1:][learnt]
    return torch.nn.functional.cross_entropy(logits, wanted, reduction="none"), wanted


def held_out_loss(
    model: PreTrainedModel, lessons: Sequence[Lesson], batch_size: int, identifiers: Sequence[int] = ()
) -> dict[str, float]:
    """Nats per response token over all ``lessons``: of ``all`` tokens, of ``identifiers`` and of the other ``words``.

    Where there are none of a kind it is left out.
    """
    model.eval()
    ordered = sorted(lessons, key=lambda lesson: len(lesson.ids))
    with torch.inference_mode():
        batches = [batch_of(ordered[start : start + batch_size]) for start in range(0, len(ordered), batch_size)]
        parts = [token_losses(model, batch) for batch in batches]
    losses, wanted = (torch.cat(part) for part in zip(*parts, strict=True))
    named = torch.isin(wanted, torch.tensor(list(identifiers), dtype=torch.long))
    kinds = {"all": torch.ones_like(named), "identifiers": named, "words": ~named}
    return {kind: float(losses[which].double().mean()) for kind, which in kinds.items() if which.any()}


def trial(
    model: PreTrainedModel,
    train: Sequence[Lesson],
    held_out: Sequence[Lesson],
    settings: CompareSettings,
    seed: int,
    identifiers: Sequence[int] = (),
) -> dict[str, dict[str, float]]:
    """Held-out loss (see `held_out_loss`) before the first and after the last step of training ``model``, by step.

    All weights are trained, in place. ``identifiers`` are the ids of the identifier tokens.
    """

    def measured() -> dict[str, float]:
        with arithmetic:
            return held_out_loss(model, held_out, settings.batch_size, identifiers)

    arithmetic = torch.autocast("cpu", torch.bfloat16, enabled=in_bfloat16(settings.dtype))
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=0.01, fused=True)
    order = Random(f"compare/{seed}").sample(range(len(train)), len(train))
    losses = {"0": measured()}
    model.train()
    for step in progress(range(settings.steps), desc="train", unit=" steps"):
        rows = [train[order[(step * settings.batch_size + k) % len(order)]] for k in range(settings.batch_size)]
        with arithmetic:
            found, _ = token_losses(model, batch_of(rows))
        found.mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return {**losses, str(settings.steps): measured()}


def in_bfloat16(dtype: str) -> bool:
    """Whether to compute in bfloat16: asked for, or left to us and the CPU multiplies such numbers itself."""
    return dtype == "bfloat16" or (dtype == "auto" and bool(torch.cpu.get_capabilities().get("avx512_bf16")))


def table(runs: Sequence[dict[str, Any]], steps: int) -> str:
    """One line an initialisation and kind of token: the mean over the seeds, and from the lowest to the highest."""
    lines = [f"{'initialisation':<16}{'tokens':<12}{'step 0':>24}{f'step {steps}':>24}   held-out loss"]
    for how in dict.fromkeys(one["initialisation"] for one in runs):
        mine = [one["losses"] for one in runs if one["initialisation"] == how]
        for kind in mine[0]["0"]:
            line = f"{how:<16}{kind:<12}"
            for step in ("0", str(steps)):
                found = [losses[step][kind] for losses in mine]
                line += f"{f'{sum(found) / len(found):.3f} ({min(found):.3f}–{max(found):.3f})':>24}"
            lines.append(line)
    return "\n".join(lines)


def _told(settings: CompareSettings) -> dict[str, Any]:
    return {**asdict(settings), "base_model": Path(settings.base_model).name}


def _identity(workspace: Workspace, settings: CompareSettings) -> str:
    """What a run depends on besides its initialisation and seed, as a hash: runs of anything else are not kept."""
    shared = {key: value for key, value in _told(settings).items() if key not in ("initialisations", "seeds")}
    parts = [json.dumps(shared).encode(), workspace.align.read_bytes(), workspace.item_index.read_bytes()]
    return hashlib.sha256(b"\0".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()
