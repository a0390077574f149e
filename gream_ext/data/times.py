"""Timestamps and positions in the spellings that tables have them in, as whole numbers."""

from collections.abc import Callable

import polars as pl

from gream_ext.errors import GreamError

ORDER = ("timestamp", "position")
SECOND = 1_000_000


def whole_times(frame: pl.DataFrame, row_name: Callable[[int], str]) -> pl.DataFrame:
    """``timestamp`` in seconds and ``position``, Int64, from integers, floats, texts of either, dates or times.

    What a timestamp has beyond whole seconds becomes ``position`` where there is none: it still decides the order.
    `GreamError` names the first row whose value is nothing of that.
    """
    for name in (column for column in ORDER if column in frame.columns):
        column = frame[name].fill_nan(None) if frame[name].dtype.is_float() else frame[name]
        whole, rest = _parts(column)
        if name == "position":
            whole = whole.set(rest.fill_null(0) != 0, None)
        if len(wrong := (column.is_not_null() & whole.is_null()).arg_true()):
            raise GreamError(f"{row_name(wrong[0])}: {name} is {_wrong(str(column[wrong[0]]), name)}")
        frame = frame.with_columns(whole.alias(name))
        if name == "timestamp" and "position" not in frame.columns and (rest != 0).any():
            frame = frame.with_columns(rest.alias("position"))
    return frame


def _wrong(value: str, name: str) -> str:
    if value.lstrip("-").isdecimal():
        return f"too large a number ({len(value.lstrip('-'))} digits)"
    if name == "position":
        return f"{value[:40]!r}, not a whole number"
    return (
        f"{value[:40]!r}: write seconds since 1970 (1405900800), a date (2014-07-21) or a time (2014-07-21T13:00:00Z)"
    )


def _parts(column: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Whole seconds (rounded down) and millionths of one beyond them, Int64; null where a value is none."""
    value, kind = pl.col(column.name), column.dtype
    if kind.is_integer():
        return column.cast(pl.Int64, strict=False), pl.repeat(0, len(column), dtype=pl.Int64, eager=True)
    if kind.is_temporal():
        micros = value.cast(pl.Datetime("us")).dt.epoch("us")
        whole, rest = micros // SECOND, micros % SECOND
    elif kind.is_float():
        whole, rest = _of_float(value)
    else:
        plain = column.cast(pl.String).str.strip_chars().cast(pl.Int64, strict=False)
        if plain.null_count() == column.null_count():
            return _parts(plain)
        text = value.cast(pl.String).str.strip_chars()
        number, beyond = _of_float(text.cast(pl.Float64, strict=False))
        micros = _dates(text) if column.name == "timestamp" else pl.lit(None, pl.Int64)
        whole = pl.coalesce(plain, number, micros // SECOND)
        rest = pl.when(plain.is_null()).then(pl.coalesce(beyond, micros % SECOND)).otherwise(0)
    made = column.to_frame().select(whole.alias("whole"), rest.alias("rest"))
    return made["whole"], made["rest"]


def _of_float(value: pl.Expr) -> tuple[pl.Expr, pl.Expr]:
    down = value.floor()
    rest = ((value - down) * SECOND).floor()
    return down.cast(pl.Int64, strict=False), rest.cast(pl.Int64, strict=False)


def _dates(text: pl.Expr) -> pl.Expr:
    """Microseconds since 1970 of dates and times as ISO 8601 has them, in UTC where there is no zone; Int64."""
    spelled = text.str.replace_all("/", "-").str.replace(r"^(\d{4}-\d{2}-\d{2})[Tt]", "${1} ")
    spelled = spelled.str.replace(r"(?i)\s*(z|utc|gmt)$", "+00:00")
    times = [f"%Y-%m-%d {clock}{zone}" for zone in ("", "%#z") for clock in ("%H:%M", "%H:%M:%S%.f")]
    moments = [spelled.str.to_datetime(form, time_unit="us", strict=False).dt.epoch("us") for form in times]
    return pl.coalesce(spelled.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us")).dt.epoch("us"), *moments)
