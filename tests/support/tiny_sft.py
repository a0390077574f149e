"""A tiny Qwen3 with its tokenizer, a tiny corpus, and LLaMA-Factory's launcher: what the integration tests train."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from gream_ext.corpus.prompt_settings import write_sidecar
from gream_ext.corpus.words import PRODUCT
from gream_ext.plugins.llamafactory.log import read_log
from tests.support.processes import kill

HOLD = Path(__file__).with_name("hold")
WORDS = [f"<|{level}_{code}|>" for level in "abcde" for code in range(8)]
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def make_model(folder: Path, hidden: int = 32, layers: int = 2, vocabulary: int = 320, dropout: float = 0.0) -> Path:
    """A randomly initialised Qwen3 with a byte-level tokenizer that knows `WORDS`; always the same."""
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    base = ByteLevelBPETokenizer()
    base.train_from_iterator(["user system assistant history next"], vocab_size=vocabulary, min_frequency=1)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=base._tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    tokenizer.add_tokens(WORDS)
    tokenizer.chat_template = CHAT_TEMPLATE
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=hidden, intermediate_size=2 * hidden, num_hidden_layers=layers,
        num_attention_heads=2, num_key_value_heads=1, head_dim=hidden // 2, max_position_embeddings=512,
        tie_word_embeddings=True, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        attention_dropout=dropout,
    )  # fmt: skip
    Qwen3ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_rows(kind: str, count: int, epoch: int | None = None, seed: int = 0, items: int = 3) -> list[dict[str, Any]]:
    """Rows in the form of the corpus: a history of items, and the next one."""
    rng = random.Random(f"{kind} {epoch} {seed}")
    rows = []
    for _ in range(count):
        words = ["".join(rng.choice(WORDS) for _ in range(4)) for _ in range(rng.randint(1, items) + 1)]
        answer = words[-1] if kind == "align" else f"{words[0]} then {words[-1]}"
        messages = [{"role": "user", "content": ", ".join(words[:-1])}, {"role": "assistant", "content": answer}]
        row: dict[str, Any] = {"kind": kind, "task": "next", "messages": messages}
        rows.append(row if epoch is None else {**row, "epoch": epoch})
    return rows


def write_corpus(folder: Path, align: list[dict[str, Any]], reason: list[dict[str, Any]]) -> Path:
    """Both kinds, each also in the format sharegpt, and 60 rows of general data in the format alpaca."""
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant",
            "system_tag": "system"}  # fmt: skip
    info = {}
    folder.mkdir(parents=True, exist_ok=True)
    for kind, rows in {"align": align, "reason": reason}.items():
        (folder / f"{kind}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        write_sidecar(folder / f"{kind}.jsonl", 20, PRODUCT)
        for name, formatting in {kind: f"gream_{kind}", f"{kind}_plain": "sharegpt"}.items():
            info[name] = {"file_name": f"{kind}.jsonl", "formatting": formatting, "columns": {"messages": "messages"},
                          "tags": tags}  # fmt: skip
    general = [{"instruction": "Say it.", "input": "", "output": words} for words in ("Yes", "No", "Hello")] * 20
    (folder / "general.json").write_text(json.dumps(general))
    (folder / "dataset_info.json").write_text(json.dumps({**info, "general": {"file_name": "general.json"}}))
    return folder


def settings(model: Path, corpus: Path, output: Path, **keys: Any) -> dict[str, Any]:
    """The keys of a training YAML; ``keys`` overrides."""
    return {
        "model_name_or_path": str(model), "dataset_dir": str(corpus), "dataset": "align,reason",
        "template": "qwen3_nothink", "stage": "sft", "do_train": True, "finetuning_type": "full", "cutoff_len": 127,
        "output_dir": str(output), "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2,
        "learning_rate": 1e-3, "num_train_epochs": 3, "logging_steps": 1, "save_strategy": "no", "report_to": "none",
        "use_cpu": True, "bf16": False, "fp16": False, "seed": 7, "disable_tqdm": True, "overwrite_cache": True, **keys,
    }  # fmt: skip


def launcher(keys: dict[str, Any]) -> list[str]:
    """The unmodified launcher's command line for these keys."""
    config = Path(keys["output_dir"]).with_suffix(".yaml")
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(yaml.safe_dump(keys))
    return [str(Path(sys.executable).with_name("llamafactory-cli")), "train", str(config)]


