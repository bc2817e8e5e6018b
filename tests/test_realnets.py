"""The trained networks that other tests lean on are what they claim to be."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from tests import data, realnets

pytestmark = data.needs_data


def right(net: realnets.RealNet, model: nn.Module) -> int:
    """How many of the net's pictures ``model`` names as the label says."""
    with torch.no_grad():
        scores = torch.cat([model(rows) for rows in net.loaded.inputs(net.images).split(25)])
    return int((scores.argmax(1) == torch.tensor(net.labels)).sum())


@pytest.mark.parametrize("name", realnets.NAMES)
def test_a_net_names_its_pictures_as_published(name: str) -> None:
    net = realnets.load(name)
    assert right(net, net.model) >= net.least


def test_the_count_is_strict_enough_to_notice_a_wrong_padding() -> None:
    net = realnets.load("mobilenet_v2")
    symmetric = torchvision.models.mobilenet_v2(weights=None).eval()
    symmetric.load_state_dict(net.model.state_dict())
    assert right(net, symmetric) < net.least


def test_a_batch_is_the_first_pictures_with_their_labels() -> None:
    net = realnets.load("resnet20_cifar10")
    x, labels = net.batch(3)
    assert x.shape == (3, 3, 32, 32)
    assert labels.tolist() == list(net.labels[:3])
    torch.testing.assert_close(x[2], net.loaded.preprocess(net.images[2]))


def test_masks_lie_on_their_photos_and_inside_their_boxes() -> None:
    for photo in data.photos():
        assert photo.mask.shape == (photo.image.height, photo.image.width)
        rows, columns = photo.mask.nonzero()
        left, top = (min(box[i] for box in photo.boxes) for i in (0, 1))
        right_, bottom = (max(box[i] for box in photo.boxes) for i in (2, 3))
        inside = (columns >= left) & (columns <= right_) & (rows >= top) & (rows <= bottom)
        assert inside.mean() > 0.95, photo.name
