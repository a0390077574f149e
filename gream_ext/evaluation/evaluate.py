"""Stage ``evaluate``: recommend to every held-out user in direct or reasoning mode, and measure."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gream_ext.errors import GreamError
from gream_ext.evaluation.baselines import check_cutoffs, popular_items
from gream_ext.inference.device import check_device
from gream_ext.inference.engines.names import ENGINE_HELP, SERVER_HELP, EngineName, check_engine
from gream_ext.stage import Stage, option
from gream_ext.workspace import Workspace

if TYPE_CHECKING:
    from gream_ext.corpus.prompt_settings import PromptSettings
    from gream_ext.data.histories import Case
    from gream_ext.evaluation.answers import Task

DIRECT_AT_ONCE = 128
"""Users of one piece of work in direct mode; after each piece an interruption costs nothing."""


@dataclass(frozen=True)
class EvaluateSettings:
    """Which model, which mode, whom, and how to decode.

    By default ``cutoffs``, ``beams``, ``temperature`` and ``top_p`` are the paper's (6.1.2) and ``n`` what its Pass@10
    needs; how long a response may be it does not say.
    """

    model: str = option("sft", help="sft, srpo or base_model of the workspace, or the folder of another model")
    mode: Literal["direct", "reason"] = option(
        "direct",
        help="beam search, or samples that reason first; one evaluation of a model, mode and split is kept: the same "
        "with other settings, such as beams, n, temperature or window, takes its place",
    )
    split: Literal["test", "valid"] = option("test", help="the interaction that is asked for")
    exclude_seen: bool = option(False, help="never recommend what stands in the user's history")
    cutoffs: tuple[int, ...] = option((1, 5, 10), least=1, help="cutoffs of recall and NDCG, k of Pass@k")
    beams: int = option(20, least=1, help="direct mode: width of the beam, and items a user")
    n: int = option(10, least=1, help="reasoning mode: samples a user")
    temperature: float = option(0.7, least=0, help="reasoning mode: temperature")
    top_p: float = option(0.9, above=0, most=1, help="reasoning mode: top-p")
    max_new_tokens: int = option(512, least=1, help="reasoning mode: longest response, in tokens")
    constrained: bool = option(True, help="reasoning mode: after <answer> only real items can be named")
    beta: float = option(0.5, above=0, most=1, help="reasoning mode: exponent of the residual reward (eq. 14)")
    window: int | None = option(
        None, least=1, help="items of a history that a prompt shows; none: as in training, or 20"
    )
    system_prompt: Literal["auto", "full", "short"] = option("auto", help="of reasoning mode; auto: as in training")
    limit: int | None = option(
        None,
        least=1,
        help="only the first users, for a trial: with files of its own, such as direct-test-first3.json, that the "
        "report leaves out; none: all",
    )
    seed: int = option(0, help="seed of the samples")
    device: str = option("auto", help="cpu, cuda, cuda:1 …; auto: cuda where there is one")
    dtype: Literal["auto", "float32", "bfloat16"] = option("auto", help="number format; auto: as saved")
    engine: EngineName = option("transformers", help=ENGINE_HELP)
    server: str | None = option(None, help=SERVER_HELP)
    processes: int = option(1, least=1, help="processes that share the users, each with the model in memory")
    threads: int | None = option(
        None, least=1, help="threads of each process; none: the cores shared out, or OMP_NUM_THREADS"
    )
    prompts_at_once: int = option(64, least=1, help="direct mode: prompts computed together")
    rows_at_once: int = option(512, least=1, help="reasoning mode: samples computed together")

    def __post_init__(self) -> None:
        if not self.constrained and self.exclude_seen and self.mode == "reason":
            raise GreamError("exclude_seen needs constrained answers in reasoning mode: leave constrained on")
        check_engine(self.engine, self.server)
        if self.engine == "sglang" and self.processes > 1:
            raise GreamError("processes must be 1 with the sglang engine, which shares its work out itself")
        check_cutoffs(self.cutoffs, self.beams if self.mode == "direct" else self.n)


def model_folder(workspace: Workspace, model: str) -> Path:
    """The folder of a model by its name in the workspace, or by its path."""
    named = workspace.model(model)
    return named if "/" not in model and (named / "config.json").exists() else Path(model)


def output(workspace: Workspace, settings: EvaluateSettings) -> Path:
    """The stem of the files; a model that is named by its path is called by its folder."""
    from gream_ext.evaluation.protocol import stem

    name = Path(settings.model).resolve().name if "/" in settings.model else settings.model
    path = stem(workspace, name, settings.mode, settings.split, settings.exclude_seen)
    return path if settings.limit is None else path.with_name(f"{path.name}-first{settings.limit}")


def run(workspace: Workspace, settings: EvaluateSettings) -> None:
    import polars as pl
    from tqdm import tqdm

    from gream_ext.data.histories import evaluation_cases, training_histories
    from gream_ext.evaluation.protocol import summarise, write_evaluation
    from gream_ext.evaluation.shards import Shards, answer_all, identity
    from gream_ext.extras.report.data import write_results
    from gream_ext.items.index import ItemIndex

    if settings.server is None:
        check_device(settings.device)
    task = make_task(workspace, settings)
    if not (task.model / "config.json").exists():
        raise GreamError(f"model {settings.model!r}: {task.model} is no model folder; train it or name another")
    index = ItemIndex.load(workspace.item_index)
    cases = evaluation_cases(workspace, settings.split)[: settings.limit]
    check_cases(cases, index)
    decoding = {name: value for name, value in asdict(settings).items() if name not in NOT_DECODING}
    if settings.engine == "sglang":
        decoding["seed"] = None  # SGLang's samples depend on the batch that they are drawn in
    about = {**decoding, **asked(task), "model": str(settings.model)}
    path = output(workspace, settings)
    shards = Shards(path, identity(about, [task.model, workspace.item_index, workspace.interactions]))

    size = DIRECT_AT_ONCE if settings.mode == "direct" else max(1, settings.rows_at_once // settings.n)
    chunks = {number: cases[begin : begin + size] for number, begin in enumerate(range(0, len(cases), size))}
    done = {number: rows for number, some in chunks.items() if (rows := shards.read(number, some)) is not None}
    with tqdm(total=len(cases), initial=sum(map(len, done.values())), unit="user", desc=settings.mode) as bar:
        missing = {number: some for number, some in chunks.items() if number not in done}
        for number, rows in answer_all(task, missing, settings.processes):
            done[number] = shards.write(number, rows)
            bar.update(len(rows))
    rows = pl.concat([done[number] for number in range(len(chunks))])
    check_rows(rows, index)
    popular = popular_items(training_histories(workspace), index.item_ids)
    figures = summarise(rows, settings.mode, settings.cutoffs, len(index), popular)
    write_evaluation(path, rows, {**about, **figures}, about)
    shards.remove()
    if settings.limit is None:
        write_results(workspace)
    shown = ("recall", "ndcg") if settings.mode == "direct" else ("pass",)
    text = ", ".join(
        f"{name}@{cutoff} {figures[f'{name}@{cutoff}']:.4f}" for name in shown for cutoff in settings.cutoffs
    )
    print(f"{_label(settings)}: {text} ({figures['users']} users)")


NOT_DECODING = (
    "processes",
    "threads",
    "prompts_at_once",
    "rows_at_once",
    "device",
    "cutoffs",
    "limit",
    "model",
    "server",
)
"""Settings that change no user's answer, and the model, which stands apart."""


