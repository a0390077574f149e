import itertools
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gream_ext.rewards import STATUSES, AnswerFormat, compute_score, extract_identifier, matched_levels, residual_reward

TARGET = "<|a_1|><|b_2|><|c_3|><|d_4|><|e_0|>"
LEVELS = ("<|a_1|>", "<|b_2|>", "<|c_3|>", "<|d_4|>", "<|e_0|>")
THOUGHT = "<think>\nStep 1: likes drama.\n</think>\nthe recommended product is "


def answered(identifier: str) -> str:
    return f"{THOUGHT}<answer>{identifier}</answer>"


def score(text, **options):
    return compute_score("gream", text, TARGET, {"mode": "reason"}, **options)


@pytest.mark.parametrize(
    ("predicted", "target", "matched"),
    [((), (), 0), ("abc", "abc", 3), ("abx", "abc", 2), ("xbc", "abc", 0), ("ab", "abc", 2), ("abcd", "abc", 3)],
)
def test_matched_levels(predicted, target, matched):
    assert matched_levels(tuple(predicted), tuple(target)) == matched


@given(st.lists(st.integers(0, 2), max_size=6), st.lists(st.integers(0, 2), max_size=6))
def test_matched_levels_is_the_largest_k_of_equation_13(predicted, target):
    slow = max(k for k in range(min(len(predicted), len(target)) + 1) if predicted[:k] == target[:k])
    assert matched_levels(predicted, target) == slow


def test_residual_reward_by_hand():
    assert [residual_reward(matched, 4) for matched in range(5)] == pytest.approx([0, 0.5, 0.70710678, 0.8660254, 1])
    assert residual_reward(2, 5, beta=1.0) == pytest.approx(0.4)
    assert residual_reward(5, 5) == 1.0


@given(st.integers(1, 30), st.floats(0.01, 1))
def test_each_level_pays_no_more_than_the_one_before(levels, beta):
    rewards = [residual_reward(matched, levels, beta) for matched in range(levels + 1)]
    gains = [after - before for before, after in itertools.pairwise(rewards)]
    assert all(gain > 0 for gain in gains)
    assert all(later <= earlier + 1e-12 for earlier, later in itertools.pairwise(gains))


@pytest.mark.parametrize(
    ("matched", "levels", "beta"), [(1, 4, 0), (1, 4, 1.1), (5, 4, 0.5), (-1, 4, 0.5), (0, 0, 0.5)]
)
def test_residual_reward_refuses(matched, levels, beta):
    with pytest.raises(ValueError, match="must be"):
        residual_reward(matched, levels, beta)


@pytest.mark.parametrize(
    ("text", "status", "matched"),
    [
        (answered(TARGET), "exact", 5),
        (answered(f" \n{TARGET}\t"), "exact", 5),
        (f"{answered(TARGET)} and that is all", "exact", 5),
        (f"<answer>{TARGET}</answer>", "exact", 5),
        (answered("<|a_1|><|b_2|><|c_3|><|d_4|><|e_1|>"), "partial", 4),
        (answered("<|a_1|><|b_9|><|c_3|><|d_4|><|e_0|>"), "partial", 1),
        (answered("<|a_9|><|b_2|><|c_3|><|d_4|><|e_0|>"), "different", 0),
        (answered("<|a_1|><|b_2|><|c_3|><|d_4|>"), "wrong_length", 0),
        (answered(TARGET + "<|f_0|>"), "wrong_length", 0),
        (answered(""), "empty_answer", 0),
        (answered("  \n"), "empty_answer", 0),
        (answered(f"the item {TARGET}"), "not_an_identifier", 0),
        (answered(f"{TARGET}, {TARGET}"), "not_an_identifier", 0),
        (answered("<|b_2|><|a_1|><|c_3|><|d_4|><|e_0|>"), "not_an_identifier", 0),
        (answered("<|a_1|> <|b_2|><|c_3|><|d_4|><|e_0|>"), "not_an_identifier", 0),
        (answered("<|a_01|><|b_2|><|c_3|><|d_4|><|e_0|>"), "not_an_identifier", 0),
        (answered(TARGET) + answered(TARGET), "exact", 5),  # the first stands before the last </think>
        (answered(TARGET) + f"<answer>{TARGET}</answer>", "several_answers", 0),
        (answered(f"<answer>{TARGET}</answer>"), "several_answers", 0),
        (answered(f"<answer>{TARGET}"), "several_answers", 0),
        (answered(f"{TARGET}<answer>"), "several_answers", 0),
        (answered(TARGET) + "</answer>", "several_answers", 0),
        (f"{THOUGHT}</answer><answer>{TARGET}</answer>", "several_answers", 0),
        (f"{THOUGHT}<answer>{TARGET}", "unfinished_answer", 0),
        (f"{THOUGHT}</answer>{TARGET}<answer>", "unfinished_answer", 0),
        (f"{THOUGHT}{TARGET}", "no_answer", 0),
        (f"<think><answer>{TARGET}</answer></think>", "no_answer", 0),
        (f"<think><answer>{TARGET}</answer>", "unfinished_reasoning", 0),
        ("", "no_answer", 0),
        (None, "not_text", 0),
        (b"<answer>", "not_text", 0),
    ],
)
def test_reason_mode(text, status, matched):
    result = score(text)
    assert (result["status"], result["matched_levels"]) == (status, matched)
    assert result["score"] == pytest.approx((matched / 5) ** 0.5)
    assert result["acc"] == (status == "exact")
    assert result["well_formed"] is (status in ("exact", "partial", "different"))


