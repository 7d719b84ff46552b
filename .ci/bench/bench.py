"""Every hot path against pytorch-metric-learning and plain PyTorch, as ratios: all sides in one process, in turn, on
the same data.

    python .ci/bench/bench.py --out nbs/results   # `make bench`, some minutes: the table that the page *Speed* reads
    python .ci/bench/bench.py --quick --out DIR   # smallest sizes, once: does everything run, do both sides agree?

A busy machine fails nothing here; sides that compute different things do."""
import argparse, os, platform, sys, time
from pathlib import Path
import torch
from deep_metric_compare.store import environment
from hot_paths import (bench_evaluation, bench_exactness, bench_frozen, bench_losses, bench_profile, bench_replicas,
                       bench_step, calls, growth, slope)
from memory import bench_memory
from sides import row, versus

TINY = dict(image_size=32, patch_size=8, hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=32)
# too short for a measurement
QUICK = dict(losses=lambda: bench_losses((16, 64), (), 2), step=lambda: bench_step('triplet', 1),
             replicas=lambda: bench_replicas(1, 1, (3, 5)), evaluation=lambda: bench_evaluation(((1000, 10, 1.),), 1),
             exactness=lambda: bench_exactness((16,), 1000, 1), frozen=lambda: bench_frozen(TINY, 8, 1),
             profile=lambda: bench_profile(1, 3, ((500, 5),)))
ONE_THREAD = dict(losses=bench_losses, step=lambda: [*bench_step('triplet'), *bench_step('contrastive')],
                  replicas=bench_replicas, evaluation=bench_evaluation, exactness=bench_exactness, frozen=bench_frozen,
                  profile=bench_profile)
TWO_THREADS = ONE_THREAD | dict(evaluation=lambda: bench_evaluation(((5900, 100, 1.), (10_000, 10, 1/3))))

def check_itself():
    "What the table rests on"
    turns = []
    versus({k: lambda k=k: turns.append(k) for k in 'ab'}, 2)
    assert turns == [*'ababab'], turns                                     # once to warm up, then in turn
    low, high = row('a', 'b', 1., 2., 'x', .6), row('a', 'b', 1., 2., 'x', 3, low=False)
    assert (low['ratio'], low['met'], high['ratio'], high['met']) == (.5, True, 2., False)
    assert abs(slope([1, 2, 4, 8], [3*n**2.5 for n in (1, 2, 4, 8)]) - 2.5) < 1e-9
    assert calls(lambda: torch.ones(3) + 1) == 2

def measure(quick):
    "The lines of the table"
    rows = []
    for n, parts in ((1, QUICK),) if quick else ((1, ONE_THREAD), (2, TWO_THREADS)):
        torch.set_num_threads(n)
        for k, f in parts.items():
            start = time.perf_counter()
            rows += f()
            print(f'{k}, {n} thread{"s"*(n > 1)}: {time.perf_counter() - start:.0f} s', file=sys.stderr, flush=True)
    rows += [*growth(rows), *bench_memory((512,) if quick else (512, 4096, 16384))]
    return [r | dict(aim=None, met=None) for r in rows] if quick else rows

def write(rows, out):
    "bench_DEVICE.csv, with the environment in a first line that begins with #"
    import pandas as pd
    env = environment()
    path = Path(out)/f"bench_{'_'.join(env['device'].lower().split())}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    about = [f'{k} {v}' for k, v in env.items() if k not in ('revision', 'threads')]
    about += [f'processor {platform.machine()}', f'{os.cpu_count()} cores']
    table = pd.DataFrame(rows).to_csv(index=False, float_format='%.6g')
    path.write_text(f"# {', '.join(about)}\n{table}", encoding='utf-8')
    return path

if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--quick', action='store_true', help='smallest sizes, once each')
    p.add_argument('--out', default='runs/bench', help='folder for the table')
    args = p.parse_args()
    if args.quick: check_itself()
    rows = measure(args.quick)
    told = 'part', 'setting', 'threads', 'ratio', 'measure', 'against', 'met'
    for r in rows: print(' | '.join(str(r.get(k)) for k in told))
    print(write(rows, args.out))
    if wrong := [f"{r['part']}, {r['setting']}" for r in rows if r.get('agree') is False]:
        sys.exit(f"the two sides disagree in {'; '.join(wrong)}: one of them computes something else than it says")
