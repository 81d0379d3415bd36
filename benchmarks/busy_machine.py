"""Training beside other programs: what a busy machine costs, by the number of threads and by how threads wait for each other.

    python benchmarks/busy_machine.py [--neighbours 0 1 2] [--rounds 3]

Milliseconds per training step of the embedded model (16 rows of 64 tokens), each way in a process of its own, the ways in turn,
the median of the rounds. A neighbour is a process that computes without end. "waiting as petkit" is the environment that the
command ``petkit`` sets; "waiting as torch" is none.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

WAYS = {"waiting as torch": {}, "waiting as petkit": {"GOMP_SPINCOUNT": "1000"}}
_NEIGHBOUR = "while True: pass"
_WARM_UP = 2


def step_milliseconds(threads: int, seconds: float) -> float:
    """Train for some seconds; return the time per step."""
    import torch

    from petkit.models.loading import load_masked_lm

    torch.set_num_threads(threads)
    model = load_masked_lm("embedded", "eager").train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    ids = torch.randint(1000, 20000, (16, 64), generator=torch.Generator().manual_seed(0))
    done, started = -_WARM_UP, time.perf_counter()
    while done < 1 or time.perf_counter() - started < seconds:
        if done == 0:
            started = time.perf_counter()
        optimizer.zero_grad()
        torch.autograd.backward(model.base_model(input_ids=ids).last_hidden_state[:, 0].pow(2).sum())
        optimizer.step()
        done += 1
    return 1000 * (time.perf_counter() - started) / done


def measured(threads: int, way: str, neighbours: int, seconds: float) -> float:
    """Return what a process of its own measures beside so many neighbours."""
    spinning = [subprocess.Popen([sys.executable, "-c", _NEIGHBOUR]) for _ in range(neighbours)]
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    try:
        command = [sys.executable, __file__, "--child", str(threads), "--seconds", str(seconds)]
        done = subprocess.run(command, env={**variables, **WAYS[way]}, capture_output=True, text=True, check=True)
    finally:
        for process in spinning:
            process.kill()
    return float(done.stdout)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--neighbours", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(step_milliseconds(options.child, options.seconds))
        return
    ways = [(threads, way) for threads in options.threads for way in WAYS]
    print(f"| busy neighbours | {' | '.join(f'{threads} threads, {way}' for threads, way in ways)} |")
    print("|---" * (len(ways) + 1) + "|")
    for neighbours in options.neighbours:
        rounds = [[measured(*way, neighbours, options.seconds) for way in ways] for _ in range(options.rounds)]
        print(
            f"| {neighbours} | {' | '.join(f'{statistics.median(found):.0f}' for found in zip(*rounds, strict=True))} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
