"""What the benchmark puts side by side: timing in turn, lines of its table, batches, and the same loss elsewhere."""
import sys, time
import torch
from torch.nn import functional as F

def versus(sides, repeats=5):
    "Functions by name → median seconds of each, called in turn after a first time; with 0 repeats that one is timed"
    def once(f):
        start = time.perf_counter()
        f()
        if torch.cuda.is_available(): torch.cuda.synchronize()
        return time.perf_counter() - start
    rounds = [{k: once(f) for k, f in sides.items()} for _ in range(repeats + 1)]
    rounds = rounds[1:] or rounds
    return {k: sorted(r[k] for r in rounds)[len(rounds)//2] for k in sides}

def row(part, setting, ours, other, against, aim=None, low=True, agree=None, **kw):
    "A line of the table: `aim` for ours/other where low is good, for other/ours else; times in seconds"
    ratio, met = float('nan'), None
    if other: ratio = ours/other if low else other/ours
    if aim is not None and ratio == ratio: met = bool(ratio <= aim if low else ratio >= aim)
    return dict(part=part, setting=setting, threads=torch.get_num_threads(), ours_ms=1e3*ours, against=against,
                other_ms=1e3*other if other else None, ratio=ratio,
                measure='ours / other' if low else 'other / ours', aim=aim, met=met, agree=agree, **kw)

def peer(what, m):
    "The same loss in pytorch-metric-learning, as a function of embeddings and labels"
    try: from pytorch_metric_learning import distances, losses, miners, reducers
    except ImportError: sys.exit('the benchmark compares with pytorch-metric-learning, which is not installed: '
                                 'pip install pytorch-metric-learning faiss-cpu')
    lp = distances.LpDistance(normalize_embeddings=False)
    if what == 'contrastive': return losses.ContrastiveLoss(0, m, distance=lp)
    loss = losses.TripletMarginLoss(m, distance=lp, reducer=reducers.MeanReducer())
    if what == 'all': return loss
    if what == 'hard': miner = miners.BatchHardMiner(distance=lp)
    else: miner = miners.TripletMarginMiner(m, type_of_triplets='semihard', distance=lp)
    return lambda x, y: loss(x, y, miner(x, y))

def batch(B, per, dim=128):
    "Points of unit length and labels: ten classes as image data have, or four members per class as P×K batches have"
    y = torch.arange(B) % 10 if per == '10 classes' else torch.arange(B)//4
    x = torch.randn(B, dim, generator=torch.Generator().manual_seed(B))
    return F.normalize(x, dim=1).requires_grad_(), y

def tight_batch(B, spread):
    "A batch of ten classes, each so wide"
    x, y = batch(B, '10 classes')
    centres = F.normalize(torch.randn(10, x.shape[1], generator=torch.Generator().manual_seed(1)), dim=1)
    return F.normalize(centres[y] + spread*x.detach(), dim=1).requires_grad_(), y

def points(N, C, dim=128):
    "Clusters to evaluate"
    g = torch.Generator().manual_seed(N)
    y = torch.arange(N) % C
    return F.normalize(torch.randn(C, dim, generator=g)[y] + 2*torch.randn(N, dim, generator=g), dim=1), y

def step(loss, x, y):
    "Forward and backward"
    x.grad = None
    loss(x, y).backward()

def same_gradient(ours, theirs, x, y):
    x = x.detach().double().requires_grad_()                    # in float32 a triplet at the edge may fall either way
    (a,), (b,) = (torch.autograd.grad(f(x, y), x) for f in (ours, theirs))
    return bool((a - b).norm() <= 1e-8*b.norm().clamp_min(1e-12))
