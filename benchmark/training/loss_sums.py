"""The loss terms of an epoch, added up on the device so that no update waits for it."""

import torch
from torch import Tensor

from benchmark.runtime.errors import InputError


class LossSums:
    """Sums of named loss terms over the updates of an epoch, and the first loss among them that was not finite.

    `add` waits for nothing; `check` and `fetch` wait for the device. Sums of float32 terms in float64 have the bits
    that adding them up as Python floats has.
    """

    def __init__(self, device: torch.device):
        self.sums: dict[str, Tensor] = {}
        self.bad_update = torch.zeros((), dtype=torch.int64, device=device)  # counted from 1; 0: all were finite
        self.bad_loss = torch.zeros((), device=device)
        self.bad_terms: dict[str, Tensor] = {}

    def add(self, update: int, terms: dict[str, Tensor], loss: Tensor) -> None:
        """Count one update.

        Args:
            update: its number in the epoch, from 1.
            terms: name -> scalar; loss: their sum.
        """
        # no Python number goes into `torch.where`: on a GPU it would be copied there, and waited for
        loss = loss.detach()
        is_first_bad = ~torch.isfinite(loss) & (self.bad_update == 0)
        self.bad_update = self.bad_update + is_first_bad * update
        self.bad_loss = torch.where(is_first_bad, loss, self.bad_loss)
        for name, value in terms.items():
            value = value.detach()
            self.sums[name] = self.sums.get(name, 0.0) + value.double()
            self.bad_terms[name] = torch.where(is_first_bad, value, self.bad_terms.get(name, value))

    def check(self, epoch: int) -> None:
        """Wait for the device; raise InputError when a loss was not finite. epoch: its number, from 0."""
        if update := int(self.bad_update):
            terms = ", ".join(f"{name} {float(value):.3g}" for name, value in self.bad_terms.items())
            raise InputError(
                f"The loss became {float(self.bad_loss)} in epoch {epoch + 1}, update {update} ({terms}); lower "
                "recipe.optimiser.lr, set recipe.clip or use recipe.precision=fp32."
            )

    def fetch(self) -> dict[str, float]:
        """Wait for the device; name -> sum over the updates so far."""
        return dict(zip(self.sums, torch.stack(list(self.sums.values())).tolist()))
