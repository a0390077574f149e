"""The trials of ``base-model compare``: one model an initialisation, trained on the same rows in the same order."""

import copy
import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from transformers import PreTrainedModel
from transformers.utils import logging

from gream_ext.base_model.build import item_texts
from gream_ext.base_model.extend import extend
from gream_ext.base_model.pretrained import load_pretrained
from gream_ext.extras.inspect.lessons import Lesson, batch_of, held_out_loss, lessons_of, token_losses
from gream_ext.items.index import ItemIndex
from gream_ext.progress import progress
from gream_ext.workspace import Workspace, read_json, write_json

if TYPE_CHECKING:
    from gream_ext.extras.inspect.initialisations import CompareSettings

DRAWS = 4
"""Training rows, as a multiple of what a run sees, from which each seed draws its own."""


def compare(workspace: Workspace, settings: "CompareSettings", path: Path) -> None:
    """Write ``path``, after each run of an initialisation and seed, and print its table."""
    identity = _identity(workspace, settings)
    earlier = read_json(path, "base-model compare") if path.exists() else {}
    runs: list[dict[str, Any]] = earlier["runs"] if earlier.get("identity") == identity else []
    done = {(one["initialisation"], one["seed"]) for one in runs}
    asked = [(how, seed) for seed in settings.seeds for how in settings.initialisations]
    wanted = [one for one in asked if one not in done]
    if not wanted:
        print(table(runs, settings.steps))
        return
    index = ItemIndex.load(workspace.item_index)
    texts = item_texts(workspace, index)
    logging.disable_progress_bar()
    loaded = load_pretrained(settings.base_model)
    enough = DRAWS * settings.steps * settings.batch_size
    for how, seed in wanted:
        model, tokenizer = copy.deepcopy(loaded)
        extend(model, tokenizer, index, texts, cast(Any, how), seed, settings.equal_length)
        lessons = lessons_of(workspace, tokenizer, settings.held_out, settings.longest, enough)
        identifiers = cast(list[int], tokenizer.convert_tokens_to_ids(index.vocabulary))
        losses = trial(model.float(), *lessons, settings, seed, identifiers)
        runs.append({"initialisation": how, "seed": seed, "losses": losses})
        write_json(path, {"identity": identity, "settings": _told(settings), "runs": runs})
        first, last = losses["0"]["all"], losses[str(settings.steps)]["all"]
        print(f"{how}, seed {seed}: held-out loss {first:.3f} → {last:.3f}", flush=True)
    print(table(runs, settings.steps))


def trial(
    model: PreTrainedModel,
    train: Sequence[Lesson],
    held_out: Sequence[Lesson],
    settings: "CompareSettings",
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
    order = random.Random(f"compare/{seed}").sample(range(len(train)), len(train))
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
    losses[str(settings.steps)] = measured()
    return losses


def in_bfloat16(dtype: str) -> bool:
    """Whether to compute in bfloat16: asked for, or left to us and the CPU multiplies such numbers itself."""
    return dtype == "bfloat16" or (dtype == "auto" and bool(torch.cpu.get_capabilities().get("avx512_bf16")))


def table(runs: Sequence[dict[str, Any]], steps: int) -> str:
    """One line an initialisation and kind of token: the mean over the seeds, and from the lowest to the highest."""
    lines = [f"{'initialisation':<16}{'tokens':<12}{'step 0':>24}{f'step {steps}':>24}   held-out loss"]
    for how in dict.fromkeys(one["initialisation"] for one in runs):
        mine = [one["losses"] for one in runs if one["initialisation"] == how]
        for kind in mine[0]["0"]:
            cells = []
            for step in ("0", str(steps)):
                found = [losses[step][kind] for losses in mine]
                cells.append(f"{sum(found) / len(found):.3f} ({min(found):.3f}–{max(found):.3f})")
            lines.append(f"{how:<16}{kind:<12}{cells[0]:>24}{cells[1]:>24}")
    return "\n".join(lines)


def _told(settings: "CompareSettings") -> dict[str, Any]:
    return {**asdict(settings), "base_model": Path(settings.base_model).name}


def _identity(workspace: Workspace, settings: "CompareSettings") -> str:
    """What a run depends on besides its initialisation and seed, as a hash: runs of anything else are not kept."""
    shared = {key: value for key, value in _told(settings).items() if key not in ("initialisations", "seeds")}
    parts = [json.dumps(shared).encode(), workspace.align.read_bytes(), workspace.item_index.read_bytes()]
    return hashlib.sha256(b"\0".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()
