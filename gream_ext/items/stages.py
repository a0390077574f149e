"""The stages from item texts to identifiers: ``embed``, ``index build``, ``index add``."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from gream_ext.errors import GreamError
from gream_ext.stage import Stage, option
from gream_ext.workspace import ITEMS, Workspace, read_table


@dataclass(frozen=True)
class EmbedSettings:
    encoder: str = option("minilm", help="minilm, wordllama, or the path of a Hugging Face model.")
    text: str = option(
        "full",
        help="full: title and enriched description, or the composite text where there is none.",
        choices=("full", "composite", "title"),
    )
    batch_size: int = option(64, least=1, help="Texts encoded at once.")
    max_tokens: int = option(512, least=1, help="Longest text, in tokens; what exceeds it is cut off.")
    shard_size: int = option(1024, least=1, help="Texts after which the work done is kept.")
    device: str = option("auto", help="auto, cpu, cuda, cuda:1 …")
    dtype: str = option("auto", help="auto is bfloat16 on a GPU.", choices=("auto", "float32", "bfloat16"))
    engine: str = option("local", help="This process, or Ray Data on many machines.", choices=("local", "ray"))
    ray_address: str | None = option(
        None, help="With --engine ray: the cluster, e.g. auto or ray://head:10001; left out, one on this machine."
    )
    workers: int | None = option(
        None, least=1, help="With --engine ray: encoders at once; left out, one a GPU, else one a CPU."
    )


def run_embed(workspace: Workspace, settings: EmbedSettings) -> None:
    from gream_ext.items.embed import EncodeShards, embed, encode_here
    from gream_ext.items.encoders import EncoderChoice

    choice = EncoderChoice(settings.encoder, settings.max_tokens, settings.device, settings.dtype)
    work: EncodeShards = partial(encode_here, choice=choice, batch_size=settings.batch_size)
    if settings.engine == "ray":
        from gream_ext.items.embed_ray import encode_with_ray

        work = partial(
            encode_with_ray,
            choice=choice,
            batch_size=settings.batch_size,
            address=settings.ray_address,
            workers=settings.workers,
        )
    embed(workspace, settings.text, choice, settings.shard_size, work)


def _embed_reads(workspace: Workspace, settings: EmbedSettings) -> Sequence[Path]:
    enriched = settings.text == "full" and workspace.enriched.exists()
    return (workspace.items, workspace.enriched) if enriched else (workspace.items,)


EMBED = Stage("embed", EmbedSettings, run_embed, _embed_reads, lambda workspace, settings: (workspace.embeddings,))


@dataclass(frozen=True)
class BuildSettings:
    levels: int = option(4, least=1, help="Levels of RQ-KMeans, without the conflict slot.")
    codebook_size: int | None = option(
        None, least=1, help="Centroids of each level; left out, it fits the catalogue (256 from about 7,000 items on)."
    )
    conflict_slot: Literal["always", "colliding", "none"] = option(
        "always",
        help="Last level that tells items with equal codes apart: for all items, those that collide, or none.",
        choices=("always", "colliding", "none"),
    )
    balance: float | None = option(
        None,
        least=1,
        help="No centroid of a level gets more than this many times its even share of the items, e.g. 1.5.",
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
        0.0,
        least=0,
        help="How much what stands near an item in training histories counts beside its text; 1: as much; 0: nothing.",
    )
    seed: int = option(0, help="Same seed, same index.")
    from_file: str | None = option(
        None, help="JSONL[.gz] with item_id and a list of codes, or NAME.index.json: take these codes, do not cluster."
    )
    from_field: str | None = option(None, help="Field of --from-file with the codes, where it has several.")


def run_build(workspace: Workspace, settings: BuildSettings) -> None:
    """Write item_index.parquet, index_quality.json and, unless the codes came from a file, codebooks.safetensors."""
    from gream_ext.items import build
    from gream_ext.items.codes_file import read_codes

    item_ids = read_table(workspace.items, ITEMS, "prepare")["item_id"].to_list()
    rows = build.sorted_rows(item_ids)
    if settings.from_file is not None:
        if settings.balance is not None or settings.reassign or settings.collaborative:
            raise GreamError("--balance, --reassign and --collaborative need vectors: they do not go with --from-file")
        codes = read_codes(Path(settings.from_file), settings.from_field, [item_ids[row] for row in rows])
        made = build.foreign_codes(codes, settings.codebook_size)
    else:
        vectors = build.read_embeddings(workspace, len(item_ids))[rows]
        if settings.collaborative:
            ordered = [item_ids[row] for row in rows]
            vectors = build.with_collaborative(workspace, vectors, ordered, settings.collaborative, settings.seed)
        made = build.clustered_codes(
            vectors,
            settings.levels,
            settings.codebook_size,
            settings.iterations,
            settings.restarts,
            settings.seed,
            settings.balance,
            settings.start,
            settings.reassign,
        )
    metadata = {
        "conflict_slot": settings.conflict_slot,
        "seed": settings.seed,
        "from_file": settings.from_file and Path(settings.from_file).name,
        "reassign": settings.reassign,
        "balance": settings.balance,
        "start": settings.start,
        **({"collaborative": settings.collaborative} if settings.collaborative else {}),
    }
    build.write_index(workspace, item_ids, made, settings.conflict_slot, settings.slot_size, metadata)


def _build_reads(workspace: Workspace, settings: BuildSettings) -> Sequence[Path]:
    files = (workspace.items, Path(settings.from_file) if settings.from_file else workspace.embeddings)
    return (*files, workspace.interactions) if settings.collaborative else files


def _build_writes(workspace: Workspace, settings: BuildSettings) -> Sequence[Path]:
    files = (workspace.item_index, workspace.path("index_quality.json"))
    return files if settings.from_file else (*files, workspace.codebooks)


BUILD = Stage("index build", BuildSettings, run_build, _build_reads, _build_writes)


@dataclass(frozen=True)
class AddSettings:
    earlier: str = option(help="Workspace with the index to extend; it is left as it is.")


def run_add(workspace: Workspace, settings: AddSettings) -> None:
    from gream_ext.items.add import add_items

    add_items(workspace, settings.earlier)


def _add_reads(workspace: Workspace, settings: AddSettings) -> Sequence[Path]:
    source = Workspace(settings.earlier)
    return source.item_index, source.codebooks, workspace.items, workspace.embeddings


def _add_writes(workspace: Workspace, settings: AddSettings) -> Sequence[Path]:
    return workspace.item_index, workspace.codebooks, workspace.path("index_quality.json")


ADD = Stage("index add", AddSettings, run_add, _add_reads, _add_writes)
