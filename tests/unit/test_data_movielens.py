"""MovieLens-100K in its three dresses, with made-up films."""

import zipfile

import polars as pl
import pytest

from gream_ext.data.movielens import IN_THE_WHEEL
from gream_ext.data.stages import STAGE, PrepareSettings
from gream_ext.errors import GreamError
from gream_ext.workspace import Workspace

RATINGS = "7\t1\t3\t100\n7\t2\t5\t50\n7\t3\t1\t50\n"
ATOMIC_RATINGS = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + RATINGS
ATOMIC_FILMS = (
    "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    '1\tThe "Velvet" Kazoo\t1961\tComedy Sci-Fi\n2\tBrosa\t1962\tDrama\n3\tCafé Moru\t1963\t\n'
)


@pytest.fixture(params=["wheel", "folder", "plain"])
def place(request, tmp_path):
    if request.param == "wheel":
        with zipfile.ZipFile(tmp_path / "recbole.whl", "w") as wheel:
            wheel.writestr(f"{IN_THE_WHEEL}ml-100k.inter", ATOMIC_RATINGS)
            wheel.writestr(f"{IN_THE_WHEEL}ml-100k.item", ATOMIC_FILMS)
        return tmp_path / "recbole.whl"
    folder = tmp_path / "ml-100k"
    folder.mkdir()
    if request.param == "folder":
        (folder / "ml-100k.inter").write_text(ATOMIC_RATINGS)
        (folder / "ml-100k.item").write_text(ATOMIC_FILMS, encoding="utf-8")
        return tmp_path
    none = "|".join("0" * 19)
    drama = none[:16] + "1" + none[17:]
    comic = "|".join("1" if place in (5, 15) else "0" for place in range(19))
    films = (
        f'1|The "Velvet" Kazoo (1961)|01-Jan-1961||http://a|{comic}\n2|Brosa (1962)|01-Jan-1962||http://b|{drama}\n'
        f"3|Café Moru (1963)|01-Jan-1963||http://c|{none}\n"
    )
    (folder / "u.data").write_text(RATINGS)
    (folder / "u.item").write_text(films, encoding="latin-1")
    return folder


def test_reads_each(place, tmp_path):
    workspace = Workspace(tmp_path / "run")
    STAGE.run(workspace, PrepareSettings(path=str(place), source="movielens", k=0))
    items = pl.read_parquet(workspace.items).rows(named=True)
    assert [item["title"] for item in items] == ['The "Velvet" Kazoo', "Brosa", "Café Moru"]
    assert [item["categories"] for item in items] == [["Comedy", "Sci-Fi"], ["Drama"], []]
    assert [item["attributes"] for item in items] == [["year: 1961"], ["year: 1962"], ["year: 1963"]]
    interactions = pl.read_parquet(workspace.interactions)
    assert interactions["item_id"].to_list() == ["2", "3", "1"]
    assert interactions["timestamp"].to_list() == [50, 50, 100]


def test_damaged_files(tmp_path):
    (tmp_path / "ml-100k.inter").write_text(ATOMIC_RATINGS)
    (tmp_path / "ml-100k.item").write_text(ATOMIC_FILMS + "4\tBrosa\n", encoding="utf-8")
    settings = PrepareSettings(path=str(tmp_path), source="movielens", k=0)
    with pytest.raises(GreamError, match=r"ml-100k.item line 5: 2 fields, not 4"):
        STAGE.run(Workspace(tmp_path / "run"), settings)
    (tmp_path / "ml-100k.inter").write_text(ATOMIC_RATINGS + "7\t4\t1\tsoon\n")
    with pytest.raises(GreamError, match=r"ml-100k.inter line 5: timestamp is 'soon'"):
        STAGE.run(Workspace(tmp_path / "run"), settings)


def test_neither_wheel_nor_folder(tmp_path):
    with pytest.raises(GreamError, match="neither the recbole wheel nor a folder"):
        STAGE.run(Workspace(tmp_path / "run"), PrepareSettings(path=str(tmp_path), source="movielens"))
    (tmp_path / "other.whl").write_bytes(b"no zip")
    with pytest.raises(GreamError, match="is not the recbole wheel"):
        STAGE.run(Workspace(tmp_path / "run"), PrepareSettings(path=str(tmp_path / "other.whl"), source="movielens"))


FILMS = [("1", "Moru, The (1961)", "Comedy|Sci-Fi"), ("2", "Brosa (1962)", "Drama"), ("3", "Café (1963-)", "")]
RATED = [("7", "1", "3", "100"), ("7", "2", "5", "50"), ("7", "3", "1", "50")]


@pytest.mark.parametrize("kind", ["1m", "10m", "csv"])
def test_later_editions(tmp_path, kind):
    if kind == "csv":
        films = [("movieId", "title", "genres"), *FILMS[:2], ("3", "Café (1963-)", "(no genres listed)")]
        quoted = [[f'"{field}"' for field in film] for film in films]
        (tmp_path / "movies.csv").write_text("".join(",".join(film) + "\n" for film in quoted), encoding="utf-8")
        rated = [("userId", "movieId", "rating", "timestamp"), *RATED]
        (tmp_path / "ratings.csv").write_text("".join(",".join(row) + "\n" for row in rated))
    else:
        films = "".join("::".join(film) + "\n" for film in FILMS)
        (tmp_path / "movies.dat").write_text(films, encoding="latin-1" if kind == "1m" else "utf-8")
        (tmp_path / "ratings.dat").write_text("".join("::".join(row) + "\n" for row in RATED))
    workspace = Workspace(tmp_path / "run")
    STAGE.run(workspace, PrepareSettings(path=str(tmp_path), source="movielens", k=0))
    items = pl.read_parquet(workspace.items)
    assert items["title"].to_list() == ["Moru, The", "Brosa", "Café"]
    assert items["categories"].to_list() == [["Comedy", "Sci-Fi"], ["Drama"], []]
    assert items["attributes"].to_list() == [["year: 1961"], ["year: 1962"], ["year: 1963"]]
    interactions = pl.read_parquet(workspace.interactions)
    assert interactions["item_id"].to_list() == ["2", "3", "1"]
    assert interactions["timestamp"].to_list() == [50, 50, 100]


def test_damaged_later_editions(tmp_path):
    (tmp_path / "ratings.dat").write_text("7::1::3::100\n7::2::5::50\n7::3::1::soon\n")
    (tmp_path / "movies.dat").write_text("1::Moru\n")
    settings = PrepareSettings(path=str(tmp_path), source="movielens", k=0)
    with pytest.raises(GreamError, match=r"ratings.dat line 3: timestamp is 'soon'"):
        STAGE.run(Workspace(tmp_path / "run"), settings)
    (tmp_path / "ratings.dat").write_text("7::1::3::100\n7::2::5::50\n7::3::1::51\n")
    with pytest.raises(GreamError, match=r"movies.dat line 1: 2 fields, not 3"):
        STAGE.run(Workspace(tmp_path / "run"), settings)
