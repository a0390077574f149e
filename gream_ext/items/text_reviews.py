"""The reviews that become part of an item's composite text, cut to a budget of tokens."""

from collections.abc import Sequence

from gream_ext.items.text_tokens import Count, fitted

HEAD = "review: "


def review_lines(reviews: Sequence[str], tokens: int, count: Count) -> list[str]:
    """One line a review, in their order, together (with line breaks) at most ``tokens`` tokens.

    Each may take an equal share of what is left, so that a short one leaves more to the next. What does not fit
    is cut off after a whole word; the line of a review of which nothing fits is empty.

    >>> review_lines(["Soft and warm. I love it.", "Too thin."], 16, lambda text: len(text.split()))
    ['review: Soft and warm. I love it.', 'review: Too thin.']
    >>> review_lines(["Soft and warm. I love it.", "Too thin."], 8, lambda text: len(text.split()))
    ['review: Soft and warm.', 'review: Too thin.']
    """
    lines: list[str] = []
    for rank, review in enumerate(reviews):
        left = tokens - count("".join(f"{line}\n" for line in lines if line))
        share = left // (len(reviews) - rank)
        line = fitted(HEAD + review, share - count("\n"), count)
        lines.append(line if len(line) > len(HEAD) else "")
    return lines
