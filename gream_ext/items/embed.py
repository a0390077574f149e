"""Stage ``embed``: the vectors of all items (eqs 2–3).

Texts are encoded in the order of their length, shard by shard; a finished shard is kept, so that a run that was
interrupted goes on where it stopped.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from gream_ext.errors import GreamError
from gream_ext.items.descriptions import enriched_descriptions
from gream_ext.items.encoders import open_encoder
from gream_ext.items.shards import Shard, digest, encode, gather, plan
from gream_ext.items.text import encoded_text
from gream_ext.stage import Stage, option
from gream_ext.workspace import ITEMS, Workspace, read_table, whole

SHARDS = "embeddings.parts"


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


def run(workspace: Workspace, settings: EmbedSettings) -> None:
    """Write embeddings.npy, rows in the order of items.parquet."""
    texts = item_texts(workspace, settings.text)
    distinct = sorted(set(texts), key=lambda text: (len(text), text))
    shards = plan(distinct, settings.shard_size, _folder(workspace, settings))
    encode_missing(shards, settings)
    place = {text: number for number, text in enumerate(distinct)}
    rows = np.array([place[text] for text in texts])
    with whole(workspace.embeddings) as draft:
        width = gather(shards, rows, settings.shard_size, draft)
    shutil.rmtree(workspace.path(SHARDS))
    print(f"{len(texts):,} items, {len(distinct):,} different texts, vectors of {width} numbers")


def item_texts(workspace: Workspace, kind: str) -> list[str]:
    """What the encoder reads of each item, in the order of items.parquet."""
    items = read_table(workspace.items, ITEMS, "prepare")
    if not len(items):
        raise GreamError(f"{workspace.items} has no items: run `gream prepare` again")
    enriched = enriched_descriptions(workspace) if kind == "full" else {}
    return [encoded_text(item, kind, enriched.get(item["item_id"])) for item in items.iter_rows(named=True)]


def encode_missing(shards: Sequence[Shard], settings: EmbedSettings) -> None:
    """Encode the shards whose files are not there yet or are damaged, here or on a Ray cluster."""
    from tqdm import tqdm

    missing = [shard for shard in shards if not shard.finished()]
    if len(missing) < len(shards):
        print(f"{len(shards) - len(missing):,} of {len(shards):,} shards were finished before")
    for shard in missing:
        if shard.path.exists():
            print(f"{shard.path} is damaged: its {len(shard.texts):,} texts are encoded again")
    if missing and settings.engine == "ray":
        from gream_ext.items.embed_ray import encode_with_ray

        encode_with_ray(missing, settings)
    elif missing:
        encoder = open_encoder(settings.encoder, settings.max_tokens, settings.device, settings.dtype)
        with tqdm(total=sum(len(shard.texts) for shard in missing), desc="embed", unit="text") as progress:
            for shard in missing:
                shard.write(encode(encoder, shard.texts, settings.batch_size, progress.update))


def _folder(workspace: Workspace, settings: EmbedSettings) -> Path:
    """Where the shards of these settings are kept until all are done; how they are made does not matter."""
    about = {key: value for key, value in asdict(settings).items() if key in ("encoder", "max_tokens", "dtype")}
    # A model trained further in the same folder is another one.
    place = Path(settings.encoder)
    files = [path for path in (place, *place.glob("*"), *place.glob("*/*")) if path.is_file()]
    found = sorted((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files)
    return workspace.path(SHARDS, digest([json.dumps([about, found])]))


def _reads(workspace: Workspace, settings: EmbedSettings) -> Sequence[Path]:
    enriched = settings.text == "full" and workspace.enriched.exists()
    return (workspace.items, workspace.enriched) if enriched else (workspace.items,)


def _writes(workspace: Workspace, settings: EmbedSettings) -> Sequence[Path]:
    return (workspace.embeddings,)


STAGE = Stage(name="embed", settings=EmbedSettings, run=run, reads=_reads, writes=_writes)
