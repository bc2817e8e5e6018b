"""Objective for sequences: a word, or all words, of a caption."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from attrib import checks
from attrib.core.objectives.objective import SPACES, Acts, Objective, Space
from attrib.core.objectives.outputs import Whole, chosen, dense, each, from_log_odds, in_range, picked, whole
from attrib.errors import TargetError


@dataclass(frozen=True, eq=False)
class Token(Objective):
    r"""Log-probability of one word of a sequence, or of the whole of it, for outputs ``(N, T, V)``.

    .. math:: s = \log p(w_t \mid w_{<t}, x), \qquad \text{or } s = \sum_t \log p(w_t \mid w_{<t}, x)

    The model must be told the words, as in training (teacher forcing): its output at place t is about ``tokens[t]``.
    A model whose output at t is about the word after input t needs its last output and the first token left out.

    Args:
        tokens: ``(T,)`` for all examples or ``(N, T)``: numbers of words; with ``position`` also one number.
        position: which word: a number, or one per example; None: the sum over all words.
        pad: number that fills up shorter sequences; it is not counted, and may lie outside the vocabulary.
        space: ``"log_probability"``, ``"probability"`` or ``"log_odds"`` of the word or the whole sequence, or
            ``"logit"``: the sum of the words' outputs as they are.

    Example:
        >>> out = torch.tensor([[[0.0, 0.0], [0.0, 9.0]]])  # two places, two words
        >>> Token([0, 1])(out, {}), Token([0, 1], position=0)(out, {}), Token(0, position=1)(out, {})
        (tensor([-0.6933]), tensor([-0.6931]), tensor([-9.0001]))

    References:
        Selvaraju et al., "Grad-CAM", ICCV 2017, section 7.1: the log-probability of a caption as the score.
    """

    tokens: Whole | list[list[int]]
    position: Whole | None = None
    pad: int | None = None
    space: Space = "log_probability"

    def __post_init__(self) -> None:
        checks.choice("score space", self.space, SPACES)
        if self.pad is not None:
            checks.integer("pad", self.pad)
        if self.position is not None:
            object.__setattr__(self, "position", whole("position", self.position, 0, 1).reshape(-1))
        axes = (1, 2) if self.position is None else (0, 1, 2)
        tokens = whole("tokens", self.tokens, *axes)
        object.__setattr__(self, "tokens", tokens[None] if tokens.ndim == 1 else tokens)

    @property
    def entries(self) -> int:
        tokens, position = torch.as_tensor(self.tokens), self.position
        return max(len(tokens) if tokens.ndim else 1, len(position) if isinstance(position, Tensor) else 1)

    def bind(self, output: Any, acts: Acts) -> Token:
        out = dense(output, "n t v", "a token")
        self._counted(out)
        return self

    def rows(self, index: Tensor) -> Token:
        tokens = torch.as_tensor(self.tokens)
        position = None if self.position is None else chosen(torch.as_tensor(self.position), index)
        return replace(self, tokens=chosen(tokens, index) if tokens.ndim else tokens, position=position)

    def in_space(self, space: Space) -> Token:
        return replace(self, space=space)

    def __call__(self, output: Any, acts: Acts) -> Tensor:
        out = dense(output, "n t v", "a token")
        tokens, counted = self._counted(out)
        each_word = picked(out.movedim(2, 1), tokens, "logit" if self.space == "logit" else "log_odds")
        if self.position is not None:
            only = each_word[counted]  # one per example
            return from_log_odds(only, self.space)
        if self.space != "logit":
            each_word = F.logsigmoid(each_word)
        total = each_word.masked_fill(~counted, 0).sum(1)
        if self.space == "probability":
            return total.exp()
        return total - (-total.expm1()).log() if self.space == "log_odds" else total

    def _counted(self, out: Tensor) -> tuple[Tensor, Tensor]:
        """Words ``(N, T)``, 0 where none is asked for, and which of them count."""
        tokens = torch.as_tensor(self.tokens, device=out.device)
        if tokens.ndim and tokens.shape[1] != out.shape[1]:
            raise TargetError(
                f"tokens must have one entry for each of {out.shape[1]} places of the output; got {tokens.shape[1]}. "
                "Where the output is about the next word, leave out its last place and the first token."
            )
        tokens = each("tokens", tokens.reshape(-1, 1) if tokens.ndim == 0 else tokens, len(out)).expand(out.shape[:2])
        counted = torch.ones_like(tokens, dtype=torch.bool) if self.pad is None else tokens != self.pad
        if self.position is not None:
            place = each("position", torch.as_tensor(self.position, device=out.device), len(out)).expand(len(out))
            place = in_range("position", place, out.shape[1])
            counted = counted & (torch.arange(out.shape[1], device=out.device) == place[:, None])
        for n, some in enumerate(counted.any(1).tolist()):
            if not some:
                what = "only padding" if self.position is None else "padding at its position"
                raise TargetError(f"tokens must hold a word that counts; example {n} has {what} ({self.pad}).")
        in_range("tokens", tokens[counted], out.shape[2])
        return tokens.masked_fill(~counted, 0), counted
