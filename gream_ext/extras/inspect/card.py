"""How much of what is in the training data, and how long it is for a tokenizer."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from gream_ext.corpus.files import Row, read_rows, rejected_path
from gream_ext.errors import GreamError
from gream_ext.extras.inspect.stages import CardSettings, card_path, counted_files
from gream_ext.progress import progress
from gream_ext.workspace import Workspace, write_json

BATCH = 256


def run(workspace: Workspace, settings: CardSettings) -> None:
    files, inside = counted_files(workspace), workspace.path(settings.tokenizer)
    folder = inside if inside.exists() else Path(settings.tokenizer)
    if not (folder / "tokenizer_config.json").exists():
        raise GreamError(f"{folder} holds no tokenizer: run `gream base-model` first or give --tokenizer")
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    rows = progress((row for file in files for row in read_rows(*file)), desc="corpus card", unit=" rows")
    card = make_card(rows, tokenizer, settings.cutoff, settings.sample)
    rejected = rejected_path(workspace)
    card["tokenizer"] = {"folder": folder.name, "vocabulary": len(tokenizer)}
    refused = read_rows(rejected, "corpus reason") if rejected.exists() else ()
    card["rejected"] = dict(sorted(Counter(row["reason"].partition(":")[0] for row in refused).items()))
    write_json(card_path(workspace), card)


def summary(lengths: Sequence[int] | np.ndarray) -> dict[str, float]:
    """Least, median, 95th percentile (nearest rank), greatest, mean.

    >>> summary([10, 10, 10, 30])
    {'least': 10, 'median': 10, 'p95': 30, 'greatest': 30, 'mean': 15.0}
    """
    if not len(lengths):
        return {}
    ranks = np.percentile(lengths, [0, 50, 95, 100], method="inverted_cdf")
    named = dict(zip(("least", "median", "p95", "greatest"), map(int, ranks), strict=True))
    return {**named, "mean": round(float(np.mean(lengths)), 2)}


def histogram(lengths: Sequence[int] | np.ndarray) -> list[list[int]]:
    """``[from, to, rows]`` over powers of two, empty bins left out.

    >>> histogram([3, 5, 5])
    [[2, 3, 1], [4, 7, 2]]
    """
    bins = Counter(max(0, int(length).bit_length() - 1) for length in lengths)
    return [[2**power, 2 ** (power + 1) - 1, bins[power]] for power in sorted(bins)]


def prompt_and_response(messages: list[dict[str, str]], tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    """A row as text, with the chat template where the tokenizer has one."""
    *asked, answer = messages
    if tokenizer.chat_template:
        prompt = str(tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True))
        return prompt, str(tokenizer.apply_chat_template(messages, tokenize=False)).removeprefix(prompt)
    return "\n".join(message["content"] for message in asked) + "\n", answer["content"]


def token_lengths(rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> list[tuple[int, int]]:
    """Tokens of prompt and response of each row."""
    texts = [text for row in rows for text in prompt_and_response(row["messages"], tokenizer)]
    lengths = [len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]
    return list(zip(lengths[::2], lengths[1::2], strict=True))


def task_card(kind: str, epochs: Counter[str], lengths: Sequence[tuple[int, int]], cutoff: int) -> dict[str, Any]:
    """What is known of a task: rows by epoch, and tokens of prompt and response in the rows that were counted."""
    prompt, response = np.array(lengths, dtype=np.int64).reshape(-1, 2).T
    total = prompt + response
    over, rows = float((total > cutoff).mean()) if len(total) else 0.0, epochs.total()
    return {
        "kind": kind,
        "rows": rows,
        "rows_per_epoch": dict(sorted(epochs.items())),
        "tokens_counted_in": len(total),
        "prompt_tokens": summary(prompt),
        "response_tokens": summary(response),
        "tokens": summary(total),
        "histogram": histogram(total),
        "over_cutoff": round(over * rows),  # exact where all rows were counted
        "share_over_cutoff": round(over, 6),
    }


def make_card(
    rows: Iterable[Row], tokenizer: PreTrainedTokenizerBase | None, cutoff: int, sample: int = 0
) -> dict[str, Any]:
    """The card of all rows; tokens of the first ``sample`` of each task (0: all), without a tokenizer of none."""
    kinds: dict[str, str] = {}
    epochs: dict[str, Counter[str]] = defaultdict(Counter)
    lengths: dict[str, list[tuple[int, int]]] = defaultdict(list)
    waiting: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        task = row["task"]
        kinds.setdefault(task, row["kind"])
        epochs[task][str(row.get("epoch", "every"))] += 1
        if tokenizer and (not sample or epochs[task].total() <= sample):
            waiting[task].append(row)
            if len(waiting[task]) == BATCH:
                lengths[task] += token_lengths(waiting.pop(task), tokenizer)
    for task, left in waiting.items():
        lengths[task] += token_lengths(left, tokenizer) if tokenizer and left else []
    tasks = {task: task_card(kinds[task], epochs[task], lengths[task], cutoff) for task in sorted(kinds)}
    totals: Counter[str] = Counter()
    for card in tasks.values():
        totals[card["kind"]] += card["rows"]
    over = sum(card["over_cutoff"] for card in tasks.values())
    return {"rows": dict(sorted(totals.items())), "cutoff": cutoff, "over_cutoff": over, "tasks": tasks}
