import json

from gream_ext.plugins.rl_metrics import earlier, keep_earlier, read


def write(path, *steps, **data):
    path.write_text("".join(json.dumps({"step": step, "data": {"run": 1, **data}}) + "\n" for step in steps))


def test_reads_the_steps_in_order(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert read(path) == []
    write(path, 1, 2)
    assert read(path) == [{"step": 1, "run": 1}, {"step": 2, "run": 1}]


def test_an_interrupted_run_that_goes_on_is_one_run(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, 1, 2, 3, reward=0.1)
    with path.open("a") as file:
        file.write('{"step": 4, "da')  # killed while it was writing
    keep_earlier(path, resuming=True)
    write(path, 3, 4, reward=0.2)
    assert [(line["step"], line["reward"]) for line in read(path)] == [(1, 0.1), (2, 0.1), (3, 0.2), (4, 0.2)]
    keep_earlier(path, resuming=True)
    keep_earlier(path, resuming=True)
    write(path, 5, reward=0.3)
    assert [line["reward"] for line in read(path)] == [0.1, 0.1, 0.2, 0.2, 0.3]


def test_a_run_that_begins_anew_forgets_what_another_left_and_loses_none_of_it(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, 1)
    keep_earlier(path, resuming=True)
    write(path, 2)
    keep_earlier(path, resuming=False)
    assert [row["step"] for row in read(tmp_path / "metrics.1.jsonl")] == [1, 2]
    assert not earlier(path).exists()
    write(path, 1, reward=0.5)  # as verl's logger does, which begins its file anew
    assert [row["step"] for row in read(path)] == [1]
    keep_earlier(path, resuming=False)
    assert read(tmp_path / "metrics.2.jsonl") == read(path)
    assert len(read(tmp_path / "metrics.1.jsonl")) == 2


def test_starting_in_vain_deletes_nothing_and_keeps_nothing_twice(tmp_path):
    path = tmp_path / "metrics.jsonl"
    keep_earlier(path, resuming=False)
    assert not list(tmp_path.iterdir())
    write(path, 1, 2)
    before = path.read_text()
    for _ in range(3):
        keep_earlier(path, resuming=False)
    assert path.read_text() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["metrics.1.jsonl", "metrics.jsonl"]


def test_validation_before_training_joins_the_step_it_was_done_at(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, 2, reward=0.1)
    keep_earlier(path, resuming=True)
    path.write_text(json.dumps({"step": 2, "data": {"val": 0.5}}) + "\n")
    assert read(path) == [{"step": 2, "run": 1, "reward": 0.1, "val": 0.5}]
