"""Peak memory of forward and backward pass of the all-triplets loss, in megabytes beyond what the process held before.

    python .ci/bench/memory.py ours|peer "10 classes" 512

A process for itself: the system keeps a high-water mark, which importing raises far above what a loss needs, so it is
set back before the pass (on Linux; elsewhere there is no such switch, and no such measurement)."""
import gc, os, subprocess, sys
from pathlib import Path

SWITCH = Path('/proc/self/clear_refs')

def held(k):
    "Megabytes that /proc says"
    lines = Path('/proc/self/status').read_text().splitlines()
    return int(next(l for l in lines if l.startswith(k)).split()[1])/1024

def measure(side, per, B):
    import torch
    from deep_metric_compare.losses import TripletLoss
    from sides import batch, peer, step
    torch.set_num_threads(1)
    loss = TripletLoss(.2) if side == 'ours' else peer('all', .2)
    step(loss, *batch(64, per))
    x, y = batch(B, per)
    gc.collect()
    SWITCH.write_text('5')
    before = held('VmRSS')
    step(loss, x, y)
    return held('VmHWM') - before

def peak(side, per, B):
    "The same from a process of its own"
    # what is freed goes back to the system; else the allocator's habits are measured, and differ from run to run
    env = os.environ | dict(MALLOC_MMAP_THRESHOLD_='65536')
    r = subprocess.run([sys.executable, __file__, side, per, str(B)], capture_output=True, text=True, env=env)
    why = r.stderr.strip().splitlines()[-1:]
    if r.returncode: sys.exit(f'the memory of {side} at B = {B} could not be measured: {"".join(why)}')
    return float(r.stdout)

def bench_memory(sizes=(512, 4096, 16384)):
    "The middle of three processes, since the allocator keeps more now and then; the other side stops at 512"
    for B in sizes if SWITCH.exists() else ():
        mb = sorted(peak('ours', '10 classes', B) for _ in range(3))[1]
        other = peak('peer', '10 classes', B) if B <= 512 else None
        aim = {4096: 100, 16384: 400}.get(B)
        yield dict(part='memory', setting=f'10 classes, B = {B}', threads=1, ours_mb=mb,
                   against='pytorch-metric-learning', other_mb=other, measure='MB', aim=aim,
                   met=None if aim is None else mb < aim, B=B)

if __name__ == '__main__': print(measure(sys.argv[1], sys.argv[2], int(sys.argv[3])))
