"""The stage ``embed``: the vectors of all items (eqs 2–3).

Texts are encoded in the order of their length, shard by shard; a finished shard is kept, so that a run that was
interrupted goes on where it stopped.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gream_ext.errors import GreamError
from gream_ext.items.embed_ray import encode_with_ray
from gream_ext.items.encoders import EncoderChoice, open_encoder
from gream_ext.items.shards import Shard, digest, encode, gather, plan
from gream_ext.items.stages import EmbedSettings
from gream_ext.items.text import encoded_text, enriched_descriptions
from gream_ext.progress import progress
from gream_ext.workspace import ITEMS, Workspace, read_table, whole

SHARDS = "embeddings.parts"


def embed(workspace: Workspace, settings: EmbedSettings) -> None:
    """Write embeddings.npy, rows in the order of items.parquet."""
    choice = EncoderChoice(settings.encoder, settings.max_tokens, settings.device, settings.dtype)
    texts = item_texts(workspace, settings.text)
    distinct = sorted(set(texts), key=lambda one: (len(one), one))
    shards = plan(distinct, settings.shard_size, _folder(workspace, choice))
    missing = [shard for shard in shards if not shard.finished()]
    if len(missing) < len(shards):
        print(f"{len(shards) - len(missing):,} of {len(shards):,} shards were finished before")
    for shard in missing:
        if shard.path.exists():
            print(f"{shard.path} is damaged: its {len(shard.texts):,} texts are encoded again")
    if missing and settings.engine == "ray":
        encode_with_ray(missing, choice, settings.batch_size, settings.ray_address, settings.workers)
    elif missing:
        encode_here(missing, choice, settings.batch_size)
    row_of = {one: number for number, one in enumerate(distinct)}
    rows = np.array([row_of[one] for one in texts])
    with whole(workspace.embeddings) as draft:
        width = gather(shards, rows, settings.shard_size, draft)
    shutil.rmtree(workspace.path(SHARDS))
    print(f"{len(texts):,} items, {len(distinct):,} different texts, vectors of {width} numbers")


def item_texts(workspace: Workspace, kind: str) -> list[str]:
    """What the encoder reads of each item, in the order of items.parquet; ``kind`` is that of `encoded_text`."""
    items = read_table(workspace.items, ITEMS, "prepare")
    if not len(items):
        raise GreamError(f"{workspace.items} has no items: run `gream prepare` again")
    enriched = enriched_descriptions(workspace) if kind == "full" else {}
    return [encoded_text(item, kind, enriched.get(item["item_id"])) for item in items.iter_rows(named=True)]


def encode_here(shards: Sequence[Shard], choice: EncoderChoice, batch_size: int) -> None:
    """Encode the shards in this process and write each when it is finished."""
    encoder = open_encoder(*choice)
    with progress(total=sum(len(shard.texts) for shard in shards), desc="embed", unit=" texts") as bar:
        for shard in shards:
            shard.write(encode(encoder, shard.texts, batch_size, bar.update))


def _folder(workspace: Workspace, choice: EncoderChoice) -> Path:
    """Where the shards of this encoder are kept until all are done; on which device they are made does not matter."""
    about = {"encoder": choice.name, "max_tokens": choice.max_tokens, "dtype": choice.dtype}
    # A model trained further in the same folder is another one.
    place = Path(choice.name)
    files = [path for path in (place, *place.glob("*"), *place.glob("*/*")) if path.is_file()]
    found = sorted((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files)
    return workspace.path(SHARDS, digest([json.dumps([about, found])]))
