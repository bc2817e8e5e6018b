"""The rows of the paper's table of changed architectures, as arguments of `zfnet`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from torch import nn

from attrib.models.zfnet import zfnet

KRIZHEVSKY: Mapping[str, Any] = MappingProxyType(
    {"first_kernel": 11, "first_stride": 4, "second_stride": 1, "padding": (2, 2), "groups": 2}
)


@dataclass(frozen=True)
class Variant:
    """One row.

    Attributes:
        options: of `zfnet`.
        paper: errors that the paper reports on ImageNet 2012, in per cent: training top-1, validation top-1 and top-5.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    paper: tuple[float, float, float] | None = None

    def build(self, classes: int, **options: Any) -> nn.Sequential:
        """The network; ``options`` of `zfnet` go before those of the row.

        Example:
            >>> net = ABLATIONS["krizhevsky without 6, 7"].build(10, scale=1 / 16, image_size=64)
            >>> [name for name, _ in net.named_children()][-2:]
            ['flatten', 'fc8']
        """
        return zfnet(classes, **{**self.options, **options})


def _rows(start: Mapping[str, Any], rows: Mapping[str, tuple[Mapping[str, Any], tuple[float, float, float]]]) -> Any:
    return {name: Variant(MappingProxyType({**start, **options}), paper) for name, (options, paper) in rows.items()}


_WIDE = {"widths": (96, 256, 512, 1024, 512)}
_LARGE, _SMALL = {"fc": (8192, 8192)}, {"fc": (2048, 2048)}

ABLATIONS: Mapping[str, Variant] = MappingProxyType(
    _rows(
        KRIZHEVSKY,
        {
            "krizhevsky": ({}, (35.1, 40.5, 18.1)),
            "krizhevsky without 3, 4": ({"without": (3, 4)}, (41.8, 45.4, 22.1)),
            "krizhevsky without 7": ({"without": (7,)}, (27.4, 40.0, 18.4)),
            "krizhevsky without 6, 7": ({"without": (6, 7)}, (27.4, 44.8, 22.4)),
            "krizhevsky without 3, 4, 6, 7": ({"without": (3, 4, 6, 7)}, (71.1, 71.3, 50.1)),
            "krizhevsky, 6, 7: 2048": (_SMALL, (40.3, 41.7, 18.8)),
            "krizhevsky, 6, 7: 8192": (_LARGE, (26.8, 40.0, 18.1)),
        },
    )
    | _rows(
        {},
        {
            "zfnet": ({}, (33.1, 38.4, 16.5)),
            "zfnet, 6, 7: 2048": (_SMALL, (38.2, 40.2, 17.6)),
            "zfnet, 6, 7: 8192": (_LARGE, (22.0, 38.8, 17.0)),
            "zfnet, 3, 4, 5: 512, 1024, 512": (_WIDE, (18.8, 37.5, 16.0)),
            "zfnet, 6, 7: 8192 and 3, 4, 5: 512, 1024, 512": ({**_WIDE, **_LARGE}, (10.0, 38.3, 16.9)),
        },
    )
)
"""Table 3 of Zeiler and Fergus: the network of Krizhevsky et al. as they rebuilt it, then their own, with changes."""