def make_task(workspace: Workspace, settings: EvaluateSettings) -> "Task":
    """How the workers answer. A model is asked in the way that it was trained with."""
    from gream_ext.evaluation.answers import Task
    from gream_ext.inference.engines.base import Sampling

    threads = settings.threads
    if threads is None and "OMP_NUM_THREADS" not in os.environ:
        threads = max(1, (os.cpu_count() or 1) // settings.processes)
    return Task(
        model=model_folder(workspace, settings.model),
        item_index=workspace.item_index,
        mode=settings.mode,
        beams=settings.beams,
        sampling=Sampling(
            settings.n, settings.temperature, settings.top_p, settings.max_new_tokens, settings.constrained
        ),
        exclude_seen=settings.exclude_seen,
        prompts=prompts(model_folder(workspace, settings.model), settings),
        beta=settings.beta,
        seed=settings.seed,
        device=settings.device,
        dtype=settings.dtype,
        prompts_at_once=settings.prompts_at_once,
        rows_at_once=settings.rows_at_once,
        threads=threads,
        engine=settings.engine,
        server=settings.server,
    )


def prompts(model: Path, settings: EvaluateSettings) -> "PromptSettings":
    """As the model was trained, with what the settings say otherwise; `GreamError` where its folder does not say."""
    from gream_ext.base_model.model_format import read_format

    found = read_format(model).prompts
    if settings.window is not None:
        found = replace(found, direct_window=settings.window, reason_window=settings.window)
    return found if settings.system_prompt == "auto" else replace(found, system_prompt=settings.system_prompt)


def asked(task: "Task") -> dict[str, Any]:
    """The prompt's settings of the mode, for the summary."""
    prompts = task.prompts
    window = prompts.direct_window if task.mode == "direct" else prompts.reason_window
    return {"window": window, "system_prompt": prompts.system_prompt, "words": asdict(prompts.words)}


def check_cases(cases: "Sequence[Case]", index: Any) -> None:
    """`GreamError` when there is nobody to evaluate, or an item that the index does not know."""
    if not cases:
        raise GreamError("there is no user to evaluate: run `gream prepare` on more data")
    for case in cases:
        for item in (*case.history, case.target):
            if item not in index.position:
                raise GreamError(
                    f"user {case.user_id!r}: item {item!r} is not in the item index: build the index again"
                )


def check_rows(rows: Any, index: Any) -> None:
    """Every recommendation is a real item, and no list holds one twice; anything else is a fault of ours."""
    for user, items in rows.select("user_id", "recommendations").rows():
        if len(set(items)) != len(items) or not all(item in index.position for item in items):
            raise RuntimeError(f"user {user!r} was recommended what is no item, or an item twice: {items}")


def _reads(workspace: Workspace, settings: EvaluateSettings) -> list[Path]:
    model = model_folder(workspace, settings.model)
    if not (model / "config.json").exists():
        model = model / "config.json"  # no model folder, which `run` says: not to be read to its last file
    return [model, workspace.item_index, workspace.interactions]


def _writes(workspace: Workspace, settings: EvaluateSettings) -> list[Path]:
    from gream_ext.evaluation.protocol import files

    return files(output(workspace, settings))


def _label(settings: EvaluateSettings) -> str:
    seen = " unseen" if settings.exclude_seen else ""
    trial = "" if settings.limit is None else f" first{settings.limit}"
    return f"evaluate {settings.model} {settings.mode} {settings.split}{seen}{trial}"


STAGE = Stage(name="evaluate", settings=EvaluateSettings, run=run, reads=_reads, writes=_writes, label=_label)
