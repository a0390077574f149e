"""Direct mode: beam search over real identifiers, as many steps as they have levels."""

from collections.abc import Sequence

import numpy as np
import torch

from gream_ext.decoding.beam_step import IMPOSSIBLE, Asked, decode
from gream_ext.decoding.checks import NOTHING_ALLOWED, check_numbers
from gream_ext.decoding.graphs import captured_search
from gream_ext.decoding.language_model import LanguageModel
from gream_ext.decoding.prior import Prior
from gream_ext.decoding.ranking import Normalisation, Ranking
from gream_ext.decoding.restriction import Restrictions, SubCatalogue
from gream_ext.decoding.trie import ItemTrie
from gream_ext.errors import ModelFault


@torch.inference_mode()
def search(
    model: LanguageModel,
    trie: ItemTrie,
    prompts: Sequence[Sequence[int]],
    beams: int,
    parts: Sequence[SubCatalogue | None] | None = None,
    normalisation: Normalisation = "catalogue",
    static: bool | None = None,
    prior: Prior | None = None,
) -> list[Ranking]:
    """The ``beams`` likeliest items after each prompt (token ids, none empty).

    Each prompt is computed once. ``parts`` limits each request to a sub-catalogue; one that holds
    nothing fails alone, the others are answered. `ModelFault` where the logits are no numbers, or give no allowed item
    any probability.

    ``static``: all beams are computed, so that shapes are known beforehand and nothing is read back between the
    prompts and the end: what a GPU wants, and there a search that is asked for again is captured as a CUDA graph.
    Otherwise what is certain is not computed, which on a CPU is less work. None: as the device wants it. Both give the
    same items, in float32 with the same scores within rounding; in bfloat16 scores depend a little on which requests
    stand together, and near ties may change places.

    ``prior`` has a mass of every item for each prompt, by which beams are guided and items scored; no graph then.
    """
    trie = trie.to(model.device)
    parts = list(parts) if parts is not None else [None] * len(prompts)
    sizes = Restrictions.of(trie, parts).sizes
    served = np.flatnonzero(sizes > 0).tolist()
    answers = [Ranking.failed(NOTHING_ALLOWED) for _ in prompts]
    if not served:
        return answers
    asked = Asked(
        [prompts[request] for request in served], [parts[request] for request in served], beams, normalisation
    )
    if static is None:
        static = model.device.type != "cpu" and model.traits.shares_prompts
    guide = None if prior is None else prior.take(served).on(trie, asked.parts)
    if static and guide is None and model.device.type == "cuda":
        nodes, scores = captured_search(model, trie, asked)
    else:
        nodes, scores = decode(model, trie, *asked.tensors(trie), beams, normalisation, static, guide)
    rows, found = trie.rows[trie.begin[nodes.clamp(min=0)]].cpu().numpy(), scores.cpu().numpy()
    check_numbers(not np.isnan(found).any())
    for place, request in enumerate(served):
        real = found[place] != IMPOSSIBLE
        if not real.any():
            raise ModelFault(
                "the model's logits are minus infinity for every allowed item: its training diverged, or its weights "
                "are damaged"
            )
        answers[request] = Ranking(rows[place][real].astype(np.int64), found[place][real])
    return answers