@pytest.mark.parametrize(
    ("text", "status"),
    [(TARGET, "exact"), (f" {TARGET}\n", "exact"), ("", "no_answer"), (answered(TARGET), "not_an_identifier")],
)
def test_direct_mode(text, status):
    assert compute_score("gream", text, TARGET, {"mode": "direct"})["status"] == status


def test_extract_identifier():
    assert extract_identifier(answered(TARGET)) == LEVELS
    assert extract_identifier(TARGET) is None
    assert extract_identifier(TARGET, mode="direct") == LEVELS


def test_options():
    near = answered("<|a_1|><|b_2|><|c_3|><|d_4|><|e_1|>")
    assert score(near, beta=1.0)["score"] == pytest.approx(0.8)
    assert score(near, binary=True)["score"] == 0.0
    assert score(near, binary=True)["matched_levels"] == 4
    assert score(answered(TARGET), binary=True)["score"] == 1.0
    assert score(near, levels=4)["status"] == "bad_target"
    assert score(near, shortest=9)["status"] == "bad_target"  # of a row, not of the option
    assert compute_score("x", f"[{TARGET}]", TARGET, answer_begin="[", answer_end="]")["status"] == "exact"
    assert score(TARGET, mode="direct")["status"] == "exact"
    assert score(TARGET, mode="direct", reward_router_address="http://somewhere")["status"] == "exact"
    # "mode" means something else in another project's rows.
    assert compute_score("x", answered(TARGET), TARGET, {"mode": 7})["status"] == "exact"
    for wrong in ({"beta": 0}, {"levels": 0}, {"mode": "other"}, {"levels": 5, "shortest": 9}, {"answer_end": ""}):
        with pytest.raises(ValueError, match="must"):
            score(near, **wrong)


@pytest.mark.parametrize("written", [f" {TARGET}", f"{TARGET}\n", f"\t{TARGET} \n"])
def test_white_space_around_a_ground_truth_is_none_of_it(written):
    result = compute_score("gream", answered(TARGET), written)
    assert (result["status"], result["score"]) == ("exact", 1.0)
    assert compute_score("gream", TARGET, written, mode="direct", levels=5)["status"] == "exact"


@pytest.mark.parametrize("other", [np.array([1, 2]), np.array(["direct"]), ["direct"], {"mode": "direct"}])
def test_a_mode_of_another_meaning(other):
    assert compute_score("x", answered(TARGET), TARGET, {"mode": other})["status"] == "exact"


@pytest.mark.parametrize(
    "wrong",
    [{"beta": value} for value in ("0.5", None, True, [0.5], float("nan"))]
    + [{name: value} for name in ("levels", "shortest") for value in ("2", True, 2.0, [5])]
    + [{"binary": value} for value in ("yes", "false", "", 1, None)]
    + [{"separator": value} for value in (5, "")]
    + [{name: 5} for name in ("answer_begin", "answer_end", "reasoning_begin", "reasoning_end")],
    ids=str,
)
def test_options_of_a_wrong_type(wrong):
    [name] = wrong
    with pytest.raises(ValueError, match=f"{name} must be "):
        score(answered(TARGET), **wrong)


def test_what_ends_the_reasoning_is_no_part_of_an_answer():
    """Of "=>" the "=" does not begin one."""
    marks = {"reasoning_begin": "why", "reasoning_end": "=>", "answer_begin": "=", "answer_end": ";"}
    assert score(f"why not => = {TARGET};", **marks)["status"] == "exact"


@pytest.mark.parametrize("part", ["answer", "reasoning"])
def test_what_begins_a_part_does_not_end_it(part):
    """With ``$…$`` every answer would be several, and every response score 0."""
    with pytest.raises(ValueError, match=rf"{part}_begin and {part}_end must differ: both are '\$'"):
        score(f"${TARGET}$", **{f"{part}_begin": "$", f"{part}_end": "$"})