def train(keys: dict[str, Any], processes: int = 1, check: bool = True, **environment: str) -> str:
    """Run ``llamafactory-cli train`` with these keys; returns what it printed."""
    return _run(launcher(keys), environment_of(Path(keys["output_dir"]).parent, processes) | environment, check)


def train_all(runs: list[dict[str, Any]], **environment: str) -> str:
    """Several runs in one process, to import LLaMA-Factory once; what the launcher calls, without the launcher.

    The formats of datasets that import torchvision are broken there, as they are with torchvision 0.26 on a GPU.
    """
    code = (
        "import json, sys\nfrom llamafactory.train.tuner import run_exp\n"
        "from datasets.formatting import np_formatter, torch_formatter\n"
        "del np_formatter.NumpyFormatter._tensorize, torch_formatter.TorchFormatter._tensorize\n"
        "for keys in json.load(sys.stdin): run_exp(keys)"
    )
    folder = Path(runs[0]["output_dir"]).parent
    return _run([sys.executable, "-c", code], environment_of(folder) | environment, True, json.dumps(runs))


def train_and_kill(keys: dict[str, Any], checkpoint: int, processes: int = 1) -> None:
    """Launch a training and ``kill -9`` all its processes between this checkpoint and the next.

    It is held where it would begin to write the next one, so it cannot end before it is killed.
    """
    output = Path(keys["output_dir"])
    coming = output / f"checkpoint-{checkpoint + keys['save_steps']}"
    held = output / f"{coming.name}.held"
    environment = environment_of(output.parent, processes)
    environment["PYTHONPATH"] = os.pathsep.join([str(HOLD), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    with output.with_suffix(".log").open("w") as log:
        run = subprocess.Popen(
            launcher(keys), env=environment | {"GREAM_TEST_HOLD": str(coming)}, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        while not held.exists():
            assert run.poll() is None, output.with_suffix(".log").read_text()[-6000:]
            time.sleep(0.05)
    finally:
        kill(run)
    held.unlink()
    assert (output / f"checkpoint-{checkpoint}" / "trainer_state.json").exists() and not coming.exists()


def _run(command: list[str], environment: dict[str, str], check: bool, given: str | None = None) -> str:
    run = subprocess.run(
        command, env=environment, input=given, text=True, timeout=600, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert run.returncode == 0 or not check, run.stdout[-6000:]
    return run.stdout


def environment_of(folder: Path, processes: int = 1) -> dict[str, str]:
    bin_folder = str(Path(sys.executable).parent)
    launch = {"FORCE_TORCHRUN": "1", "NPROC_PER_NODE": str(processes)} if processes > 1 else {}
    return os.environ | {
        "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1", "KMP_BLOCKTIME": "0",
        "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(folder / "cache"), **launch,
    }  # fmt: skip


def losses(output: Path) -> list[float]:
    """The loss of each step, as the trainer logged it."""
    history = json.loads((output / "trainer_state.json").read_text())["log_history"]
    return [entry["loss"] for entry in history if "loss" in entry]


def short_curriculum(root: Path, name: str, **keys: Any) -> dict[str, Any]:
    """The keys of a training of 4 rows a step, one curriculum epoch and a uniform one; writes what it needs."""
    if not (root / "model").exists():
        make_model(root / "model")
        write_corpus(root / "corpus", make_rows("align", 22), make_rows("reason", 10))
    chosen = {"gream_curriculum": True, "gream_curriculum_epochs": 1, "num_train_epochs": 2, **keys}
    return settings(root / "model", root / "corpus", root / name, **chosen)


def assert_same_training(one: Path, other: Path) -> None:
    """Both kinds were trained, in the same steps and with the same losses but for rounding."""
    what = ("step", "epoch", "kind", "phase", "planned", "align_rows", "reason_rows")
    ours, theirs = read_log(one), read_log(other)
    assert [[line[name] for name in what] for line in ours] == [[line[name] for name in what] for line in theirs]
    assert [line["loss"] for line in ours] == pytest.approx([line["loss"] for line in theirs], rel=1e-4)
    assert {line["kind"] for line in ours} == {"align", "reason"}
