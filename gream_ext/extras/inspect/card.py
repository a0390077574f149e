"""Stage ``corpus card``: how much of what is in the training data, and how long it is for a tokenizer."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gream_ext.corpus.files import Row, read_rows
from gream_ext.errors import GreamError
from gream_ext.stage import Stage, option
from gream_ext.workspace import Workspace, write_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BATCH = 256


@dataclass(frozen=True)
class CardSettings:
    """What the card measures."""

    tokenizer: str = option("base_model", help="folder of the tokenizer, in the workspace or anywhere")
    cutoff: int = option(2048, least=1, help="cutoff_len of the training recipe: longer rows are counted")
    sample: int = option(20_000, least=0, help="rows of each task whose tokens are counted; 0: all")


@dataclass
class TaskCard:
    """What is known of one task so far."""

    kind: str
    rows: int = 0
    epochs: Counter[str] = field(default_factory=Counter)
    prompt: Counter[int] = field(default_factory=Counter)
    """How many rows have a prompt of so many tokens."""
    response: Counter[int] = field(default_factory=Counter)
    total: Counter[int] = field(default_factory=Counter)

    def as_json(self, cutoff: int) -> dict[str, Any]:
        counted = self.total.total()
        over = sum(count for length, count in self.total.items() if length > cutoff)
        return {
            "kind": self.kind,
            "rows": self.rows,
            "rows_per_epoch": dict(sorted(self.epochs.items())),
            "tokens_counted_in": counted,
            "prompt_tokens": summary(self.prompt),
            "response_tokens": summary(self.response),
            "tokens": summary(self.total),
            "histogram": histogram(self.total),
            "over_cutoff": round(over * self.rows / counted) if counted else 0,  # exact where all rows were counted
            "share_over_cutoff": round(over / counted, 6) if counted else 0.0,
        }


def summary(lengths: Counter[int]) -> dict[str, float]:
    """Least, median, 95th percentile (nearest rank), greatest, mean.

    >>> summary(Counter({10: 3, 30: 1}))
    {'least': 10, 'median': 10, 'p95': 30, 'greatest': 30, 'mean': 15.0}
    """
    if not lengths:
        return {}
    ordered, total = sorted(lengths), lengths.total()

    def rank(share: float) -> int:
        seen = 0
        for length in ordered:
            seen += lengths[length]
            if seen >= share * total:
                return length
        return ordered[-1]

    mean = sum(length * count for length, count in lengths.items()) / total
    return {
        "least": ordered[0],
        "median": rank(0.5),
        "p95": rank(0.95),
        "greatest": ordered[-1],
        "mean": round(mean, 2),
    }


def histogram(lengths: Counter[int]) -> list[list[int]]:
    """``[from, to, rows]`` over powers of two, empty bins left out.

    >>> histogram(Counter({3: 1, 5: 2}))
    [[2, 3, 1], [4, 7, 2]]
    """
    bins: Counter[int] = Counter()
    for length, count in lengths.items():
        bins[max(0, length.bit_length() - 1)] += count
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


def make_card(
    rows: Iterable[Row], tokenizer: "PreTrainedTokenizerBase | None", settings: CardSettings
) -> dict[str, Any]:
    """The card of all rows; without a tokenizer only the counts."""
    cards: dict[str, TaskCard] = {}
    waiting: dict[str, list[Row]] = defaultdict(list)

    def count(task: str) -> None:
        batch = waiting.pop(task, [])
        for prompt, response in token_lengths(batch, tokenizer) if tokenizer and batch else ():
            cards[task].prompt[prompt] += 1
            cards[task].response[response] += 1
            cards[task].total[prompt + response] += 1

    for row in rows:
        card = cards.setdefault(row["task"], TaskCard(row["kind"]))
        card.rows += 1
        card.epochs[str(row.get("epoch", "every"))] += 1
        if tokenizer and (not settings.sample or card.rows <= settings.sample):
            waiting[row["task"]].append(row)
            if len(waiting[row["task"]]) == BATCH:
                count(row["task"])
    for task in list(waiting):
        count(task)
    kinds: Counter[str] = Counter()
    for card in cards.values():
        kinds[card.kind] += card.rows
    return {
        "rows": dict(sorted(kinds.items())),
        "cutoff": settings.cutoff,
        "over_cutoff": sum(card.as_json(settings.cutoff)["over_cutoff"] for card in cards.values()),
        "tasks": {task: card.as_json(settings.cutoff) for task, card in sorted(cards.items())},
    }


def run(workspace: Workspace, settings: CardSettings) -> None:
    folder = tokenizer_folder(workspace, settings)
    if not (folder / "tokenizer_config.json").exists():
        raise GreamError(f"{folder} holds no tokenizer: run `gream base-model` first or give --tokenizer")
    from tqdm import tqdm
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    rows = (row for path, made_by in corpus_files(workspace) for row in read_rows(path, made_by))
    card = make_card(tqdm(rows, desc="corpus card", unit=" rows", mininterval=0.5), tokenizer, settings)
    card["tokenizer"] = {"folder": folder.name, "vocabulary": len(tokenizer)}
    card["rejected"] = rejected_counts(workspace)
    write_json(card_path(workspace), card)


def tokenizer_folder(workspace: Workspace, settings: CardSettings) -> Path:
    """A folder of the workspace if there is one of that name, else the path as given."""
    inside = workspace.path(settings.tokenizer)
    return inside if inside.exists() else Path(settings.tokenizer)


def rejected_counts(workspace: Workspace) -> dict[str, int]:
    """Rejected reasoning answers by reason."""
    path = workspace.corpus / "rejected.jsonl"
    if not path.exists():
        return {}
    reasons = Counter(row["reason"].partition(":")[0] for row in read_rows(path, "corpus reason"))
    return dict(sorted(reasons.items()))


def corpus_files(workspace: Workspace) -> Iterator[tuple[Path, str]]:
    """The training data that is there, each with the command that makes it."""
    found = [
        (path, command)
        for path, command in ((workspace.align, "corpus align"), (workspace.reason, "corpus reason"))
        if path.exists()
    ]
    if not found:
        raise GreamError(f"{workspace.corpus} has no training data: run `gream corpus align` first")
    yield from found


def card_path(workspace: Workspace) -> Path:
    return workspace.corpus / "card.json"


STAGE = Stage(
    name="corpus card",
    settings=CardSettings,
    run=run,
    reads=lambda workspace, settings: [path for path, _ in corpus_files(workspace)],
    writes=lambda workspace, settings: [card_path(workspace)],
)
