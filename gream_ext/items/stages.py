"""The stages from item texts to identifiers: ``embed``, ``index build``, ``index add``."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gream_ext.stage import Later, Stage, option
from gream_ext.workspace import Workspace


@dataclass(frozen=True)
class EmbedSettings:
    encoder: str = option("minilm", help="minilm, wordllama, or the path of a Hugging Face model.")
    text: Literal["full", "composite", "title"] = option(
        "full", help="full: title and enriched description, or the composite text where there is none."
    )
    batch_size: int = option(64, least=1, help="Texts encoded at once.")
    max_tokens: int = option(512, least=1, help="Longest text, in tokens; what exceeds it is cut off.")
    shard_size: int = option(1024, least=1, help="Texts after which the work done is kept.", machine=True)
    device: str = option("auto", help="auto, cpu, cuda, cuda:1 …", machine=True)
    dtype: Literal["auto", "float32", "bfloat16"] = option("auto", help="auto is bfloat16 on a GPU.")
    engine: Literal["local", "ray"] = option("local", help="This process, or Ray Data on many machines.", machine=True)
    ray_address: str | None = option(
        None, help="Ray's cluster, e.g. auto or ray://head:10001; none: one on this machine.", machine=True
    )
    workers: int | None = option(
        None, least=1, help="Ray's encoders at once; none: one a GPU, else one a CPU.", machine=True
    )


def _embed_reads(workspace: Workspace, settings: EmbedSettings) -> Sequence[Path]:
    enriched = settings.text == "full" and workspace.enriched.exists()
    return (workspace.items, workspace.enriched) if enriched else (workspace.items,)


EMBED = Stage(
    "embed",
    EmbedSettings,
    Later("gream_ext.items.embed:embed"),
    _embed_reads,
    lambda workspace, settings: (workspace.embeddings,),
)


@dataclass(frozen=True)
class BuildSettings:
    levels: int = option(4, least=1, help="Levels of RQ-KMeans, without the conflict slot.")
    codebook_size: int | None = option(
        None, least=1, help="Centroids of each level; left out, it fits the catalogue (256 from about 7,000 items on)."
    )
    conflict_slot: Literal["always", "colliding", "none"] = option(
        "always", help="Last level that tells items with equal codes apart: for all items, those that collide, or none."
    )
    balance: float | None = option(
        None, least=1, help="No centroid of a level gets more than this many times its even share of the items."
    )
    reassign: bool = option(
        False,
        help="Items with equal codes take other codes of the last level, as far as it has room; where it has none they "
        "get the conflict slot, or, with --conflict-slot none, the build stops.",
    )
    slot_size: int | None = option(None, least=1, help="Codes of the conflict slot; left out, twice what is needed.")
    iterations: int = option(25, least=1, help="Iterations of k-means.")
    restarts: int = option(1, least=1, help="Runs of k-means of which the best is kept.")
    start: Literal["ladder", "components"] = option(
        "ladder", help="Where k-means starts: evenly used codes (ladder), or a lower quantisation error (components)."
    )
    collaborative: float = option(
        0.0, least=0, help="How much its neighbours in training histories count beside an item's text; 1: as much."
    )
    seed: int = option(0, help="Same seed, same index.")
    from_file: str | None = option(
        None, help="JSONL[.gz] with item_id and a list of codes, or NAME.index.json: take these codes, do not cluster."
    )
    from_field: str | None = option(None, help="Field of --from-file with the codes, where it has several.")


def _build_reads(workspace: Workspace, settings: BuildSettings) -> Sequence[Path]:
    files = (workspace.items, Path(settings.from_file) if settings.from_file else workspace.embeddings)
    return (*files, workspace.interactions) if settings.collaborative else files


def _build_writes(workspace: Workspace, settings: BuildSettings) -> Sequence[Path]:
    files = (workspace.item_index, workspace.path("index_quality.json"))
    return files if settings.from_file else (*files, workspace.codebooks)


BUILD = Stage("index build", BuildSettings, Later("gream_ext.items.build:build"), _build_reads, _build_writes)


@dataclass(frozen=True)
class AddSettings:
    earlier: str = option(help="Workspace with the index to extend; it is left as it is.")


def _add_reads(workspace: Workspace, settings: AddSettings) -> Sequence[Path]:
    source = Workspace(settings.earlier)
    return source.item_index, source.codebooks, workspace.items, workspace.embeddings


def _add_writes(workspace: Workspace, settings: AddSettings) -> Sequence[Path]:
    return workspace.item_index, workspace.codebooks, workspace.path("index_quality.json")


ADD = Stage("index add", AddSettings, Later("gream_ext.items.add:add_items"), _add_reads, _add_writes)
