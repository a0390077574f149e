"""What a history says, computed by hand."""

import numpy as np
import pytest

from gream_ext.corpus.catalogue import Item, item_traits
from gream_ext.corpus.profile import (
    kept_positions,
    leading_traits,
    likely_wishes,
    nearest_position,
    profile,
    trend,
    wish,
)


def items(*traits: tuple[str, ...]) -> list[Item]:
    return [Item(f"i{row}", row, f"<|a_{row}|>", f"T{row}", "", "", own) for row, own in enumerate(traits)]


def test_leading_traits_count_then_recency() -> None:
    history = items(("tea",), ("cups",), ("tea", "green"), ("cups", "large"))
    # tea 2 (last at 2), cups 2 (last at 3), green 1, large 1 (last at 3)
    assert leading_traits(history, 4) == ("cups", "tea", "large", "green")
    assert leading_traits(history, 1) == ("cups",)


def test_a_category_above_another_is_listed_once() -> None:
    history = items(("polish", "nails"), ("polish", "nails"), ("brush",))
    assert leading_traits(history, 3) == ("polish", "brush")


def test_trend_is_what_recent_items_gained() -> None:
    earlier = [("tea",)] * 5
    assert trend(items(*earlier, ("tea",), ("cups",), ("cups",), ("tea",), ("tea",))) == "cups"
    assert trend(items(*earlier, ("tea",), ("cups",), ("jugs",), ("tea",), ("tea",))) is None
    assert trend(items(("tea",), ("cups",))) is None


def test_profile_of_items_without_traits() -> None:
    told = profile(items((), ()))
    assert (told.often, told.lately, told.trend) == ((), (), None)


def test_wish_says_only_what_the_history_supports() -> None:
    history = items(("tea", "green"), ("cups",))
    target = items(("large", "cups", "green", "blue"))[0]
    assert wish(history, target) == ("cups", "green")


def test_traits_drop_what_nearly_all_items_carry_and_cut_years_into_eras() -> None:
    categories = [["Beauty", "Nails"], ["Beauty", "Hair"], ["Beauty"]]
    assert item_traits(categories, ["", "", ""], [[], [], []]) == [("Nails",), ("Hair",), ("Beauty",)]
    # 30 items of 1995 are an era, a lone 1987 is told by its decade, nonsense is no year.
    attributes = [["year: 1995"]] * 30 + [["year: 1987"], ["year: soon"], ["colour: red"]]
    traits = item_traits([[]] * 33, [""] * 33, attributes)
    assert (traits[0], traits[30], traits[31], traits[32]) == (("1995",), ("1980s",), (), ())


def test_denoising_drops_the_odd_one_and_keeps_the_last() -> None:
    vectors = np.array([[1, 0], [0.9, 0.1], [-1, 0.2], [1, 0.05], [0.95, 0]], dtype=np.float32)
    assert kept_positions(vectors, most=9) == [0, 1, 3, 4]
    assert kept_positions(vectors, most=2) == [3, 4]
    odd_last = vectors[[0, 1, 3, 4, 2]]
    assert kept_positions(odd_last, most=9)[-1] == 4


@pytest.mark.parametrize("count", [1, 2, 7])
def test_equal_items_are_all_kept(count: int) -> None:
    assert kept_positions(np.ones((count, 3), dtype=np.float32), most=20) == list(range(count))


def test_nearest_place_takes_the_last_of_equals() -> None:
    vectors = np.array([[1, 0], [0, 1], [2, 0]], dtype=np.float32)
    assert nearest_position(vectors, np.array([3, 0.1])) == 2


def test_several_likely_wishes_hold_the_true_one_and_do_not_say_which() -> None:
    history = items(("tea",), ("cups",), ("tea", "green"), ("jugs",), ("cups",), ())
    target = items(("jugs", "new"))[0]
    assert likely_wishes(history, target) == [("jugs",)]
    # tea 2, cups 2, jugs 1, (tea, green) 1; equal ones by their letters
    assert likely_wishes(history, target, 3) == [("cups",), ("tea",), ("jugs",)]
    assert likely_wishes(history, target, 9) == [("cups",), ("tea",), ("jugs",), ("tea", "green")]
    assert likely_wishes(history, items(("new",))[0], 3) == [], "nothing that the history supports"
    same = {
        tuple(likely_wishes(history, target, 4)) for target in items(("tea",), ("cups",), ("jugs",), ("tea", "green"))
    }
    assert len(same) == 1, "whichever is true, the list is the same"


def test_a_small_gain_is_no_trend() -> None:
    earlier = [("tea",)] * 3 + [("cups",)] * 7
    recent = [("tea",), ("tea",), ("cups",), ("cups",), ("jugs",)]
    assert trend(items(*earlier, *recent)) is None, "tea went from .3 to .4"
    assert trend(items(*earlier, ("tea",), *recent[:4])) == "tea", "from .3 to .6"


@pytest.mark.parametrize("seed", range(20))
def test_noise_is_far_from_the_middle_of_all_and_of_the_recent_items(seed: int) -> None:
    """Against the definition, read slowly."""
    vectors = np.random.default_rng(seed).standard_normal((12, 3)) + np.eye(3)[0]
    unit = [vector / np.linalg.norm(vector) for vector in vectors]
    middle = sum(unit) / 12 + sum(unit[7:]) / 5
    distances = [1 - float(one @ middle) / float(np.linalg.norm(middle)) for one in unit]
    limit = np.mean(distances) + np.std(distances) + 1e-6
    slow = [position for position in range(12) if position == 11 or distances[position] <= limit]
    assert kept_positions(vectors, 12) == slow and kept_positions(vectors, 2) == slow[-2:]


@pytest.mark.parametrize(("carriers", "telling"), [(6, True), (7, False)])
def test_a_category_of_more_than_six_tenths_tells_nothing(carriers: int, telling: bool) -> None:
    own = [["Toys", f"Kind {number}"] if number < carriers else [f"Kind {number}"] for number in range(10)]
    found = item_traits(own, [""] * 10, [[]] * 10)
    assert ("Toys" in found[0]) is telling and "Kind 0" in found[0]


@pytest.mark.parametrize(("many", "era"), [(1, "1990s"), (2, "1994")])
def test_a_year_of_a_twentieth_of_the_items_is_an_era_of_its_own(many: int, era: str) -> None:
    years = [["year: 1994"]] * many + [["year: 1975"]] * (40 - many)
    assert item_traits([[]] * 40, [""] * 40, years)[0] == (era,)
