"""A small captioner: a convolutional encoder with locations, a recurrent decoder that attends to them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attrib import checks
from attrib.errors import ShapeError


class Captioner(nn.Module):
    """Says what is in a picture, word by word.

    ``encoder`` gives a map ``(N, width, H / 4, W / 4)``. For each word, the state of a recurrent cell chooses by
    attention two places to look at; what is seen, where, and the word before make the next state and the next word.

    Convention:
        - ``captioner(x, tokens)`` is told the words (teacher forcing) and gives ``(N, T, words)``: its output at place
          t knows ``tokens[:, :t]`` and is about ``tokens[:, t]``.

    Args:
        words: size of the vocabulary.
        width: channels of the map and of the state.
        start: number of the word that stands before the first.
        end: number of the word after which nothing is said.
        pad: number that fills up what is said after the end.
        seed: of the first weights; the global random state is not touched.

    Example:
        >>> captioner = Captioner(words=15)
        >>> captioner(torch.rand(2, 3, 32, 32), torch.ones(2, 7, dtype=torch.long)).shape
        torch.Size([2, 7, 15])
    """

    def __init__(
        self, words: int, *, width: int = 48, start: int = 1, end: int = 2, pad: int = 0, seed: int = 0
    ) -> None:
        super().__init__()
        self.words = checks.integer("words", words, 1)
        self.start, self.end, self.pad = start, end, pad
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(checks.integer("seed", seed, 0))
            self.encoder = nn.Sequential(
                nn.Conv2d(3, width // 2, 5, stride=2, padding=2),
                nn.ReLU(),
                nn.Conv2d(width // 2, width, 3, stride=2, padding=1),
                nn.ReLU(),
                nn.Conv2d(width, width, 3, padding=1),
                nn.ReLU(),
            )
            self.key = nn.Linear(width + 2, width)
            self.query = nn.Linear(width, 2 * width)
            self.embedding = nn.Embedding(words, width)
            self.cell = nn.GRUCell(3 * width + 4, width)
            self.word = nn.Linear(3 * width + 4, words)

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        """Score every word at every place of ``tokens (N, T)``: ``(N, T, words)``."""
        if tokens.ndim != 2 or len(tokens) != len(x):
            raise ShapeError(f"tokens must have shape (N={len(x)}, T); got {tuple(tokens.shape)}.")
        seen, keys = self._look(x)
        state, found = seen.new_zeros(len(x), self.cell.hidden_size), []
        for before in F.pad(tokens[:, :-1], (1, 0), value=self.start).unbind(1):
            scores, state = self._say(before, state, seen, keys)
            found.append(scores)
        return torch.stack(found, 1)

    @torch.no_grad()
    def caption(self, x: Tensor, length: int = 7) -> Tensor:
        """Say the likeliest word each time: ``(N, length)``, with padding behind the end."""
        seen, keys = self._look(x)
        state = seen.new_zeros(len(x), self.cell.hidden_size)
        word = torch.full((len(x),), self.start, device=x.device)
        ended, said = torch.zeros_like(word, dtype=torch.bool), []
        for _ in range(checks.integer("length", length, 1)):
            scores, state = self._say(word, state, seen, keys)
            word = scores.argmax(1).masked_fill(ended, self.pad)
            ended = ended | (word == self.end)
            said.append(word)
        return torch.stack(said, 1)

    def _look(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What there is at each location, with the location's own place, and what it is found by."""
        act = self.encoder((x - 0.5) * 4)  # about unit variance
        y, z = (torch.linspace(-1, 1, size, device=x.device, dtype=x.dtype) for size in act.shape[2:])
        where = torch.stack(torch.meshgrid(y, z, indexing="ij")).expand(len(act), -1, -1, -1)
        seen = torch.cat([act, where], 1).flatten(2).transpose(1, 2)
        return seen, self.key(seen)

    def _say(self, word: Tensor, state: Tensor, seen: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of the next word, and the next state."""
        before = self.embedding(word)
        asked = self.query(state + before).unflatten(1, (2, -1))
        weight = (asked @ keys.transpose(1, 2) / keys.shape[2] ** 0.5).softmax(2)  # (N, 2, locations)
        context = (weight @ seen).flatten(1)
        state = self.cell(torch.cat([before, context], 1), state)
        return self.word(torch.cat([state, context], 1)), state


def train_captioner(
    x: Tensor, tokens: Tensor, *, words: int, steps: int = 500, batch: int = 64, rate: float = 4e-3, seed: int = 0
) -> Captioner:
    """Train a `Captioner` on pictures and their captions; it comes back in evaluation mode.

    Same arguments, same captioner (on one machine, with one number of threads); the global random state is not touched.

    Cost: on 4096 pictures of `coloured_shapes`, about 6 seconds on one core of a processor.

    Args:
        x: pictures ``(N, 3, H, W)`` in [0, 1].
        tokens: a caption for each, ``(N, T)``: words, an end (2), padding (0).
        words: size of the vocabulary.
        steps: of AdamW, with one cycle of rates.
        batch: pictures per step.
        rate: the highest learning rate.
        seed: of the first weights, and of the order of pictures.
    """
    checks.shape(x, "n 3 h w", "pictures")
    checks.shape(tokens, "n t", "tokens", n=len(x))
    captioner = Captioner(words, seed=seed).to(x.device)
    source = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(captioner.parameters(), rate, weight_decay=1e-4)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, rate, total_steps=checks.integer("steps", steps, 1), pct_start=0.15
    )
    with torch.enable_grad():
        for _ in range(steps):
            some = torch.randint(len(x), (batch,), generator=source).to(x.device)
            scores = captioner(x[some], tokens[some])
            loss = F.cross_entropy(scores.flatten(0, 1), tokens[some].flatten(), ignore_index=captioner.pad)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            cycle.step()
    return captioner.eval()
