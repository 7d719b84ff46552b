"""Fuzz the losses: `python .ci/fuzz_losses.py [--batches 10000] [--first SEED]`.

Each batch is drawn from a seed of its own: size, dimension, classes, tight clusters, duplicates, norms, precision,
loss, strategy, distance, margin, reduction. Value, active terms and gradient are compared with sums over plain
differences in float64. Failures are printed with their seed (`--first SEED --batches 1` repeats one), and the exit
status is then 1."""
import argparse
import sys
import time
import warnings
import torch
from torch.nn import functional as F
from deep_metric_compare.distances import pairwise_distances
from deep_metric_compare.losses import ContrastiveLoss, TripletLoss
from deep_metric_compare.sampling import STRATEGIES, distinct_pairs, published_pairs, random_pairs, select_triplets

SPREADS = 1., .3, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5

class Draw:
    "Choices made from one seed"
    def __init__(self, seed): self.g = torch.Generator().manual_seed(seed)
    def whole(self, low, high): return int(torch.randint(low, high + 1, (), generator=self.g))
    def of(self, *options): return options[self.whole(0, len(options) - 1)]
    def normal(self, *shape): return torch.randn(*shape, generator=self.g, dtype=torch.float64)
    def labels(self, n, size): return torch.randint(0, n, (size,), generator=self.g)

def draw_batch(draw, strategy):
    "Points round centres, which classes may share; some twice; of unit length, or of any length far from the origin"
    size = draw.of(draw.whole(1, 12), draw.whole(2, 48), draw.whole(49, 80))
    dim = draw.whole(2, 48)
    if strategy == 'published': size += -size % 6
    centres, spread = draw.whole(1, 8), draw.of(*SPREADS)
    y, c = draw.labels(draw.whole(1, 12), size), draw.labels(centres, size)
    z = F.normalize(draw.normal(centres, dim), dim=1)[c] + spread/dim**.5*draw.normal(size, dim)
    scale = 1.
    for _ in range(draw.of(0, 0, 1, 3)): z[draw.whole(0, size - 1)] = z[draw.whole(0, size - 1)]
    if strategy == 'distance-weighted' or draw.of(True, True, False): z = F.normalize(z, dim=1)
    else:
        scale = draw.of(.01, .3, 3., 100.)
        z = scale*(z + draw.of(0., 1.))
    about = f'B={size} D={dim} spread={spread:g} scale={scale:g}'
    return z.to(draw.of(torch.float32, torch.float32, torch.float64)), y, scale, about

def draw_loss(draw, strategy, scale):
    "A loss, its margin in proportion to the points"
    cls, distance = draw.of(ContrastiveLoss, TripletLoss), draw.of('euclidean', 'sqeuclidean')
    margin = draw.of(.05, .2, .5, 1., 1.5)*(scale if distance == 'euclidean' else scale**2)
    reduction = draw.of('mean', 'active', 'sum')
    if cls is ContrastiveLoss: return cls(margin, strategy, distance, reduction, draw.of(False, True))
    soft = strategy != 'semi-hard' and draw.whole(1, 10) == 1
    return cls('soft' if soft else margin, strategy, distance, reduction)

def root(s): return torch.where(s > 0, torch.where(s > 0, s, 1).sqrt(), 0)

def triplets(loss, z, y, g):
    "Triplets (a, p, n) the strategy looks at; those it lists are chosen by distances as precise as the loss has"
    if loss.strategy in ('all', 'semi-hard'):
        same = y[:, None] == y
        return ((same & ~torch.eye(len(y), dtype=torch.bool))[:, :, None] & ~same[:, None]).nonzero(as_tuple=True)
    d = pairwise_distances(z) if loss.strategy in ('hard', 'distance-weighted') else None
    t = select_triplets(loss.strategy, y, d, z.shape[1], g)
    return t.a[t.keep], t.p[t.keep], t.n[t.keep]

def pairs(loss, z, y, g):
    "Pairs (i, j) the strategy looks at, but for semi-hard"
    if loss.strategy in ('all', 'semi-hard'): return torch.triu_indices(len(y), len(y), 1)
    if loss.strategy == 'random': t = random_pairs(y, g)
    elif loss.strategy == 'published': t = published_pairs(y)
    else:
        chosen = select_triplets(loss.strategy, y, pairwise_distances(z), z.shape[1], g)
        t = distinct_pairs(chosen, len(y))
    return t.i[t.keep], t.j[t.keep]

