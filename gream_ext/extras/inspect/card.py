"""How much of what is in the training data, and how long it is for a tokenizer."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gream_ext.corpus.files import Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BATCH = 256


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


def token_lengths(rows: Sequence[Row], tokenizer: "PreTrainedTokenizerBase") -> list[tuple[int, int]]:
    """Tokens of prompt and response of each row, with the chat template where the tokenizer has one."""
    prompts, responses = [], []
    for row in rows:
        messages = row["messages"]
        if tokenizer.chat_template:
            asked = tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)
            whole = tokenizer.apply_chat_template(messages, tokenize=False)
        else:
            asked = "\n".join(message["content"] for message in messages[:-1]) + "\n"
            whole = asked + messages[-1]["content"]
        prompts.append(str(asked))
        responses.append(str(whole).removeprefix(str(asked)))
    ids = tokenizer([*prompts, *responses], add_special_tokens=False)["input_ids"]
    return [(len(ids[row]), len(ids[len(rows) + row])) for row in range(len(rows))]


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
    rows: Iterable[Row], tokenizer: "PreTrainedTokenizerBase | None", cutoff: int, sample: int = 0
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


def fault_counts(rejected: Iterable[Row]) -> dict[str, int]:
    """Rejected answers by reason."""
    return dict(sorted(Counter(row["reason"].partition(":")[0] for row in rejected).items()))
