"""The folder ``base_model/``: a model with markers and identifier tokens, and the chat template it is trained with."""

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils import logging

from gream_ext import __version__
from gream_ext.base_model.chat_format import can_compare, compare
from gream_ext.base_model.embeddings import Initialisation
from gream_ext.base_model.extend import add_special_tokens, extend
from gream_ext.base_model.model_format import DEFAULT_TEMPLATE, RECORD, ModelFormat, write_format
from gream_ext.base_model.tokenizer import CHATML, IM_END, IM_START
from gream_ext.corpus.catalogue import Catalogue
from gream_ext.items.index import ItemIndex
from gream_ext.workspace import Workspace, whole


def item_texts(workspace: Workspace, index: ItemIndex) -> list[str]:
    """The words of each item, in the order of the index."""
    catalogue = Catalogue.load(workspace)
    return [catalogue[item].text or catalogue[item].title for item in index.item_ids]


def write_base_model(
    workspace: Workspace,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    settings: dict[str, Any],
    how: Initialisation,
    seed: int,
    equal_length: bool,
    template: str | None,
    dtype: str,
) -> None:
    """Extend ``model`` and ``tokenizer``, which are changed, and write them whole.

    ``settings`` are told in the record; ``how``, ``seed`` and ``equal_length`` say what stands in the rows of new
    tokens (`gream_ext.base_model.embeddings.initial_rows`); ``template`` is LLaMA-Factory's that is to train the
    model, None the one that fits; ``dtype`` the number format on disk.
    """
    logging.disable_progress_bar()
    index = ItemIndex.load(workspace.item_index)
    texts = item_texts(workspace, index)
    counts = extend(model, tokenizer, index, texts, how, seed, equal_length)
    template, told = set_chat_format(model, tokenizer, template, seed)
    if dtype != "keep":
        model = model.to(getattr(torch, dtype))
    record = {
        "kind": "base_model",
        "gream_ext": __version__,
        "settings": settings,
        "item_index_sha256": hashlib.sha256(workspace.item_index.read_bytes()).hexdigest(),
        "llamafactory_template": template,
        **counts,
        "tokens": len(tokenizer),
        "parameters": model.num_parameters(),
    }
    with whole(workspace.model("base_model")) as draft:
        model.save_pretrained(draft)
        save_tokenizer(tokenizer, draft)
        write_format(draft, ModelFormat(template=template, versions={"gream_ext": __version__}))
        (draft / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(
        f"base-model: {record['parameters']:,} parameters, {record['tokens']:,} tokens, of which {counts['new']:,} "
        f"identifier tokens and markers are new ({how}); LLaMA-Factory trains it with template {template}"
    )
    if told:
        print(f"base-model: {told}")


def set_chat_format(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, template: str | None, seed: int
) -> tuple[str | None, str | None]:
    """Let the tokenizer ask as LLaMA-Factory trains; both are changed where its own chat template differs.

    Returns:
        the name of LLaMA-Factory's template, None where it is not known, and a sentence for people.
    """
    if tokenizer.chat_template == CHATML and template in (None, DEFAULT_TEMPLATE):
        return DEFAULT_TEMPLATE, None
    if not can_compare():
        told = "LLaMA-Factory is not installed here: `gream sft` compares its prompts with this model's"
        if not tokenizer.chat_template and template in (None, DEFAULT_TEMPLATE):
            _take(model, tokenizer, CHATML, IM_END, [IM_START, IM_END], seed)
            return DEFAULT_TEMPLATE, told
        return template, told
    with tempfile.TemporaryDirectory() as folder:
        save_tokenizer(tokenizer, Path(folder))
        found = compare(Path(folder), template, add=True, name=model.name_or_path or "the base model")
    _take(model, tokenizer, found.chat_template, found.eos_token, found.new_tokens, seed)
    return found.template, found.told


def _take(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    jinja: str | None,
    end: str,
    special: list[str],
    seed: int,
) -> None:
    add_special_tokens(model, tokenizer, special, seed)
    if jinja is not None:
        tokenizer.chat_template = jinja
    if tokenizer.eos_token != end:
        tokenizer.eos_token = end
    if tokenizer.pad_token is None:
        tokenizer.pad_token = end
    # What ends a turn must end a response, too.
    settings: Any = model.generation_config
    ends = settings.eos_token_id if isinstance(settings.eos_token_id, list) else [settings.eos_token_id]
    settings.eos_token_id = sorted({tokenizer.eos_token_id, *(one for one in ends if one is not None)})


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Save in Hugging Face form, under a class name that transformers 4 and 5 both know."""
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    about = json.loads(path.read_text(encoding="utf-8"))
    if about.get("tokenizer_class") == "TokenizersBackend":
        about["tokenizer_class"] = "PreTrainedTokenizerFast"
        path.write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
