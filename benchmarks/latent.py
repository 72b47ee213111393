"""Epochs of an auto-encoder and a VAE beside pythae, and what the flow of a GLF adds to a step; one thread, interleaved.

    python benchmarks/latent.py [--rounds 7]

MNIST (4000 images), batch 256, d = 20, fused Adam. Epochs are of two pairs of nets, the same modules in both libraries: one
hidden layer of 512, pythae's default, where the library shows, and Table 3.6 at width 16 with 256 hidden units, where it is
the convolutions that take the time. Ours is the whole of `fit`, pythae's its trainer's `train_step` alone, without the copy
of the model that it keeps after every epoch. The steps of GLF and AE take the nets of Table 3.6 as they are, 64 and 1024,
and the thesis' flow: four couplings with three layers of 64. Times are CPU times of this process, so that neighbours count
less; a ratio is of one round's times: the median over rounds, and in brackets the least and the largest. The exit code is 1
if by the median an epoch of ours takes longer than pythae's, or GLF more than 1.3 times the AE.
"""

import argparse
import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stderr
from io import StringIO

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from gmcourse import fit
from gmcourse.compositions import GenerativeLatentFlow
from gmcourse.compositions.rae import RegularisedAutoencoder
from gmcourse.data.images import load_images
from gmcourse.flows import real_nvp
from gmcourse.model import StandardNormal, Trainable
from gmcourse.nets.infogan import InfoDecoder, InfoEncoder
from gmcourse.nets.mlp import MLP
from gmcourse.vae import VAE, Gaussian, GaussianEncoder

try:
    from pythae import models as peer
    from pythae.data.datasets import BaseDataset
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig
except ImportError as error:
    missing = f"{error.name} is missing: pip install pythae, or pip install gmcourse[bench]"
    raise SystemExit(f"this benchmark compares with pythae; {missing}") from None

IMAGE, D, BATCH, LR = (1, 28, 28), 20, 256, 1e-3
STEPS = 3  # of GLF and AE in a round
EPOCH, GLF = 1.0, 1.3  # the longest they may take, as multiples of what they stand beside

Nets = Callable[[int], tuple[nn.Module, nn.Module]]  # number of outputs of the encoder -> encoder, decoder


def table36(width: int, hidden: int) -> Nets:
    """Encoder and decoder of Table 3.6."""
    sizes = {"width": width, "hidden": hidden}
    return lambda outputs: (InfoEncoder(IMAGE, outputs, **sizes), InfoDecoder(D, IMAGE, **sizes))


def dense(outputs: int) -> tuple[nn.Module, nn.Module]:
    """One hidden layer either way."""
    return MLP(IMAGE, outputs, (512,)), MLP(D, IMAGE, (512,))


NETS: dict[str, Nets] = {"MLP 512": dense, "Table 3.6 / 4": table36(16, 256)}


def plain(nets: Nets) -> Trainable:
    return RegularisedAutoencoder(IMAGE, *nets(D), StandardNormal(D), penalty=0.0)


def variational(nets: Nets) -> Trainable:
    encoder, decoder = nets(2 * D)
    return VAE(IMAGE, GaussianEncoder(encoder), decoder, prior=StandardNormal(D), likelihood=Gaussian(1.0))


class Encoder(BaseEncoder):
    """A net as pythae wants it; with twice the outputs for a VAE."""

    def __init__(self, net: nn.Module, variational: bool):
        super().__init__()
        self.net, self.variational = net, variational

    def forward(self, x: Tensor) -> ModelOutput:
        out = self.net(x)
        if not self.variational:
            return ModelOutput(embedding=out)
        mean, log_variance = out.chunk(2, dim=1)
        return ModelOutput(embedding=mean, log_covariance=log_variance)


class Decoder(BaseDecoder):
    """A net as pythae wants it."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, z: Tensor) -> ModelOutput:
        return ModelOutput(reconstruction=self.net(z))


def of_pythae(nets: Nets, latent: bool, x: Tensor, folder: str) -> Callable[[], object]:
    """An epoch of pythae's AE, or of its VAE if there is noise in the latents."""
    encoder, decoder = nets(2 * D if latent else D)
    config = (peer.VAEConfig if latent else peer.AEConfig)(input_dim=IMAGE, latent_dim=D)
    model = (peer.VAE if latent else peer.AE)(config, encoder=Encoder(encoder, latent), decoder=Decoder(decoder))
    settings = BaseTrainerConfig(
        output_dir=folder,
        per_device_train_batch_size=BATCH,
        learning_rate=LR,
        optimizer_params={"fused": True},
        no_cuda=True,
    )
    trainer = BaseTrainer(model, BaseDataset(x, torch.zeros(len(x))), training_config=settings)
    trainer.prepare_training()
    return lambda: trainer.train_step(1)


def ours(model: Trainable, x: Tensor, **length) -> Callable[[], object]:
    """An epoch, or some steps, of `fit`."""
    return lambda: fit(model, x, batch_size=BATCH, lr=LR, progress=False, **length)


def seconds(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each work, round by round; they take turns, and the first round warms up."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds + 1):
        for name, work in works.items():
            start = time.process_time()
            with redirect_stderr(StringIO()):  # pythae's progress bars
                work()
            found[name].append(time.process_time() - start)
    return {name: times[1:] for name, times in found.items()}


def main() -> int:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    logging.disable(logging.INFO)
    torch.manual_seed(0)
    x = load_images("mnist")[0]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for of, nets in NETS.items():
            for name, model in {"AE": plain(nets), "VAE": variational(nets)}.items():
                works = {name: ours(model, x, epochs=1), f"pythae's {name}": of_pythae(nets, name == "VAE", x, folder)}
                rows.append((f"epoch, {of}", seconds(works, rounds), EPOCH))
    full = table36(64, 1024)
    glf = GenerativeLatentFlow(IMAGE, *full(D), real_nvp((D,), layers=4, hidden=(64,) * 3))
    works = {name: ours(model, x, steps=STEPS) for name, model in {"GLF": glf, "AE": plain(full)}.items()}
    rows.append((f"{STEPS} steps, Table 3.6", seconds(works, rounds), GLF))
    table, slow = Table("work", "ours", "s", "beside", "s", "ratio", "wanted"), 0
    for work, found, wanted in rows:
        (name, here), (other, there) = found.items()
        ratios = [a / b for a, b in zip(here, there, strict=True)]
        ratio, spread = statistics.median(ratios), f"({min(ratios):.2f}–{max(ratios):.2f})"
        times = [f"{statistics.median(times):.2f}" for times in (here, there)]
        table.add_row(work, name, times[0], other, times[1], f"{ratio:.2f} {spread}", f"≤ {wanted}")
        slow += ratio > wanted
    Console(width=100).print(table)
    return int(slow > 0)


if __name__ == "__main__":
    raise SystemExit(main())
