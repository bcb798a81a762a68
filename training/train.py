"""Train MOS-tiny: `python -m training.train --labels labels.jsonl --images DIR --out runs/tiny`. Goes on where it was.

The same seed draws the same pictures in the same order, before and after a kill.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from facedeploy.models.mos_tiny import MosTiny
from facedeploy.pipelines.mos import MosConfig
from training import data
from training.config import Config, read
from training.losses import Labels, losses

_CLIP = 10.0  # Norm of the gradient at most.
_LOG_EVERY = 50


@dataclass
class State:
    """Everything that a checkpoint holds."""

    config: Config
    model: MosTiny
    average: MosTiny
    optimizer: torch.optim.Optimizer
    step: int = 0
    unlogged: list[dict[str, float]] = dataclasses.field(default_factory=list)


def start(config: Config, weights: Path | None = None) -> State:
    """A new run, from drawn weights or from those of a .safetensors file that `save` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds something else.
    """
    torch.manual_seed(config.seed)
    model = MosTiny()
    _initialise(model)
    if weights is not None:
        _load(model, weights)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # Missing in PyTorch's stubs.
    plain = [p for p in model.parameters() if p.ndim < 2]
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    groups = [{"params": decayed, "weight_decay": config.decay}, {"params": plain, "weight_decay": 0.0}]
    return State(config, model, copy.deepcopy(model), torch.optim.AdamW(groups, lr=config.rate))


def _load(model: MosTiny, path: Path) -> None:
    try:
        given = load_file(path)
    except SafetensorError as error:
        msg = f"{path} is not a whole .safetensors file: {error}"
        raise ValueError(msg) from error
    own = {k: v.shape for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    if {k: v.shape for k, v in given.items()} != own:
        msg = f"{path} does not hold the weights of MOS-tiny, whole and alone"
        raise ValueError(msg)
    model.load_state_dict(given, strict=False)


def _initialise(model: MosTiny) -> None:
    """He's for convolutions; deformable ones start as ordinary ones; few priors are faces (RetinaNet's prior)."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    nn.init.zeros_(model.merge.conv.conv_offset_mask.weight)
    for head in model.heads:
        assert isinstance(head, nn.Conv2d)
        assert head.bias is not None
        nn.init.normal_(head.weight, std=0.01)
        head.bias.data[4] = -math.log(99)
    nn.init.normal_(model.pose.bins.weight, std=0.01)


def resume(path: Path) -> State:
    saved = torch.load(path, weights_only=True)
    state = start(Config(**saved["config"]))
    state.model.load_state_dict(saved["model"])
    state.average.load_state_dict(saved["average"])
    state.optimizer.load_state_dict(saved["optimizer"])
    state.step = saved["step"]
    state.unlogged = saved.get("unlogged", [])
    return state


def keep(state: State, path: Path) -> None:
    """Write a checkpoint that replaces the last one only when it is whole."""
    parts = {
        "config": dataclasses.asdict(state.config),
        "model": state.model.state_dict(),
        "average": state.average.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "step": state.step,
        "unlogged": state.unlogged,
    }
    half = path.with_suffix(".part")
    torch.save(parts, half)
    half.replace(path)


def run(state: State, batches: Iterator[tuple[Tensor, Labels]]) -> Iterator[dict[str, float]]:
    """Train to the last step; yields the losses of each."""
    mean = torch.tensor(MosConfig().preprocess.mean).reshape(3, 1, 1)
    state.model.train()
    while state.step < state.config.steps:
        pixels, labels = next(batches)
        image = (pixels - mean).to(memory_format=torch.channels_last)
        yield advance(state, image, labels)


def advance(state: State, image: Tensor, labels: Labels) -> dict[str, float]:
    """One step on normalised pictures."""
    config = state.config
    for group in state.optimizer.param_groups:
        group["lr"] = rate(config, state.step)
    with torch.autocast("cpu", torch.bfloat16, enabled=config.bfloat16):
        parts = losses(state.model, image, labels)
    total = torch.stack([getattr(config, name) * loss for name, loss in parts.items()]).sum()
    state.optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(total)
    nn.utils.clip_grad_norm_(state.model.parameters(), _CLIP)
    state.optimizer.step()
    state.step += 1
    _blend(state)
    return {"total": total.item(), **{k: v.item() for k, v in parts.items()}}


def rate(config: Config, step: int) -> float:
    """Linear warm-up, then a cosine to a hundredth."""
    if step < config.warmup:
        return config.rate * (step + 1) / config.warmup
    part = (step - config.warmup) / max(1, config.steps - config.warmup)
    return config.rate * (0.01 + 0.99 * (1 + math.cos(math.pi * part)) / 2)


@torch.no_grad()
def _blend(state: State) -> None:
    """Averaged weights; young averages follow faster."""
    decay = min(state.config.ema, (1 + state.step) / (10 + state.step))
    for mine, new in zip(state.average.state_dict().values(), state.model.state_dict().values(), strict=True):
        if mine.is_floating_point():
            mine.lerp_(new, 1 - decay)
        else:
            mine.copy_(new)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labels", type=Path, required=True, help="what `python -m training.labels` wrote")
    parser.add_argument("--images", type=Path, required=True, help="folder that the labels' paths start from")
    parser.add_argument(
        "--config",
        type=Path,
        default=Path(__file__).with_name("mos_tiny.toml"),
        help="settings of a new run; one that goes on keeps its own",
    )
    parser.add_argument("--weights", type=Path, help="a .safetensors file for a new run to start from")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoint, log and weights")
    arguments = parser.parse_args()
    checkpoint = arguments.out / "checkpoint.pt"
    try:
        state = resume(checkpoint) if checkpoint.is_file() else start(read(arguments.config), arguments.weights)
        pictures = data.read(arguments.labels, arguments.images, "train")
    except (OSError, ValueError) as error:
        parser.error(str(error))
    arguments.out.mkdir(parents=True, exist_ok=True)
    train(state, pictures, arguments.out)


def train(state: State, pictures: dict[str, list[data.Picture]], out: Path) -> None:
    """Train to the end, with checkpoints and a log of losses in the folder `out`, and the averaged weights at last."""
    config = state.config
    samples = data.Samples(pictures, config)
    log = out / "log.jsonl"
    lines = log.read_text().splitlines(keepends=True) if log.is_file() else []
    whole = (line for line in lines if line.endswith("\n"))  # A kill may leave half a line.
    log.write_text("".join(line for line in whole if json.loads(line)["step"] <= state.step))
    began = time.monotonic()
    progress = tqdm(total=config.steps, initial=state.step, disable=None)
    for parts in run(state, data.batches(samples, state.step)):
        progress.update()
        state.unlogged.append(parts)
        if state.step % _LOG_EVERY == 0 or state.step == config.steps:
            record: dict[str, Any] = {"step": state.step, "seconds": round(time.monotonic() - began, 1)}
            record |= {k: round(sum(p[k] for p in state.unlogged) / len(state.unlogged), 4) for k in parts}
            state.unlogged = []
            with log.open("a") as file:
                file.write(json.dumps(record) + "\n")
        if state.step % config.keep_every == 0 or state.step == config.steps:
            keep(state, out / "checkpoint.pt")
    save(state.average, out / "mos-tiny.safetensors")


def save(model: MosTiny, path: Path) -> None:
    """The weights without BatchNorm's counters."""
    tensors = {k: v.contiguous() for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    save_file(tensors, path)


if __name__ == "__main__":
    main()
