"""The training loop of both stages: scheduled by the clock, resumable, on single-threaded ranks.

The learning rate follows the share of `--minutes` that has passed, so a busy machine means fewer
steps and nothing else. State is saved to the work folder every five minutes and picked up again.
"""

import argparse
import ctypes
import math
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as distributed

SAVE_SECONDS = 300
LOG_STEPS = 20


def parse_arguments(description, **defaults):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--work", type=Path, default="work", help="checkpoints and logs")
    parser.add_argument("--batch", type=int, default=8, help="images per rank and step")
    parser.add_argument("--lr", type=float, default=3e-3, help="peak learning rate")
    parser.add_argument("--warmup", type=int, default=40, help="steps")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--world", type=int, default=2, help="ranks, of one thread each")
    for name, (value, text) in defaults.items():
        flag = "--" + name.replace("_", "-")
        parser.add_argument(flag, type=type(value), default=value, help=text)
    return parser.parse_args()


def end_with_parent():
    """Has the kernel end this process when its parent ends."""
    death_signal, terminate = 1, 15
    ctypes.CDLL("libc.so.6").prctl(death_signal, terminate)


def start_ranks(arguments, stage):
    """Forks, joins the ranks, and sets `arguments.rank`."""
    arguments.work.mkdir(parents=True, exist_ok=True)
    meeting = arguments.work.resolve() / f"meeting.{stage}.{os.getpid()}"
    arguments.rank = 0
    for rank in range(1, arguments.world):
        if arguments.rank == 0 and os.fork() == 0:
            arguments.rank = rank
            end_with_parent()
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    if arguments.world > 1:
        distributed.init_process_group(
            "gloo", f"file://{meeting}", rank=arguments.rank, world_size=arguments.world
        )


class Clock:
    """Time spent on a stage, over all its runs, and its share of the budget."""

    def __init__(self, minutes, used=0.0):
        self.start, self.budget = time.time() - used, minutes * 60

    def used(self):
        return time.time() - self.start


def train(arguments, stage, net, optimizers, step):
    """Runs `step(share of the time passed, want metrics) -> loss, metrics` until the time is over.

    The result lies in WORK/STAGE.pt.
    """
    path = arguments.work / f"{stage}.pt"
    clock, count = Clock(arguments.minutes), 0
    if path.exists():
        saved = torch.load(path)
        net.load_state_dict(saved["net"])
        for optimizer, state in zip(optimizers, saved["optimizers"]):
            optimizer.load_state_dict(state)
        clock, count = Clock(arguments.minutes, saved["used"]), saved["count"]
        print(f"going on from step {count} of {path}", flush=True)
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    parameters = [parameter for group in groups for parameter in group["params"]]
    share, losses = clock.used() / clock.budget, []
    last_save = last_log = time.time()

    def save():
        state = dict(
            net=net.state_dict(),
            optimizers=[optimizer.state_dict() for optimizer in optimizers],
            used=clock.used(),
            count=count,
        )
        torch.save(state, path.with_suffix(".partial"))
        os.replace(path.with_suffix(".partial"), path)

    while share < 1:
        cosine = 0.04 + 0.96 * 0.5 * (1 + math.cos(math.pi * share))
        for group in groups:
            warmed = min(1, (count + 1) / arguments.warmup)
            group["lr"] = arguments.lr * warmed * cosine * group["scale"]
        want_metrics = count % LOG_STEPS == 0
        loss, metrics = step(share, want_metrics)
        loss.backward()
        share = average_over_ranks(parameters, clock.used(), arguments.world) / clock.budget
        if torch.isfinite(torch.nn.utils.clip_grad_norm_(parameters, 1.0)):
            for optimizer in optimizers:
                optimizer.step()
        for parameter in parameters:
            parameter.grad = None
        count += 1
        losses.append(loss.item())
        if arguments.rank > 0:
            continue
        if want_metrics:
            shown = " ".join(f"{name} {value:.3f}" for name, value in metrics.items())
            rate = len(losses) / (time.time() - last_log)
            print(
                f"{stage} step {count}, {clock.used():.0f} s, {rate:.2f} steps/s, "
                f"loss {np.mean(losses):.3f}, {shown}",
                flush=True,
            )
            losses, last_log = [], time.time()
        if time.time() - last_save > SAVE_SECONDS:
            save()
            last_save = time.time()
    if arguments.rank == 0:
        save()
        print(f"{stage}: {count} steps, {path}", flush=True)


def average_over_ranks(parameters, seconds, world):
    """Averages gradients in place, and the clock, so that all ranks end at the same step."""
    if world == 1:
        return seconds
    trained = [parameter for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([p.grad.flatten() for p in trained] + [torch.tensor([seconds])])
    distributed.all_reduce(flat)
    flat /= world
    start = 0
    for parameter in trained:
        end = start + parameter.numel()
        parameter.grad.copy_(flat[start:end].view_as(parameter))
        start = end
    return flat[-1].item()
