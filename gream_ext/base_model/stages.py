"""Stage ``base-model``: a small Qwen3 from scratch or any causal LM, with markers and identifier tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gream_ext.corpus.stages import corpus_reads
from gream_ext.errors import GreamError
from gream_ext.stage import Later, Stage, option
from gream_ext.workspace import Workspace


@dataclass(frozen=True)
class BaseModelSettings:
    """Which model, and how large where it is made from scratch."""

    base_model: str | None = option(
        None,
        help="Hugging Face causal LM, by its folder or name on the hub (Qwen/Qwen3-4B-Instruct-2507), a .gguf file, "
        "or smollm2; none: a small Qwen3 from scratch",
    )
    template: str | None = option(
        None,
        help="LLaMA-Factory's template that it will be trained with; none: the one that writes what the model's chat "
        "template does, qwen3_nothink for a model without one",
    )
    initialisation: Literal["random", "mean", "semantic"] = option(
        "semantic", help="new rows: spread like the old ones, at their middle, or from the text of the items of a code"
    )
    equal_length: bool = option(False, help="scale every new row to the median length of the old ones")
    dtype: Literal["keep", "float32", "bfloat16"] = option("keep", help="number format that the model is saved in")
    trust_remote_code: bool = option(False, help="run code that comes with the base model")
    vocabulary_size: int = option(
        3072, least=300, help="from scratch: tokens of the BPE, identifier tokens not counted"
    )
    across_words: bool = option(True, help="from scratch: a token may span words, fixed phrases become one token")
    hidden_size: int = option(128, least=1, help="from scratch: width")
    layers: int = option(4, least=1, help="from scratch: layers")
    heads: int = option(4, least=1, help="from scratch: attention heads")
    kv_heads: int = option(2, least=1, help="from scratch: heads of keys and values")
    intermediate_size: int = option(384, least=1, help="from scratch: width of the feed-forward layers")
    attention_dropout: float = option(
        0.0, least=0, most=1, help="from scratch: dropout of attention weights in training"
    )
    tied: bool = option(True, help="from scratch: input and output share their embeddings")
    longest: int = option(2048, least=1, help="from scratch: longest sequence, in tokens")
    seed: int = option(0, help="seed of everything random")

    def __post_init__(self) -> None:
        if self.hidden_size % self.heads or self.heads % self.kv_heads:
            raise GreamError(
                f"hidden_size {self.hidden_size} must be a multiple of heads {self.heads}, and heads of kv_heads "
                f"{self.kv_heads}"
            )


def lesson_rows(workspace: Workspace) -> Path:
    """The rows whose text the tokenizer is trained on: reasoning data, or alignment data where there are no others."""
    return workspace.align if workspace.align.exists() and not workspace.reason.exists() else workspace.reason


def _reads(workspace: Workspace, settings: BaseModelSettings) -> Sequence[Path]:
    paths = [path for path in corpus_reads(workspace) if path != workspace.interactions]
    return paths if settings.base_model else [*paths, lesson_rows(workspace)]


STAGE = Stage(
    name="base-model",
    settings=BaseModelSettings,
    run=Later("gream_ext.base_model.commands:run"),
    reads=_reads,
    writes=lambda workspace, settings: [workspace.model("base_model")],
)
