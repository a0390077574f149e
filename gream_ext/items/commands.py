"""What ``embed``, ``index build`` and ``index add`` do."""

from functools import partial
from pathlib import Path

from gream_ext.errors import GreamError
from gream_ext.items import build
from gream_ext.items.add import add_items
from gream_ext.items.codes_file import read_codes
from gream_ext.items.embed import EncodeShards, embed, encode_here
from gream_ext.items.embed_ray import encode_with_ray
from gream_ext.items.encoders import EncoderChoice
from gream_ext.items.stages import AddSettings, BuildSettings, EmbedSettings
from gream_ext.workspace import ITEMS, Workspace, read_table


def run_embed(workspace: Workspace, settings: EmbedSettings) -> None:
    choice = EncoderChoice(settings.encoder, settings.max_tokens, settings.device, settings.dtype)
    work: EncodeShards = partial(encode_here, choice=choice, batch_size=settings.batch_size)
    if settings.engine == "ray":
        work = partial(
            encode_with_ray,
            choice=choice,
            batch_size=settings.batch_size,
            address=settings.ray_address,
            workers=settings.workers,
        )
    embed(workspace, settings.text, choice, settings.shard_size, work)


def run_build(workspace: Workspace, settings: BuildSettings) -> None:
    """Write item_index.parquet, index_quality.json and, unless the codes came from a file, codebooks.safetensors."""
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


def run_add(workspace: Workspace, settings: AddSettings) -> None:
    add_items(workspace, settings.earlier)
