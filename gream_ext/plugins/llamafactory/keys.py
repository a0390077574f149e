"""Our keys of a training YAML, declared here and nowhere else, and the keys of LLaMA-Factory that they exclude.

LLaMA-Factory's arguments (`arguments`), the reader of recipes (`recipe`) and the table in docs/curriculum.md, which
``python -m gream_ext.plugins.llamafactory.keys`` prints, all follow from this file. It imports no framework.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, ClassVar, Literal, get_type_hints

from gream_ext.curriculum import ALIGN, REASON, CurriculumSettings
from gream_ext.errors import GreamError, did_you_mean
from gream_ext.plugins.demand import demand, is_number, is_whole

PREFIX = "gream_"
GENERAL = -1
"""Kind of a row of data that are neither alignment nor reasoning data; trained among alignment rows."""

Rule = tuple[str, Callable[[Any], bool]]
"""What a value must be, in words, and whether it is."""
SWITCH: Rule = ("true or false", lambda value: isinstance(value, bool))
WHOLE: Rule = ("a whole number, 0 or more", is_whole)
NUMBER: Rule = ("a number, 0 or more", is_number)
PART: Rule = ("a number above 0 and at most 1", lambda value: is_number(value) and 0 < value <= 1)
BELOW_ONE: Rule = ("a number, 0 or more and below 1", lambda value: is_number(value) and value < 1)
OPTIONAL: Rule = (WHOLE[0], lambda value: value is None or is_whole(value))


def _either(*values: str) -> Rule:
    return " or ".join(values), lambda value: value in values


def _key(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass
class CurriculumKeys:
    """The keys with their defaults, which are the paper's; `GreamError` for a wrong value."""

    gream_curriculum: Annotated[bool, SWITCH] = _key(
        False, "Order the training data by the curriculum; without it LLaMA-Factory trains as usual."
    )
    gream_curriculum_epochs: Annotated[int, WHOLE] = _key(
        2, "How many epochs, from the first, insert reasoning batches; the others mix uniformly."
    )
    gream_gamma: Annotated[float, NUMBER] = _key(
        1.5, "γ, the pace of the insertion. 0: all reasoning batches at the end."
    )
    gream_batch_unit: Annotated[Literal["step", "micro"], _either("step", "micro")] = _key(
        "step", "What a batch is: an optimizer step, or micro, one forward pass over all processes."
    )
    gream_uniform_unit: Annotated[Literal["batch", "sample"], _either("batch", "sample")] = _key(
        "batch", "What uniform mixing permutes: batches of one kind, or sample, single rows."
    )
    gream_align_share: Annotated[float, PART] = _key(
        1.0, "Replay: train this share of each epoch's alignment rows, drawn by the seed."
    )
    gream_general_share: Annotated[float, BELOW_ONE] = _key(
        0.0, "Share of each epoch's rows that is drawn from general data and trained as alignment rows."
    )
    gream_sort_rows: Annotated[bool, SWITCH] = _key(
        True, "Sort the rows of a step from short to long: less padding, the same gradient."
    )
    gream_seed: Annotated[int | None, OPTIONAL] = _key(None, "Seed of the order; by default data_seed, or else seed.")
    gream_validate_users: Annotated[int, WHOLE] = _key(
        0, "Measure Recall@10 in direct mode on so many validation users, and keep the best model. 0: do not."
    )
    gream_validate_steps: Annotated[int | None, OPTIONAL] = _key(
        None, "Steps between two measurements; by default a tenth of all. The last step is always measured."
    )
    gream_validate_patience: Annotated[int, WHOLE] = _key(
        0, "End the training after so many measurements in a row without a better one. 0: never."
    )

    gream_workspace: ClassVar[str] = ""
    """No key: `arguments` says here whose validation users are asked."""

    def __post_init__(self) -> None:
        hints = get_type_hints(CurriculumKeys, include_extras=True)
        for key in (one.name for one in fields(CurriculumKeys)):
            wanted, right = hints[key].__metadata__[0]
            demand(key, getattr(self, key), right(getattr(self, key)), wanted)

    def order(
        self, *, epochs: int, step_rows: int, accumulated: int, data_seed: int | None, seed: int
    ) -> CurriculumSettings:
        """The settings of the order for optimizer steps of ``step_rows`` rows, in so many forward passes each."""
        passes = accumulated if self.gream_batch_unit == "micro" else 1
        return CurriculumSettings(
            epochs=epochs,
            batch_rows=step_rows // passes,
            curriculum_epochs=self.gream_curriculum_epochs,
            gamma=float(self.gream_gamma),
            batches_per_step=passes,
            uniform_unit=self.gream_uniform_unit,
            seed=next(int(one) for one in (self.gream_seed, data_seed, seed) if one is not None),
        )


