"""LLaMA-Factory as on a GPU machine: torch for CUDA, and torchvision, which the CPU environment takes out."""

from pathlib import Path

from gream_ext.plugins.llamafactory.log import read_log
from gream_ext.workspace import Workspace
from tests.gpu_env.conftest import Run
from tests.support import tiny_sft


def test_doctor_then_two_steps_of_the_curriculum(sft: Run, tmp_path: Path) -> None:
    built = "import torch, torchvision.io, deepspeed; print('cuda', torch.version.cuda)"
    assert "cuda 13.0" in sft("python", "-c", built)
    said = sft("gream", "doctor").splitlines()
    assert any(line.split() == ["two", "steps", "of", "SFT", "in", "place"] for line in said), said

    workspace = Workspace(tmp_path / "workspace")
    tiny_sft.make_model(workspace.model("base_model"))
    tiny_sft.write_corpus(workspace.corpus, tiny_sft.make_rows("align", 2), tiny_sft.make_rows("reason", 2))
    keys = ["cutoff_len=127", "num_train_epochs=1", "gream_curriculum_epochs=1", "per_device_train_batch_size=2"]
    sft("gream", "sft", "--workspace", str(workspace.root), "--recipe", "sft_curriculum", "--overrides", *keys)
    assert (workspace.model("sft") / "model.safetensors").exists()
    assert sorted(step["kind"] for step in read_log(workspace.model("sft"))) == ["align", "reason"]
