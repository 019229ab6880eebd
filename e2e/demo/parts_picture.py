"""The last panel of the picture: the parts of the time from decision to first read, a bar for each replica."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.patches import Patch

from e2e.demo.parts import PARTS, Course

COLORS = ("#8d99ae", "#e0a526", "#c96f3b", "#2f9fc4", "#2a9d4e")
LEAST_LABELLED = 0.05
"""Of the longest bar: a part shorter than that has no room for its figure."""
ROOM_FOR_TOTAL = 1.12


def draw_parts(axes: Axes, found: Sequence[Course]) -> None:
    """The last panel: a bar for the first course of each name, its parts one after the other."""
    # The first one is the uppermost.
    shown = list({course.name: course for course in reversed(found)}.values())
    for row, course in enumerate(shown):
        left = 0.0
        for seconds, color in zip(course.seconds, COLORS, strict=True):
            axes.barh(row, seconds, left=left, height=0.6, color=color)
            if seconds >= LEAST_LABELLED * max(one.total for one in shown):
                axes.text(left + seconds / 2, row, f"{seconds:.1f}", ha="center", va="center", fontsize=9)
            left += seconds
        axes.text(left, row, f" {course.total:.2f} s", ha="left", va="center", fontsize=10)
    axes.set_yticks(range(len(shown)), [course.name.replace(", ", ",\n") for course in shown])
    axes.set_ylim(-0.6, max(len(shown), 1) + 0.2)
    axes.set_xlim(0, ROOM_FOR_TOTAL * max((course.total for course in shown), default=1))
    axes.set_xlabel("seconds since the decision")
    axes.legend([Patch(color=color) for color in COLORS], list(PARTS), loc="upper right", ncols=len(PARTS))
