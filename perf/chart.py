"""A bar chart of ratios: our speed as a multiple of the others', on a logarithmic scale."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from io import BytesIO

from PIL import Image, ImageDraw

from perf.comparison import Comparison

WIDTH, MARGIN, LABELS, NUMBERS = 1000, 12, 300, 60
"""Pixels: the picture, its border, the columns left and right of the bars."""
BAR, LINE = 10, 16
"""Heights in pixels of a bar and of a line of text."""
DECADES = 2
"""The scale goes from 10**-DECADES to 10**DECADES; longer bars are cut."""
COLOURS = ("#c8553d", "#2d6a9f", "#5b8c5a", "#8a6fae", "#b8860b")
INK, GRID, PAPER = "#222222", "#cccccc", "#ffffff"

Row = tuple[str, str | None, float]
"""A text; the colour of its bar, ``None`` for a heading; the ratio."""


def _rows(results: Sequence[Comparison], colours: dict[str, str]) -> Iterator[Row]:
    for result in results:
        yield result.title, None, 1.0
        for item in result.values:
            for name in result.others:
                if ratio := result.ratio(item, name):
                    yield f"{item} / {name}", colours[name], ratio


def png(results: Sequence[Comparison]) -> bytes:
    """The chart as a PNG file: right of the line at 1 ours is faster."""
    names = sorted({name for result in results for name in result.others})
    colours = {name: COLOURS[n % len(COLOURS)] for n, name in enumerate(names)}
    rows = list(_rows(results, colours))
    picture = Image.new("RGB", (WIDTH, 2 * MARGIN + LINE * (len(rows) + 2)), PAPER)
    draw = ImageDraw.Draw(picture)
    left, right = MARGIN + LABELS, WIDTH - MARGIN - NUMBERS
    bottom = picture.height - MARGIN

    def x_of(ratio: float) -> float:
        share = (math.log10(ratio) / DECADES + 1) / 2
        return left + (right - left) * min(max(share, 0.0), 1.0)

    draw.text((MARGIN, MARGIN), "our speed as a multiple of the other's", fill=INK)
    for power in range(-DECADES, DECADES + 1):
        x = x_of(10.0**power)
        draw.line((x, MARGIN + 2 * LINE, x, bottom), fill=INK if power == 0 else GRID)
        draw.text((x + 2, MARGIN + LINE), f"{10.0**power:g}", fill=INK)
    for n, (text, colour, ratio) in enumerate(rows, 2):
        y = MARGIN + n * LINE
        draw.text((MARGIN, y), text, fill=INK)
        if colour:
            x0, x1 = sorted((x_of(1.0), x_of(ratio)))
            draw.rectangle((x0, y + 1, x1, y + 1 + BAR), fill=colour)
            draw.text((right + 6, y), f"{ratio:.3g}", fill=INK)
    file = BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()
