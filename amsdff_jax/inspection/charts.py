"""The page's pictures, as SVG that stands in the page and takes its colours from it."""

import html

from amsdff_jax.inspection.lengths import Lengths

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 900, 170, 46, 24, 16
_TICKS = 8


def length_histogram(lengths: Lengths, max_length: int, title: str) -> str:
    """Share of texts by tokens, with a line where `max_length` cuts; the last bar holds all longer texts."""
    shares = [count / lengths.texts for count in lengths.histogram]
    top = max(shares)
    wide, high = _WIDTH - _LEFT - 8, _HEIGHT - _BOTTOM - _TOP
    step, end = wide / len(shares), len(shares) * lengths.bin_width
    bars = "".join(
        f'<rect x="{_LEFT + index * step:.1f}" y="{_TOP + high * (1 - value / top):.1f}" width="{step - 1:.1f}" '
        f'height="{high * value / top:.1f}"><title>{_range(index, lengths)}: {lengths.histogram[index]:,} texts'
        "</title></rect>"
        for index, value in enumerate(shares)
        if value
    )
    base = _TOP + high
    parts = [
        f'<text x="{_LEFT - 6}" y="{_TOP + 4}" text-anchor="end">{100 * top:.0f} %</text>',
        f'<text x="{_LEFT - 6}" y="{base}" text-anchor="end">0</text>',
        f'<line class="axis" x1="{_LEFT}" y1="{_TOP}" x2="{_WIDTH - 8}" y2="{_TOP}"/>',
        f'<g class="bars">{bars}</g>',
        f'<line class="axis" x1="{_LEFT}" y1="{base}" x2="{_WIDTH - 8}" y2="{base}"/>',
    ]
    for tick in _ticks(end):
        x = _LEFT + wide * tick / end
        parts.append(f'<text x="{x:.1f}" y="{base + 17}" text-anchor="middle">{tick:,}</text>')
    if max_length < end:
        x = _LEFT + wide * (max_length + 1) / end
        anchor = "start" if x < _WIDTH * 0.8 else "end"
        parts.append(f'<line class="limit" x1="{x:.1f}" y1="{_TOP - 6}" x2="{x:.1f}" y2="{base}"/>')
        parts.append(
            f'<text class="limit-name" x="{x + (6 if anchor == "start" else -6):.1f}" y="{_TOP + 8}" '
            f'text-anchor="{anchor}">max_length {max_length}</text>'
        )
    label = html.escape(f"Histogram of tokens per text, {title}", quote=True)
    opening = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">'
    return f'<div class="wide">{opening}{"".join(parts)}</svg></div>'


def share_bar(share: float) -> str:
    """A bar of that share of the cell's width."""
    return f'<div class="bar" style="width:{100 * share:.1f}%"></div>'


def _range(index: int, lengths: Lengths) -> str:
    start = index * lengths.bin_width
    if index == len(lengths.histogram) - 1:
        return f"{start:,} tokens and more"
    if lengths.bin_width == 1:
        return f"{start:,} tokens"
    return f"{start:,} to {start + lengths.bin_width - 1:,} tokens"


def _ticks(end: int) -> range:
    magnitude = 10 ** max(len(str(end)) - 2, 0)
    step = next(factor * magnitude for factor in (1, 2, 5, 10, 20, 50) if factor * magnitude * _TICKS >= end)
    return range(0, end, step)
