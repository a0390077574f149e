"""Which module declares which stage: a static table, so that naming the stages imports none of them."""

import importlib
from dataclasses import dataclass

from gream_ext.errors import GreamError, did_you_mean
from gream_ext.stage import Stage


@dataclass(frozen=True)
class Entry:
    """One row of the table: the stage as ``module:NAME``, without a name ``STAGE``, and what it does in a line."""

    module: str
    summary: str

    def load(self) -> Stage:
        """Import the module and return its stage."""
        module, _, name = self.module.partition(":")
        stage: Stage = getattr(importlib.import_module(module), name or "STAGE")
        return stage


TABLE = {
    "prepare": Entry("gream_ext.data.stages", "read interactions and items, k-core, leave-one-out"),
    "enrich": Entry("gream_ext.extras.ask.stages:ENRICH", "let an LLM rewrite the item texts"),
    "embed": Entry("gream_ext.items.stages:EMBED", "turn item texts into vectors"),
    "index build": Entry("gream_ext.items.stages:BUILD", "cluster the vectors into item identifiers"),
    "index add": Entry("gream_ext.items.stages:ADD", "give new items identifiers; the old ones keep theirs"),
    "index report": Entry("gream_ext.extras.report.stages:INDEX", "measure how good the item index is"),
    "base-model": Entry("gream_ext.base_model.stages", "make the model that knows the identifier tokens"),
    "base-model compare": Entry(
        "gream_ext.extras.inspect.stages:COMPARE", "measure how soon each initialisation of the new tokens learns"
    ),
    "corpus preferences": Entry(
        "gream_ext.extras.ask.stages:PREFERENCES", "let an LLM tell users' preferences and write search queries"
    ),
    "corpus align": Entry("gream_ext.corpus.stages:ALIGN", "write the alignment data"),
    "corpus reason": Entry("gream_ext.corpus.stages:REASON", "write the reasoning data"),
    "corpus rl": Entry("gream_ext.corpus.stages:RL", "write the prompts for reinforcement learning"),
    "corpus card": Entry(
        "gream_ext.extras.inspect.stages:CARD", "count the training data and measure their lengths in tokens"
    ),
    "corpus inspect": Entry("gream_ext.extras.inspect.stages:INSPECT", "show samples of all data"),
    "curriculum plan": Entry(
        "gream_ext.plugins.llamafactory.stages", "draw the order of the training batches without training"
    ),
    "sft": Entry("gream_ext.pipeline.sft", "supervised fine-tuning, by LLaMA-Factory"),
    "rl": Entry("gream_ext.pipeline.rl", "reinforcement learning, by Verl"),
    "evaluate": Entry("gream_ext.evaluation.stages:EVALUATE", "recommend to held-out users and measure"),
    "baselines": Entry("gream_ext.evaluation.stages:BASELINES", "measure what needs no model: popularity, Markov"),
    "baselines recbole": Entry(
        "gream_ext.extras.recbole.stages", "train and measure models of RecBole on the same splits"
    ),
    "baselines bring": Entry("gream_ext.evaluation.stages:BRING", "put a model of another workspace beside this one's"),
    "compare": Entry("gream_ext.evaluation.stages:COMPARE", "compare two models over the same users"),
    "report": Entry("gream_ext.extras.report.stages", "write report.json and report.html"),
    "recommend": Entry("gream_ext.inference.stages:RECOMMEND", "recommend to one user"),
    "serve": Entry("gream_ext.extras.serve.stages", "recommend over HTTP"),
    "export": Entry("gream_ext.inference.stages:EXPORT", "write a folder that works on another machine"),
    "doctor": Entry("gream_ext.plugins.doctor", "check the frameworks and our registrations in them"),
    "upgrade": Entry("gream_ext.pipeline.upgrade", "say how models are asked that were trained without gream"),
    "run": Entry("gream_ext.pipeline.run", "run the stages of a pipeline file"),
}


def find(name: str) -> Entry:
    """The entry called ``name``.

    Raises:
        GreamError: if there is none; the message names the nearest.
    """
    if name not in TABLE:
        raise GreamError(f"unknown stage {name!r}: {did_you_mean(name, TABLE)}")
    return TABLE[name]
