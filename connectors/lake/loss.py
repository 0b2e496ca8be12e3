"""The rule that says when too much is missing to be believed.

A server that is upgraded, or whose search index is being rebuilt, answers with empty pages and status 200. So what did
not come where everything was asked for is taken as deleted only up to a share of what the lake has. A deletion that the
server reports is always believed.
"""

from __future__ import annotations

from collections.abc import Mapping

MAX_LOSS = 0.2  # share of a type, or of all types together
FEW = 5  # fewer missing resources are always believed: in a small cohort one patient is a large share
NOT_BELIEVED = (
    "not believed to be deleted, and kept: {} of the lake did not come, more than max_loss allows ({:.0%}). Ask the "
    "server's administrator; if they are really gone, run `periop sync --accept-loss` once"
)


def disbelief(missing: Mapping[str, int], held: Mapping[str, int], max_loss: float) -> str | None:
    """Return why nothing that is missing is taken as deleted, None where the loss is believed.

    Args:
        missing: how many resources did not come although everything was asked for, by type.
        held: how many resources of the site are current in the lake, by type.
        max_loss: the share of one type, or of all types together, that may be missing.
    """
    everything = (sum(missing.values()), sum(held.values()))
    # One type is enough to doubt the whole answer: the others may be too small to tell.
    if not any(
        _excessive(*each, max_loss) for each in (everything, *((missing[kind], held[kind]) for kind in missing))
    ):
        return None
    shares = ", ".join(f"{missing[kind]} of {held[kind]} {kind}" for kind in sorted(missing))
    return NOT_BELIEVED.format(shares, max_loss)


def _excessive(missing: int, held: int, max_loss: float) -> bool:
    return missing >= FEW and missing > held * max_loss