def oracle(loss, z, w, y, g, tol):
    "Of each term its value, its force, and whether it is a positive pair, is active, may be active or not by rounding"
    s = (w[:, None] - w[None]).square().sum(-1)
    d, m = root(s), loss.margin
    δ, slope = (s, 2*d.detach()) if loss.distance == 'sqeuclidean' else (d, torch.ones_like(d))
    if isinstance(loss, TripletLoss) or loss.strategy == 'semi-hard':
        a, p, n = triplets(loss, z, y, g)
        gap, force = δ[a, n] - δ[a, p], slope[a, n] + slope[a, p]
        none = torch.zeros_like(a, dtype=torch.bool)
        if m == 'soft': return F.softplus(-gap), force, none, ~none, none
        on, near = gap < m, (gap - m).abs() < tol
        if loss.strategy == 'semi-hard':
            on = on & (gap > 0)
            near = near | (gap.abs() < tol)
        if isinstance(loss, TripletLoss): return m - gap, force, none, on, near
        if near.any(): return None                                      # which pairs are selected is not certain
        used = torch.zeros(s.shape, dtype=torch.bool)
        used[a[on], p[on]] = used[a[on], n[on]] = True
        i, j = (used | used.T).triu(1).nonzero(as_tuple=True)
    else: i, j = pairs(loss, z, y, g)
    pos, left = y[i] == y[j], m - δ[i, j]
    force = 2*torch.where(pos, d[i, j], left.abs()*slope[i, j]).detach()
    return torch.where(pos, s[i, j], left.square()), force, pos, pos | (left > 0), ~pos & (left.abs() < tol)

def weights(loss, pos, on):
    "What each term weighs in the loss"
    if loss.reduction == 'sum': return torch.ones(len(pos), dtype=torch.float64)
    only_active = loss.strategy == 'semi-hard' and isinstance(loss, TripletLoss)
    counted = on if loss.reduction == 'active' or only_active else torch.ones_like(on)
    def share(side): return side/max(1, int((counted & side).sum()))
    return (share(pos) + share(~pos))/2 if loss.balance else share(pos | ~pos)

def wrong(loss, z, y, seed):
    "Sentences on what differs"
    loss.generator, g = (torch.Generator().manual_seed(seed) for _ in range(2))
    u, w = z.clone().requires_grad_(), z.double().requires_grad_()
    value = loss(u, y)
    value.backward()
    rounding = 64*torch.finfo(z.dtype).eps                                      # of terms made of many products
    reach = float((w - w.mean(0)).norm(dim=1).max())                            # what is multiplied is no larger
    far = 2*reach if loss.distance == 'euclidean' else 4*reach**2
    tol = rounding*(far + (0. if loss.margin == 'soft' else loss.margin))
    if (truth := oracle(loss, z, w, y, g, tol)) is None: return
    v, force, pos, on, near = truth
    sure, most = int((on & ~near).sum()), int((on | near).sum())
    active = int(loss.latest.active)
    if not sure <= active <= most: yield f'{active} active terms, expected {sure} to {most}'
    k = weights(loss, pos, on)
    want, push = (k*v)[on].sum(), (k*force)[on].sum()
    doubt = int(near.sum())/max(1, active)                      # how much the number of active terms may differ
    allowed = (1e-3 + doubt)*abs(float(want)) + tol*float(push) + float((k*v.abs())[near].sum())
    if not abs(float(value) - float(want)) <= allowed:
        yield f'value {float(value):.9g}, expected {float(want):.9g}'
    if not want.requires_grad: return
    grad, = torch.autograd.grad(want, w)
    off, size = float((u.grad.double() - grad).norm()), float(grad.norm())
    allowed = (1e-3 + doubt)*size + 2*float((k*force)[near].sum())
    allowed += rounding*float(push)                                             # what is left of forces that cancel
    if not off <= allowed: yield f'gradient off by {off:.3g} of {size:.3g}'

def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--batches', type=int, default=10_000)
    p.add_argument('--first', type=int, default=0)
    a = p.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter('ignore')                             # lengths that do not fit a margin are part of the game
    start, failed = time.perf_counter(), 0
    for seed in range(a.first, a.first + a.batches):
        draw = Draw(seed)
        strategy = draw.of('all', 'all', 'semi-hard', *STRATEGIES)
        z, y, scale, about = draw_batch(draw, strategy)
        loss = draw_loss(draw, strategy, scale)
        for sentence in wrong(loss, z, y, seed):
            failed += 1
            print(f'seed {seed}: {sentence} in {loss}, {about}, {z.dtype}', flush=True)
    print(f'{a.batches} batches in {time.perf_counter() - start:.0f} s, {failed} failures')
    sys.exit(failed > 0)

if __name__ == '__main__': main()
