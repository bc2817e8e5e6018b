"""Suppressors: pixels that say nothing about the class, and that the best network needs all the same."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attrib import checks
from attrib.benchmark.synthetic.scenes import Scenes, Size, normal, sides, source

SIGNAL, COMMON, OWN = 1.0, 3.0, 0.5  # sizes of the class's signal, the common noise and each pixel's own noise
FAINT = 0.5  # the common noise in the suppressor, relative to that in the signal
LOGIT = 5.0


def suppressor(n: int, *, seed: int = 0, size: Size = 32) -> Scenes:
    r"""Pictures whose class is hidden in noise that can be read, and taken off, elsewhere.

    .. math:: x_p = (y + 3 d)\,[p \in S] + \tfrac{3}{2} d\,[p \in U] + \tfrac{1}{2} \epsilon_p, \qquad y = \pm 1

    with :math:`d` and :math:`\epsilon` normal, an L-shaped region :math:`S` and its twin :math:`U`, always in the same
    places.

    Convention:
        - ``relevant`` is :math:`S`: the pixels that *inform* about the class. ``suppressor`` is :math:`U`: independent
          of the class, but what is subtracted from :math:`S` to take the common noise off. Without it a network is
          right in 63 of 100 pictures instead of all. What a network *uses* is both: these are different truths. The
          noise is fainter in :math:`U`, so its weights are twice as large as those of :math:`S`.
        - ``removed``: :math:`S` without :math:`y`. Distractors: ``suppressor``, ``background``.

    Args:
        n: how many, >= 1.
        seed: same seed, same pictures; the global random state is not touched.
        size: side in pixels or (height, width), >= 24.

    Example:
        >>> scenes = suppressor(3)
        >>> [int(mask[0].sum()) for mask in (scenes.relevant, scenes.distractors["suppressor"])]
        [64, 64]

    References:
        Haufe et al., "On the interpretation of weight vectors of linear models in multivariate neuroimaging",
        NeuroImage 2014.
        Clark, Wilming, Haufe, "XAI-TRIS: non-linear image benchmarks to quantify false positive post-hoc attribution of
        feature importance", Machine Learning 2024.
    """
    h, w = sides(size)
    checks.integer("number of pictures", n, 1)
    generator = source(seed)
    signal, twin = regions((h, w))
    target = torch.randint(2, (n,), generator=generator)
    y = (target * 2.0 - 1)[:, None, None]
    common, other = (normal(generator, n, 1, 1, std=COMMON) for _ in range(2))
    own, anew = (normal(generator, n, h, w, std=OWN) for _ in range(2))
    without = common * (signal + FAINT * twin) + own
    x = without + SIGNAL * y * signal
    rest = ~(signal | twin)
    masks = {name: mask.expand(n, h, w) for name, mask in (("suppressor", twin), ("background", rest))}
    return Scenes(
        x[:, None],
        target,
        signal.expand(n, h, w),
        masks,
        without[:, None],
        {
            "suppressor": torch.where(twin, FAINT * other + anew, x)[:, None],
            "background": torch.where(rest, anew, x)[:, None],
        },
    )


def regions(size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Where the signal is, and where its noise is seen alone: bool ``(H, W)`` each."""
    h, w = size
    side = max(2, min(h, w) // 8)
    shape = torch.zeros(3 * side, 2 * side, dtype=torch.bool)
    shape[:, :side] = True
    shape[2 * side :] = True
    signal = torch.zeros(h, w, dtype=torch.bool)
    signal[side : 4 * side, side : 3 * side] = shape
    return signal, signal.flip(0, 1)


def discriminant(size: Size = 32) -> nn.Sequential:
    r"""The network of `suppressor`: the linear discriminant, which no other network can beat, as layers.

    .. math:: w \propto \Sigma^{-1} (\mu_1 - \mu_0)

    It is ``+1`` and ``-1`` times the picture, ReLU, a linear layer: :math:`w\,x^+ - w\,(-x)^+ = w x`.

    Args:
        size: side of the pictures in pixels or (height, width).
    """
    h, w = sides(size)
    weight = best_weights((h, w)).flatten()
    net = nn.Sequential()
    net.add_module("signs", nn.Conv2d(1, 2, 1, bias=False))
    net.add_module("relu", nn.ReLU())
    net.add_module("flatten", nn.Flatten())
    net.add_module("classes", nn.Linear(2 * h * w, 2, bias=False))
    both = torch.cat([weight, -weight]) * LOGIT / 2
    net.load_state_dict(
        {"signs.weight": torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1), "classes.weight": torch.stack([-both, both])}
    )
    return net.eval()


def best_weights(size: tuple[int, int]) -> Tensor:
    """Weights of the linear discriminant ``(H, W)``, so that the class's signal gives 1 (and -1)."""
    signal, twin = regions(size)
    pixels = int(signal.sum())
    # means of S and U carry all there is: their own noise is smaller by the number of pixels
    share = FAINT * COMMON**2 / ((FAINT * COMMON) ** 2 + OWN**2 / pixels)
    return (signal.float() - share * twin.float()) / (SIGNAL * pixels)
