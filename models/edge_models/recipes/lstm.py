"""Recipe ``lstm-ae``: an LSTM autoencoder that costs one step a tick.

After P. Malhotra et al., "LSTM-based encoder-decoder for multi-sensor anomaly detection" (ICML anomaly detection
workshop, 2016): an encoder reads the sequence, a decoder gives it back in reverse order from the encoder's last state.
Two changes. The encoder is not restarted for every window; its state is carried. And since the newest tick is the
first that the decoder gives back, only that one step of it is exported; training decodes the whole window, and what
passes between them is a bottleneck of a third of the sensors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edge_models.recipes.fitting import Settings, Trainable, fit
from edge_models.recipes.members import Estimator, ResidualMember
from edge_models.recipes.plant import Plant

_SETTLING_TICKS = 8
_BLOCK = 32
_STRIDE = 3
"""Windows overlap; every third one is decoded in training."""


@dataclass(frozen=True, slots=True)
class LstmOptions:
    """Hidden units of encoder and decoder, ticks that are decoded, and the bottleneck as a share of the sensors."""

    hidden: int = 64
    window: int = 4
    bottleneck: float = 0.33
    learning_rate: float = 5e-3

    @classmethod
    def suggest(cls, trial: Any) -> LstmOptions:
        """Draw from a study."""
        return cls(
            trial.suggest_categorical("lstm-ae.hidden", [32, 64, 128]),
            trial.suggest_int("lstm-ae.window", 1, 6),
            trial.suggest_float("lstm-ae.bottleneck", 0.15, 0.6),
            trial.suggest_float("lstm-ae.learning_rate", 1e-3, 1e-2, log=True),
        )


def train(plant: Plant, options: LstmOptions, settings: Settings) -> ResidualMember:
    """Train on the training part with early stopping; spreads on the held-out part."""
    torch.manual_seed(settings.seed)
    estimator = LstmAutoencoder(len(plant.sensors), options)
    fit(estimator, plant, settings.with_rate(options.learning_rate))
    return ResidualMember.measured(estimator, plant)


class LstmAutoencoder(Estimator, Trainable):
    """One estimate a sensor, out of the bottleneck; ``hidden`` carries the encoder's two states side by side."""

    def __init__(self, sensors: int, options: LstmOptions) -> None:
        super().__init__()
        width = max(2, round(options.bottleneck * sensors))
        self.hidden = 2 * options.hidden
        self.warmup = _SETTLING_TICKS
        self.block = _BLOCK
        self._window = options.window
        self.encoder = nn.LSTM(sensors, options.hidden, batch_first=True)
        self.squeeze = nn.Linear(options.hidden, width)
        self.unfold = nn.Linear(width, options.hidden)
        self.decoder = nn.LSTMCell(width, options.hidden)
        self.head = nn.Linear(options.hidden, sensors)

    def forward(self, now: Tensor, past: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Encode the tick, decode it again."""
        state = self._encode(now, hidden)
        estimate = self._decode(state[:, : self.hidden // 2], 1)[0]
        return estimate.unsqueeze(-1), state

    def loss(self, seen: Tensor, clean: Tensor) -> Tensor:
        """Error of windows that end in the block once the encoder has settled."""
        encoded, _ = self.encoder(seen)
        ends = range(max(_SETTLING_TICKS, self._window), self.block, _STRIDE)
        decoded = self._decode(encoded[:, list(ends)].flatten(0, 1), self._window)
        wanted = [clean[:, [end - back for end in ends]].flatten(0, 1) for back in range(self._window)]
        return nn.functional.mse_loss(torch.stack(decoded), torch.stack(wanted))

    def _encode(self, now: Tensor, state: Tensor) -> Tensor:
        """One step of the encoder, written out: an open number of ticks is not needed on the gateway."""
        h, c = state.chunk(2, -1)
        of_input, of_state, *biases = self.encoder.all_weights[0]
        gates = now @ of_input.T + h @ of_state.T + sum(biases)
        keep_new, forget, new, give = gates.chunk(4, -1)
        c = torch.sigmoid(forget) * c + torch.sigmoid(keep_new) * torch.tanh(new)
        return torch.cat((torch.sigmoid(give) * torch.tanh(c), c), -1)

    def _decode(self, encoded: Tensor, steps: int) -> list[Tensor]:
        """The newest ticks, newest first; the decoder reads what passed the bottleneck at every step."""
        latent = torch.tanh(self.squeeze(encoded))
        h = torch.tanh(self.unfold(latent))
        c = torch.zeros_like(h)
        found = []
        for _ in range(steps):
            h, c = self.decoder(latent, (h, c))
            found.append(self.head(h))
        return found
