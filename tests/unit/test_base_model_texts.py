"""What text the tokenizer of a model from scratch is trained on."""

from pathlib import Path

from gream_ext.base_model.scratch import tokenizer_texts
from gream_ext.base_model.stages import lesson_rows
from gream_ext.corpus.files import row, write_rows
from gream_ext.corpus.prompt_settings import write_sidecar
from gream_ext.corpus.words import PRODUCT
from tests.support.synthetic import make_workspace


def test_alignment_rows_take_the_place_of_reasoning_rows_that_nobody_wants(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    assert lesson_rows(workspace) == workspace.reason
    write_rows(workspace.align, [row("align", "next", None, [{"role": "user", "content": "quixotic zebra"}])], 1, "")
    write_sidecar(workspace.align, 20, PRODUCT)
    assert lesson_rows(workspace) == workspace.align
    assert "quixotic zebra" in list(tokenizer_texts(workspace, lesson_rows(workspace)))
    write_rows(workspace.reason, [row("reason", "reason", None, [{"role": "user", "content": "so"}])], 1, "")
    write_sidecar(workspace.reason, 20, PRODUCT, "full")
    assert "quixotic zebra" not in list(tokenizer_texts(workspace, lesson_rows(workspace)))
