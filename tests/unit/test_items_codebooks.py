"""Codebooks on disk: whatever is wrong is named."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from gream_ext.errors import GreamError
from gream_ext.items.codebooks import load_codebooks, save_codebooks


def test_round_trip_and_every_refusal(tmp_path):
    path = tmp_path / "codebooks.safetensors"
    books = [np.arange(6, dtype=np.float32).reshape(3, 2), np.ones((2, 2), np.float32)]
    sha256 = save_codebooks(path, books)
    for made, loaded in zip(books, load_codebooks(path, (3, 2), sha256), strict=True):
        np.testing.assert_array_equal(made, loaded)
    for sizes, message in [
        ((3,), r"has codebooks \[3, 2\], \[2, 2\], its index \[3\]"),
        ((3, 2, 2), r"its index \[3, 2, 2\]"),
        ((3, 3), r"its index \[3, 3\]"),
    ]:
        with pytest.raises(GreamError, match=message):
            load_codebooks(path, sizes)
    with pytest.raises(GreamError, match="is not the file that its item index was made with"):
        load_codebooks(path, (3, 2), "0" * 64)
    save_file({"level_0": books[0] * np.nan, "level_1": books[1]}, path)
    with pytest.raises(GreamError, match="has numbers that are not finite"):
        load_codebooks(path, (3, 2))
    path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(GreamError, match="is damaged"):
        load_codebooks(path, (3, 2))
    path.unlink()
    with pytest.raises(GreamError, match="is missing"):
        load_codebooks(path, (3, 2))
