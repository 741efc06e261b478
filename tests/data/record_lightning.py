"""Records a checkpoint of Lightning 2.6 for tests without it: ``python -m tests.data.record_lightning``.

Under ``after`` it holds the weights that PyTorch has three steps later, on the input of `batch`.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

import numpy as np

FILE = Path(__file__).parent / "lightning.ckpt"
RATE, STEPS = 0.01, 3


def batch():
    """Return the one batch of the run."""
    return np.cos(np.arange(15.0)).reshape(5, 3)


def record():
    """Train for four steps, and write the file."""
    import lightning
    import torch

    x = torch.from_numpy(batch())

    class Net(lightning.LightningModule):
        def __init__(self, width=4, args=None):
            super().__init__()
            self.save_hyperparameters()
            self.model = torch.nn.Sequential(
                torch.nn.Linear(3, width), torch.nn.BatchNorm1d(width), torch.nn.Linear(width, 3)
            )

        def training_step(self, given, _):
            return ((self.model(given) - given) ** 2).mean()

        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters(), lr=RATE)

        def on_save_checkpoint(self, checkpoint):
            after = copy.deepcopy(self.model)
            optimizer = torch.optim.AdamW(after.parameters())
            optimizer.load_state_dict(copy.deepcopy(checkpoint["optimizer_states"][0]))
            for _ in range(STEPS):
                optimizer.zero_grad()
                ((after(x) - x) ** 2).mean().backward()
                optimizer.step()
            checkpoint["after"] = after.state_dict()

    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    trainer = lightning.Trainer(
        max_steps=4,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Net(args=argparse.Namespace(seed=0)), torch.utils.data.DataLoader([x], batch_size=None))
    trainer.save_checkpoint(FILE)


if __name__ == "__main__":
    record()
