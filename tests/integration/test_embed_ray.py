"""`gream embed --engine ray` on a local cluster: the same vectors, resumed like a local run."""

import numpy as np
import pytest

from gream_ext.errors import GreamError
from gream_ext.items import embed
from gream_ext.items.shards import Shard, gather
from gream_ext.items.stages import EMBED, EmbedSettings
from tests.integration.test_encoders import causal_lm  # noqa: F401
from tests.support.synthetic import make_workspace

ray = pytest.importorskip("ray")
pytest.importorskip("ray.data")
pytestmark = pytest.mark.integration


def test_ray_gives_the_vectors_of_a_local_run(tmp_path, causal_lm, monkeypatch):  # noqa: F811
    workspace = make_workspace(tmp_path / "a run", users=20, items=40)
    settings = {"encoder": str(causal_lm), "shard_size": 7, "batch_size": 3}
    EMBED.run(workspace, EmbedSettings(**settings))
    expected = np.load(workspace.embeddings)
    workspace.embeddings.unlink()
    written = []
    keep = Shard.write

    def failing(shard, vectors):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(shard.path)
        keep(shard, vectors)

    monkeypatch.setattr(Shard, "write", failing)
    with pytest.raises(KeyboardInterrupt):
        EMBED.run(workspace, EmbedSettings(**settings, engine="ray", workers=2))
    monkeypatch.setattr(Shard, "write", keep)
    assert not ray.is_initialized() and all(path.exists() for path in written)
    stamps = [path.stat().st_mtime_ns for path in written]
    # A cluster that is there is used and left.
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        seen = []

        def looking(*arguments):
            seen.extend(path.stat().st_mtime_ns for path in written)
            return gather(*arguments)

        monkeypatch.setattr(embed, "gather", looking)
        EMBED.run(workspace, EmbedSettings(**settings, engine="ray"))
        assert ray.is_initialized() and seen == stamps
        np.testing.assert_allclose(np.load(workspace.embeddings), expected, atol=1e-5)
        with pytest.raises(GreamError, match="a Ray worker failed: --encoder nowhere: neither"):
            EMBED.run(workspace, EmbedSettings(encoder="nowhere", engine="ray"))
    finally:
        ray.shutdown()


def test_a_cluster_that_is_not_there(tmp_path):
    workspace = make_workspace(tmp_path / "run", users=8, items=16)
    with pytest.raises(GreamError, match=r"--ray-address 127\.0\.0\.1:1"):
        EMBED.run(workspace, EmbedSettings(encoder="wordllama", engine="ray", ray_address="127.0.0.1:1"))
