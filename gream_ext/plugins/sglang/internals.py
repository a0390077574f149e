"""The names of SGLang that we rely on, most of them private: the one place to look at for a new version."""

import importlib.metadata

from gream_ext.errors import GreamError
from gream_ext.plugins.relied_on import Names, ReliedOn

SUPPORTED = ("0.5.23",)
"""Versions of SGLang that the tests run with; no other is hooked."""

GROUP = "sglang.srt.plugins"

NAMES: Names = {
    "beams": {
        "sglang.srt.plugins.hook_registry": {
            "HookRegistry.register": ("target", "hook", "hook_type"),
            "HookType.AROUND": (),
        },
        "sglang.srt.beam_search.coordinator": {
            "_rows_topk_logprobs": ("pieces", "num_candidates"),
            "BeamCoordinator.validate_and_init": ("self", "req", "recv_req"),
            "BeamCoordinator.retire_group": ("self", "req"),
            "BeamCoordinator._select_group": ("self", "group", "top_logprobs", "top_tokens", "tick"),
        },
        "sglang.srt.managers.schedule_batch": {"FINISH_ABORT": ("message", "status_code", "err_type")},
    },
    "answers": {
        "sglang.srt.constrained.base_grammar_backend": {
            "BaseGrammarBackend.get_cached_or_future_value": ("self", "key", "require_reasoning"),
            "BaseGrammarObject.accept_token": ("self", "token"),
            "BaseGrammarObject.rollback": ("self", "k"),
            "BaseGrammarObject.is_terminated": ("self",),
            "BaseGrammarObject.fill_vocab_mask": ("self", "vocab_mask", "idx"),
            "InvalidGrammarObject": ("error_message",),
        },
        "sglang.srt.constrained.xgrammar_backend": {
            "XGrammarGrammar.allocate_vocab_mask": ("self", "vocab_size", "batch_size", "device"),
            "XGrammarGrammar.move_vocab_mask": ("vocab_mask", "device"),
            "XGrammarGrammar.apply_vocab_mask": ("self", "logits", "vocab_mask"),
        },
    },
}
_SGLANG = ReliedOn("SGLang", "sglang", SUPPORTED, NAMES)
version = _SGLANG.version


def check(part: str | None = None) -> None:
    """Raise `GreamError` unless this SGLang is supported and all names of a part (None: of every part) are there."""
    if unsupported := _SGLANG.unsupported():
        raise GreamError(f"{unsupported}, or use the transformers engine")
    for name in NAMES if part is None else (part,):
        _SGLANG.check(name)


def entry_point_problem() -> str:
    """A sentence when SGLang would not find our entry point, else ``""``."""
    names = {one.name for one in importlib.metadata.entry_points(group=GROUP)}
    return "" if "gream" in names else f"gream-ext has no entry point in {GROUP}: install gream-ext again"
