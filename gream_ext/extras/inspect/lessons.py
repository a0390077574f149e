"""Rows of alignment data as tokens, and the loss on their responses."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from gream_ext.corpus.files import Row, read_rows
from gream_ext.errors import GreamError
from gream_ext.workspace import Workspace

IGNORED = -100


@dataclass(frozen=True)
class Lesson:
    """A row as tokens: all ``ids``, of which the first ``prompt`` are not learnt."""

    ids: list[int]
    prompt: int


def lessons_of(
    workspace: Workspace, tokenizer: PreTrainedTokenizerFast, held_out: int, longest: int, enough: int | None = None
) -> tuple[list[Lesson], list[Lesson]]:
    """Rows to train on, ``enough`` of them or all, and ``held_out`` others, of at most ``longest`` tokens.

    Always the same for the same numbers.

    No prompt stands on both sides. `GreamError` where there are too few rows.
    """
    rows = [row for row in read_rows(workspace.align, "corpus align") if row.get("epoch", 1) == 1]
    Random("held out").shuffle(rows)
    found: list[Lesson] = []
    asked: set[str] = set()
    train: list[Lesson] = []
    for row in rows:
        if len(train) == enough:
            break
        lesson = _lesson(tokenizer, row)
        if len(lesson.ids) > longest:
            continue
        question = row["messages"][-2]["content"]
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


def _lesson(tokenizer: PreTrainedTokenizerFast, row: Row) -> Lesson:
    *asked, answer = row["messages"]
    if tokenizer.chat_template:
        prompt = str(tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True))
    else:
        prompt = "\n".join(message["content"] for message in asked) + "\n"
    before: list[int] = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    after: list[int] = tokenizer(answer["content"], add_special_tokens=False)["input_ids"]
    return Lesson([*before, *after, int(tokenizer.eos_token_id or 0)], len(before))


def batch_of(lessons: Sequence[Lesson]) -> dict[str, torch.Tensor]:
    """``input_ids``, ``attention_mask`` and ``labels``, int64 [rows, tokens], padded on the right."""
    longest = max(len(lesson.ids) for lesson in lessons)
    ids = torch.zeros(len(lessons), longest, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, IGNORED)
    for row, lesson in enumerate(lessons):
        ids[row, : len(lesson.ids)] = torch.tensor(lesson.ids)
        mask[row, : len(lesson.ids)] = 1
        labels[row, lesson.prompt : len(lesson.ids)] = torch.tensor(lesson.ids[lesson.prompt :])
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def token_losses(model: PreTrainedModel, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross entropy (nats) of each response token, float32 [tokens], and those tokens, int64 [tokens]."""
    learnt = batch["labels"][:, 1:] != IGNORED
    # The vocabulary is long: no logits where no row has a response.
    places = learnt.any(dim=0).nonzero()[:, 0]
    output: Any = model(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], logits_to_keep=places, use_cache=False
    )
    logits = output.logits[learnt[:, places]].float()
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
    parts = []
    with torch.inference_mode():
        for start in range(0, len(ordered), batch_size):
            parts.append(token_losses(model, batch_of(ordered[start : start + batch_size])))
    losses, wanted = (torch.cat(part) for part in zip(*parts, strict=True))
    named = torch.isin(wanted, torch.tensor(list(identifiers), dtype=torch.long))
    kinds = {"all": torch.ones_like(named), "identifiers": named, "words": ~named}
    return {kind: float(losses[which].double().mean()) for kind, which in kinds.items() if which.any()}
