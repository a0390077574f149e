"""What SGLang answered, checked against the trie of whoever asked."""

import math
from typing import Any

import numpy as np
import torch

from gream_ext.decoding.checks import check_numbers
from gream_ext.decoding.ranking import Ranking
from gream_ext.decoding.trie import ItemTrie
from gream_ext.errors import GreamError
from gream_ext.inference.engines.base import Finish
from gream_ext.inference.engines.sglang_request import IMPOSSIBLE


def ranking(answer: dict[str, Any], trie: ItemTrie) -> Ranking:
    """The items of a beam search, or why it was broken off; `GreamError` for anything that is no item."""
    found, reason = answer["meta_info"].get("beam_results"), answer["meta_info"].get("finish_reason")
    if not found and reason and reason["type"] == "abort":
        return Ranking.failed(f"SGLang ended the search: {reason.get('message')}")
    if not found:
        raise GreamError(f"SGLang answered without beams: {reason}")
    scores = [one["meta_info"]["sequence_score"] for one in found]
    check_numbers(not any(score is None or math.isnan(score) for score in scores))
    # SGLang divides by the length; every beam has that of the longest identifier.
    sums = np.array(scores, dtype=np.float64) * trie.levels
    real = np.flatnonzero(sums > IMPOSSIBLE / 2)
    if not len(real):
        raise GreamError("SGLang found no item, though the catalogue of the request holds some")
    nodes = trie.walk(torch.tensor([found[place]["output_ids"] for place in real]))
    if not trie.is_complete(nodes).all():
        raise GreamError("SGLang answered with what is no item: its plug-in of gream_ext does not take part")
    return Ranking(trie.row_of(nodes).numpy(), sums[real].astype(np.float32))


def finish(answer: dict[str, Any], answer_end: int) -> Finish | None:
    """Why a response ended, None while it grows; `GreamError` when SGLang broke it off."""
    reason = answer["meta_info"]["finish_reason"]
    if reason is None:
        return None
    if reason["type"] == "abort":
        raise GreamError(f"SGLang ended a response: {reason.get('message')}")
    if reason["type"] == "length":
        return "length"
    return "answer" if answer["output_ids"][-1:] == [answer_end] else "end"