UNTOLD = (
    "is neither alignment nor reasoning data: give it formatting gream_align or gream_reason in dataset_info.json, or "
    "set gream_general_share to mix its rows into the alignment batches"
)
ALONE = "remove one of them"
LOST = "it drops or repeats rows of some epochs"
OFF = ("streaming", "disable_shuffling", "group_by_length", "auto_find_batch_size", "ignore_data_skip", "use_mca",
       "use_hyper_parallel", "accelerator_config.split_batches", "accelerator_config.dispatch_batches")  # fmt: skip
GOES_WITH: Mapping[str, tuple[Any, str]] = {
    "stage": ("sft", ALONE),
    "train_sampling_strategy": ("random", ALONE),
    "mix_strategy": ("concat", f"{LOST}; gream_align_share and gream_general_share say how much of what is mixed"),
    "max_samples": (None, f"{LOST}, for files stand epoch by epoch; max_steps shortens a run"),
    "val_size": (0, f"{LOST}; name held-out rows in eval_dataset"),
    **dict.fromkeys(OFF, (False, ALONE)),
}
"""Key of LLaMA-Factory → the one value with which the order is kept, and why or what to do."""


def refuse_unknown(given: Mapping[str, Any]) -> None:
    """`GreamError` for a key that looks like ours and is none."""
    ours = [one.name for one in fields(CurriculumKeys)]
    for key in given:
        if str(key).startswith(PREFIX) and key not in ours:
            raise GreamError(f"unknown key {key}: {did_you_mean(key, ours)}")


def refuse(arguments: Mapping[str, Any]) -> None:
    """`GreamError` when LLaMA-Factory's arguments, or the keys of a recipe, would not keep the order."""
    for key, (kept, why) in GOES_WITH.items():
        value: Any = arguments
        for step in key.split("."):
            value = value.get(step) if isinstance(value, Mapping) else getattr(value, step, None)
        if value is not None and value != kept:
            shown = str(value).lower() if isinstance(value, bool) else value
            raise GreamError(f"gream_curriculum does not go together with {key}: {shown}: {why}")
    epochs = arguments["num_train_epochs"]
    if epochs != int(epochs) or epochs < 1:
        raise GreamError(f"gream_curriculum does not go together with num_train_epochs: {epochs}: {ALONE}")
    if arguments["gream_curriculum_epochs"] > epochs:
        raise GreamError(
            f"gream_curriculum_epochs: {arguments['gream_curriculum_epochs']} is more than num_train_epochs: {epochs:g}"
        )


def dataset_kinds(datasets: Mapping[str, Mapping[str, Any]], general_share: float) -> dict[str, int]:
    """Kind of the rows of each data set, from its entry in dataset_info.json: `ALIGN`, `REASON` or `GENERAL`.

    Raises:
        GreamError: if LLaMA-Factory would not hand on all rows of one, or if general data and their share do not agree.
    """
    kinds = {}
    for name, entry in datasets.items():
        kinds[name] = {"gream_align": ALIGN, "gream_reason": REASON}.get(entry.get("formatting") or "", GENERAL)
        cut = kinds[name] != GENERAL and "[" in (entry.get("split") or "")
        for key in [*(["num_samples"] if entry.get("num_samples") is not None else []), *(["split"] if cut else [])]:
            raise GreamError(
                f"gream_curriculum does not go together with {key}: {entry[key]} of {name} in dataset_info.json: {LOST}"
            )
    general = [name for name, kind in kinds.items() if kind == GENERAL]
    if general and not general_share:
        raise GreamError(f"dataset {general[0]} {UNTOLD}")
    if general_share and not general:
        raise GreamError("gream_general_share needs a dataset of general data, whose formatting is none of ours")
    return kinds


def table() -> str:
    """The keys in Markdown."""
    lines = ["| key of the YAML | default | |", "|---|---|---|"]
    for one in fields(CurriculumKeys):
        default = "" if one.default is None else f"`{str(one.default).lower()}`"
        lines.append(f"| `{one.name}` | {default} | {one.metadata['help']} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(), end="")