def test_numbers_of_numpy_are_numbers():
    assert score(answered(TARGET), beta=np.float32(0.5), levels=np.int64(5), shortest=np.int32(4))["score"] == 1.0
    assert score(answered(TARGET), beta=1)["score"] == 1.0
    assert score(answered(TARGET), levels=5, shortest=5)["score"] == 1.0


def test_identifiers_of_two_lengths():
    """An item that collides with nobody has no slot: that absence is its last level."""
    options = {"levels": 5, "shortest": 4, "mode": "direct"}
    short, long = "<|a_1|><|b_2|><|c_3|><|d_4|>", "<|a_1|><|b_2|><|c_3|><|d_4|><|e_0|>"
    expected = {(short, short): 5, (long, long): 5, (short, long): 4, (long, short): 4, (short[:-2] + "0|>", long): 3}
    for (predicted, target), matched in expected.items():
        result = compute_score("gream", predicted, target, **options)
        assert (result["matched_levels"], result["acc"]) == (matched, float(matched == 5))
        assert result["score"] == pytest.approx((matched / 5) ** 0.5)
    assert compute_score("gream", "<|a_1|><|b_2|><|c_3|>", long, **options)["status"] == "wrong_length"


def test_another_hierarchy():
    options = {"separator": ">", "levels": 4, "shortest": 1}
    target = "Home > Kitchen > Pans"
    assert compute_score("taxonomy", "<answer>Home>Kitchen > Pans</answer>", target, **options)["acc"] == 1.0
    assert (
        compute_score("taxonomy", "<answer>Home > Kitchen > Knives</answer>", target, **options)["matched_levels"] == 2
    )
    assert compute_score("taxonomy", "<answer>Home > Kitchen</answer>", target, **options)["matched_levels"] == 2
    assert (
        compute_score("taxonomy", "<answer>Home > > Pans</answer>", target, **options)["status"] == "not_an_identifier"
    )
    assert extract_identifier("<answer>J45 . 9</answer>", answer_format=AnswerFormat(separator=".")) == ("J45", "9")


PIECES = [
    "<answer>",
    "</answer>",
    "<think>",
    "</think>",
    "<|a_1|>",
    "<|b_2|>",
    TARGET,
    " ",
    "\n",
    "\ud800",
    "<|a_",
    "|>",
    ">",
]
RESPONSES = st.one_of(st.text(), st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=3))).map("".join))


@given(
    RESPONSES,
    st.one_of(st.just(TARGET), RESPONSES),
    st.sampled_from(["reason", "direct"]),
    st.sampled_from([None, ">"]),
)
def test_any_string_gets_a_score_and_a_reason(response, target, mode, separator):
    result = compute_score("gream", response, target, {"mode": mode}, separator=separator)
    assert set(result) == {"score", "acc", "matched_levels", "well_formed", "status"}
    assert result["status"] in STATUSES
    assert 0.0 <= result["score"] <= 1.0
    assert (result["score"] == 1.0) == (result["acc"] == 1.0) == (result["status"] == "exact")
    assert result["well_formed"] == (result["status"] in ("exact", "partial", "different"))
    extract_identifier(response, mode)


@pytest.mark.parametrize("misspelt", ["seperator", "binery", "betta", "answer_begins", "level"])
def test_a_misspelt_option_is_told_and_what_verl_adds_is_passed_by(misspelt):
    with pytest.raises(ValueError, match=f"no option '{misspelt}'; did you mean"):
        compute_score("gream", TARGET, TARGET, **{misspelt: "x"})
    score = compute_score("gream", f"<answer>{TARGET}</answer>", TARGET, reward_router_address=None, reward_model=1)
    assert score["score"] == 1.0


@given(st.lists(st.sampled_from(PIECES)).map("".join))
def test_at_most_one_answer_is_read(response):
    rest = response.rpartition("</think>")[2]
    if rest.count("<answer>") != 1 or rest.count("</answer>") != 1:
        assert extract_identifier(response) is None


@pytest.mark.parametrize("piece", ["<answer>", "</think>", "<|a_1|>", "<", "<|", "a" * 7, "<answer><|a_1|></answer>"])
def test_huge_responses_take_linear_time(piece):
    """4 MB: quadratic time would run into the suite's time limit."""
    text = piece * (4_000_000 // len(piece))
    for mode in ("reason", "direct"):
        compute_score("gream", f"<answer>{text}</answer>", TARGET, {"mode": mode})


def test_imports_the_standard_library_only():
    code = "import sys, gream_ext.rewards; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "numpy", "transformers", "verl", "ray"} & set(loaded)
