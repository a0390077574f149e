"""Composite and encoded text."""

from hypothesis import given
from hypothesis import strategies as st

from gream_ext.items.text import composite_text, encoded_text
from gream_ext.words import within

ITEM = {
    "title": "Velta",
    "brand": "Ormond",
    "categories": ["Films > Comedy", "Gifts"],
    "attributes": ["year: 1961"],
    "description": "A comedy about a kazoo.",
}


def test_composite_text_has_a_line_for_each_field():
    assert composite_text(ITEM) == (
        "Velta\nbrand: Ormond\ncategories: Films > Comedy, Gifts\nyear: 1961\nA comedy about a kazoo."
    )
    assert composite_text({"title": None, "brand": None, "categories": [], "attributes": [], "description": None}) == ""


def test_description_is_cut_first():
    assert composite_text(ITEM, 75) == "Velta\nbrand: Ormond\ncategories: Films > Comedy, Gifts\nyear: 1961\nA comedy"


def test_encoded_text():
    item = {**ITEM, "text": "composite"}
    assert encoded_text(item, "title", "rich") == "Velta"
    assert encoded_text(item, "full", "rich") == "Velta\nrich"
    assert encoded_text(item, "full", None) == encoded_text(item, "composite", "rich") == "composite"


@given(st.text(alphabet="ab \n", max_size=40), st.integers(1, 50))
def test_shortened_keeps_whole_words(text, characters):
    cut = within(text, characters)
    assert len(cut) <= characters
    assert text.startswith(cut)
    if " " in cut.strip() and len(text) > characters:
        assert text[len(cut)] in " \n"
