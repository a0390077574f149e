"""Encoding under Ray Data, for catalogues that outgrow one machine: shards go out, vectors come back.

Every node needs this package and the encoder at the same path; nothing else is shared. The machine that runs
`gream embed` writes the shards as they arrive, so that an interrupted run goes on like a local one.
"""

import json
import logging
import socket
from collections.abc import Sequence
from typing import Any

import numpy as np

from gream_ext.errors import GreamError
from gream_ext.items.encoders import EncoderChoice, open_encoder
from gream_ext.items.shards import Shard, encode
from gream_ext.progress import progress


class ShardEncoder:
    """What a worker of Ray Data runs: one encoder, and `shards.encode` on each shard that comes."""

    def __init__(self, choice: EncoderChoice, batch_size: int):
        self._encoder = open_encoder(*choice)
        self._batch_size = batch_size

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        vectors = [encode(self._encoder, json.loads(str(texts)), self._batch_size) for texts in batch["texts"]]
        return {"number": batch["number"], "vectors": np.array([one.tobytes() for one in vectors], dtype=object)}


def encode_with_ray(
    shards: Sequence[Shard], choice: EncoderChoice, batch_size: int, address: str | None, workers: int | None
) -> None:
    """Encode ``shards`` on the Ray cluster at ``address`` (None: one on this machine) and write each as it arrives.

    ``workers`` is how many encoders there are at once; None: one a GPU, else one a CPU.
    `GreamError` when Ray is not installed, the cluster cannot be reached or a worker fails.
    """
    try:
        import ray
        import ray.data
    except ImportError:
        raise GreamError("--engine ray needs a package: pip install 'ray[data]'") from None
    mine = not ray.is_initialized()
    if mine:
        _check_reachable(address or "local")
        local: dict[str, Any] = {} if address else {"include_dashboard": False, "num_cpus": workers}
        try:
            ray.init(address=address or "local", log_to_driver=False, logging_level=logging.WARNING, **local)
        except Exception as error:  # Ray raises nothing narrower when a node does not come up
            raise GreamError(f"--ray-address {address or 'local'}: {str(error).splitlines()[0]}") from None
    try:
        gpus = int(ray.cluster_resources().get("GPU", 0))
        each: dict[str, Any] = {"num_gpus": 1} if gpus else {"num_cpus": 1}
        workers = min(workers or gpus or int(ray.cluster_resources().get("CPU", 1)), len(shards))
        ray.data.DataContext.get_current().enable_progress_bars = False
        rows = [{"number": number, "texts": json.dumps(list(shard.texts))} for number, shard in enumerate(shards)]
        encoded = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            ShardEncoder, fn_constructor_args=(choice, batch_size), batch_size=1, concurrency=workers, **each
        )
        total = sum(len(shard.texts) for shard in shards)
        with progress(total=total, desc=f"embed on {workers}", unit=" texts") as bar:
            for batch in encoded.iter_batches(batch_size=1):
                shard = shards[int(batch["number"][0])]
                shard.write(np.frombuffer(batch["vectors"][0], dtype=np.float32).reshape(len(shard.texts), -1))
                bar.update(len(shard.texts))
    except (ray.exceptions.RayError, ray.data.exceptions.RayDataUserCodeException) as error:
        raise GreamError(f"a Ray worker failed: {_reason(error)}; what was finished is kept") from None
    finally:
        if mine:
            ray.shutdown()


def _check_reachable(address: str) -> None:
    """`GreamError` where nobody listens: Ray itself would wait for minutes and then end the process."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError as error:
        raise GreamError(f"--ray-address {address}: {error}: start the cluster, or name its head node") from None


def _reason(error: BaseException) -> str:
    """The message of the error at the bottom, in a line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    ours = [line for line in lines if "GreamError: " in line]
    return (ours or lines or [type(error).__name__])[-1].split("GreamError: ")[-1]
