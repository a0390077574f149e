"""Stage ``embed``: the vectors of all items (eqs 2–3).

Texts are encoded in the order of their length, shard by shard; a finished shard is kept, so that a run that was
interrupted goes on where it stopped.
"""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from gream_ext.errors import GreamError
from gream_ext.items.encoders import Encoder, open_encoder
from gream_ext.items.enrich import enriched_descriptions
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
    batch_size: int = option(64, help="Texts encoded at once.")
    max_tokens: int = option(512, help="Longest text, in tokens; what exceeds it is cut off.")
    shard_size: int = option(1024, help="Texts after which the work done is kept.")
    device: str = option("auto", help="auto, cpu, cuda, cuda:1 …")
    dtype: str = option("auto", help="auto is bfloat16 on a GPU.", choices=("auto", "float32", "bfloat16"))


def run(workspace: Workspace, settings: EmbedSettings) -> None:
    """Write embeddings.npy, rows in the order of items.parquet."""
    if min(settings.batch_size, settings.max_tokens, settings.shard_size) < 1:
        raise GreamError("--batch-size, --max-tokens and --shard-size must be at least 1")
    texts = item_texts(workspace, settings.text)
    encoder = open_encoder(settings.encoder, settings.max_tokens, settings.device, settings.dtype)
    distinct = sorted(set(texts), key=lambda text: (len(text), text))
    shards = encode_shards(encoder, distinct, settings.batch_size, settings.shard_size, _shards(workspace, settings))
    place = {text: number for number, text in enumerate(distinct)}
    rows = np.array([place[text] for text in texts])
    with whole(workspace.embeddings) as draft:
        _gather(shards, rows, settings.shard_size, (len(texts), encoder.width), draft)
    shutil.rmtree(workspace.path(SHARDS))
    print(f"{len(texts):,} items, {len(distinct):,} different texts, vectors of {encoder.width} numbers")


def item_texts(workspace: Workspace, kind: str) -> list[str]:
    """What the encoder reads of each item, in the order of items.parquet."""
    items = read_table(workspace.items, ITEMS, "prepare")
    if not len(items):
        raise GreamError(f"{workspace.items} has no items: run `gream prepare` again")
    enriched = enriched_descriptions(workspace) if kind == "full" else {}
    return [encoded_text(item, kind, enriched.get(item["item_id"])) for item in items.iter_rows(named=True)]


def encode_shards(encoder: Encoder, texts: Sequence[str], batch_size: int, shard_size: int, folder: Path) -> list[Path]:
    """Encode ``texts`` into files of ``shard_size`` vectors in ``folder``, passing over those that are there.

    Texts of like length should stand together. Each shard is float32 [up to shard_size, width]; its name has a
    hash of its texts, so that a shard of other texts is never taken for it.
    """
    from tqdm import tqdm

    shards = []
    with tqdm(total=len(texts), desc="embed", unit="text") as progress:
        for start in range(0, len(texts), shard_size):
            part = texts[start : start + shard_size]
            shard = folder / f"{start:09d}-{_digest(part)}.npy"
            shards.append(shard)
            if not shard.exists():
                vectors = np.empty((len(part), encoder.width), dtype=np.float32)
                for first in range(0, len(part), batch_size):
                    batch = part[first : first + batch_size]
                    vectors[first : first + len(batch)] = encoder.encode(batch)
                    progress.update(len(batch))
                if not np.isfinite(vectors).all():
                    text = part[int(np.argmin(np.isfinite(vectors).all(axis=1)))]
                    raise GreamError(f"the encoder gave no finite vector for {text[:60]!r}: try --dtype float32")
                with whole(shard) as draft:
                    np.save(draft, vectors)
            else:
                progress.update(len(part))
    return shards


def _gather(shards: Sequence[Path], rows: np.ndarray, shard_size: int, shape: tuple[int, int], path: Path) -> None:
    """Bring the vectors of all shards into the order of the items, with one shard in memory at a time."""
    vectors = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    for number, shard in enumerate(shards):
        mine = np.flatnonzero(rows // shard_size == number)
        vectors[mine] = np.load(shard)[rows[mine] - number * shard_size]
    vectors.flush()


def _shards(workspace: Workspace, settings: EmbedSettings) -> Path:
    """Where the shards of these settings are kept until all are done."""
    return workspace.path(SHARDS, _digest([json.dumps(asdict(settings))]))


def _digest(parts: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _reads(workspace: Workspace, settings: EmbedSettings) -> Sequence[Path]:
    enriched = settings.text == "full" and workspace.enriched.exists()
    return (workspace.items, workspace.enriched) if enriched else (workspace.items,)


def _writes(workspace: Workspace, settings: EmbedSettings) -> Sequence[Path]:
    return (workspace.embeddings,)


STAGE = Stage(name="embed", settings=EmbedSettings, run=run, reads=_reads, writes=_writes)
