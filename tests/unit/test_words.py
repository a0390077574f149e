"""Words of scripts with and without blanks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gream_ext.corpus.source import shortened
from gream_ext.extras.ask.answers import common_fault
from gream_ext.extras.ask.enrich import description_fault
from gream_ext.items.text_reviews import fitted
from gream_ext.words import beginning, mentions, split_words, terms, within, word_ends

CHINESE = "这款面霜质地轻盈，吸收很快，适合干性皮肤，用了两个星期以后皮肤明显变得光滑。"
JAPANESE = "この化粧水はとてもしっとりしていて、乾燥肌の私にはぴったりでした。"
THAI = "ครีมนี้เนื้อบางเบาซึมเร็วมากเหมาะกับผิวแห้งใช้สองสัปดาห์แล้วผิวเนียนขึ้น"
LAO = "ຄີມນີ້ເນື້ອບາງເບົາຊຶມໄວຫຼາຍເໝາະກັບຜິວແຫ້ງ"
KHMER = "ក្រែមនេះស្រាលណាស់ស្រូបលឿនសាកសមសម្រាប់ស្បែកស្ងួត"
UNSPACED = (CHINESE, JAPANESE, THAI, LAO, KHMER)

texts = st.text(alphabet="ab .,'!。、我热カーขก่เាក្ខ\u0301 \n", max_size=30)


@given(texts)
def test_no_letter_is_lost_or_counted_twice(text: str) -> None:
    found = split_words(text)
    assert "".join(found) == "".join(text.split())
    assert len(word_ends(text)) == len(found)
    assert [split_words(beginning(text, count)) for count in range(len(found) + 1)] == [
        found[:count] for count in range(len(found) + 1)
    ]


@given(st.text(alphabet="ab .,é-ñ\n\u00a0", max_size=30))
def test_with_blanks_words_are_what_blanks_separate(text: str) -> None:
    assert split_words(text) == text.split()


@given(texts, st.integers(1, 30))
def test_within_is_a_beginning_that_fits(text: str, characters: int) -> None:
    cut = within(text, characters)
    assert len(cut) <= characters and text.startswith(cut)


@pytest.mark.parametrize(("text", "counted"), list(zip(UNSPACED, (17, 14, 18, 11, 10), strict=True)))
def test_unspaced_texts_have_about_as_many_words_as_people_count(text: str, counted: int) -> None:
    assert 0.7 * counted <= len(split_words(text)) <= 1.4 * counted


@pytest.mark.parametrize("text", UNSPACED)
def test_limits_cut_unspaced_texts(text: str) -> None:
    assert 0 < len(shortened(text, 3)) < len(text) / 2
    assert 0 < len(fitted(text, 10, len)) <= 10
    assert 5 < len(within(f"title\n{text}", 20)) <= 20, "not the title alone"


def test_a_mark_stays_with_its_letter() -> None:
    for text in UNSPACED:
        assert not any(text[end : end + 1] and not text[end].isalnum() for end in word_ends(text)), text


@pytest.mark.parametrize("text", UNSPACED)
def test_answers_in_unspaced_scripts_pass_as_others_do(text: str) -> None:
    assert common_fault(text) is None
    assert description_fault(text, text[3:9], 5, 60) is None, "as a description it is long and short enough, and prose"
    assert (
        description_fault(text, text[3:9], 200, 300) is not None
        and description_fault(text, text[3:9], 1, 4) is not None
    )
    assert common_fault(text[:5] * 40) == "repetition: the same words over and over"


def test_a_description_must_name_the_thing_in_chinese_too() -> None:
    assert description_fault(CHINESE, "干性面霜", 5, 60) is None
    assert description_fault(CHINESE, "蓝牙耳机", 5, 60) == "no word of the title in it"


@pytest.mark.parametrize(
    ("text", "title", "expected"),
    [
        ("green-tea for all", "Green Tea", True),
        ("greenish tea", "Green Tea", False),
        ("anything", "", False),
        ("anything", "!?", False),
        ("我喜欢你好李焕英。", "你好，李焕英", True),
        ("ｈａｒｒｙ　ｐｏｔｔｅｒ", "Harry Potter", True),
        ("我的iPhone手机", "iPhone", True),
        ("हिन्दी की किताब", "क", False),
        ("他很热情", "热", False),
        ("soft\u00adcover", "Softcover", True),
        ("A CAFE\u0301 in town", "café", True),
    ],
)
def test_titles_are_found_as_whole_words(text: str, title: str, expected: bool) -> None:
    assert mentions(text, title) is expected


def test_terms() -> None:
    assert terms("The 2019 iPhone, red") == {"the", "iphone", "red"}
    assert terms("茶") == {"茶"}
