"""Stage ``base-model``: a small Qwen3 from scratch or any causal LM, with markers and identifier tokens."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from gream_ext import __version__
from gream_ext.errors import GreamError
from gream_ext.stage import Stage, option
from gream_ext.workspace import Workspace, whole

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast


TEMPLATE = "qwen3_nothink"
RECORD = "gream_base_model.json"
"""In the model's folder: what made it."""


@dataclass(frozen=True)
class BaseModelSettings:
    """Which model, and how large where it is made from scratch."""

    base_model: str | None = option(
        None, help="folder of a Hugging Face causal LM, a .gguf file, or smollm2; none: a small Qwen3 from scratch"
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


def start(workspace: Workspace, settings: BaseModelSettings) -> "tuple[PreTrainedModel, PreTrainedTokenizerFast]":
    """Model and tokenizer before identifier tokens are added."""
    if settings.base_model is not None:
        return load_pretrained(settings)
    from gream_ext.base_model.scratch import small_qwen3, tokenizer_texts
    from gream_ext.base_model.tokenizer import chat_tokenizer, train_bpe

    bpe = train_bpe(tokenizer_texts(workspace), settings.vocabulary_size, settings.across_words)
    tokenizer = chat_tokenizer(bpe, settings.longest)
    return small_qwen3(tokenizer, settings), tokenizer


def load_pretrained(settings: BaseModelSettings) -> "tuple[PreTrainedModel, PreTrainedTokenizerFast]":
    """A model from disk; nothing is ever fetched."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from gream_ext.base_model.gguf import SMOLLM2, load_gguf, smollm2_file

    path = smollm2_file() if settings.base_model == SMOLLM2 else Path(str(settings.base_model)).expanduser()
    if path.suffix == ".gguf" and path.is_file():
        return load_gguf(path)
    if not (path / "config.json").is_file():
        raise GreamError(f"base_model {path} is neither a folder with a config.json, nor a .gguf file, nor {SMOLLM2!r}")
    trust: dict[str, Any] = {"trust_remote_code": settings.trust_remote_code, "local_files_only": True}
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, **trust)
        model = AutoModelForCausalLM.from_pretrained(path, dtype="auto", **trust)
    except (OSError, ValueError) as error:
        raise GreamError(f"base_model {path} cannot be loaded: {str(error).splitlines()[0]}") from None
    if not tokenizer.is_fast:
        raise GreamError(f"base_model {path} has a slow tokenizer: save it with tokenizer.json first")
    return cast("PreTrainedModel", model), cast("PreTrainedTokenizerFast", tokenizer)


def run(workspace: Workspace, settings: BaseModelSettings) -> None:
    from transformers.utils import logging

    from gream_ext.base_model.extend import extend
    from gream_ext.corpus.catalogue import Catalogue
    from gream_ext.items.index import ItemIndex

    index = ItemIndex.load(workspace.item_index)
    catalogue = Catalogue.load(workspace)
    texts = [catalogue[item].text or catalogue[item].title for item in index.item_ids]
    logging.disable_progress_bar()
    model, tokenizer = start(workspace, settings)
    counts = extend(model, tokenizer, index, texts, settings.initialisation, settings.seed, settings.equal_length)
    if settings.dtype != "keep":
        import torch

        model = model.to(getattr(torch, settings.dtype))
    with whole(workspace.model("base_model")) as draft:
        model.save_pretrained(draft)
        save_tokenizer(tokenizer, draft)
        about = {**record(workspace, settings), **counts, "parameters": model.num_parameters()}
        (draft / RECORD).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    print(
        f"base-model: {about['parameters']:,} parameters, {counts['tokens']:,} tokens, of which {counts['new']:,} "
        f"identifier tokens and markers are new ({settings.initialisation})"
    )


def save_tokenizer(tokenizer: "PreTrainedTokenizerFast", folder: Path) -> None:
    """Save in Hugging Face form, under a class name that transformers 4 and 5 both know."""
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    about = json.loads(path.read_text(encoding="utf-8"))
    if about.get("tokenizer_class") == "TokenizersBackend":
        about["tokenizer_class"] = "PreTrainedTokenizerFast"
        path.write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def record(workspace: Workspace, settings: BaseModelSettings) -> dict[str, Any]:
    """What made the model; paths are told by their last part only."""
    told = asdict(settings)
    if settings.base_model is not None:
        told["base_model"] = Path(settings.base_model).name
    return {
        "kind": "base_model",
        "gream_ext": __version__,
        "settings": told,
        "item_index_sha256": hashlib.sha256(workspace.item_index.read_bytes()).hexdigest(),
        # The template that writes what this tokenizer's chat template does; another model brings its own.
        "llamafactory_template": TEMPLATE if chatml_is_ours(settings) else None,
    }


def chatml_is_ours(settings: BaseModelSettings) -> bool:
    """Whether the tokenizer, and so its chat template, was put together here."""
    name = settings.base_model
    return name is None or name == "smollm2" or name.endswith(".gguf")


def base_model_reads(workspace: Workspace, settings: BaseModelSettings) -> Sequence[Path]:
    from gream_ext.corpus.stages import corpus_reads

    paths = [path for path in corpus_reads(workspace) if path != workspace.interactions]
    from gream_ext.base_model.scratch import lesson_rows

    return paths if settings.base_model else [*paths, lesson_rows(workspace)]


STAGE = Stage(
    name="base-model",
    settings=BaseModelSettings,
    run=run,
    reads=base_model_reads,
    writes=lambda workspace, settings: [workspace.model("base_model")],
)
