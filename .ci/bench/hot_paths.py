"""What the benchmark measures. Each function gives lines of its table; the page *Speed* reads them."""
import tempfile, time
from dataclasses import replace
from functools import partial
from pathlib import Path
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from deep_metric_compare.core import RunConfig
from deep_metric_compare.data import replica_dls
from deep_metric_compare.distances import pairwise_distances
from deep_metric_compare.run import prepare
from deep_metric_compare.learner import NoValidationPass, metric_learner, published_adam
from deep_metric_compare.losses import ContrastiveLoss, TripletLoss, stack_losses
from deep_metric_compare.metrics import _frame, _Products, retrieval_metrics
from deep_metric_compare.models import Replicas, ViTEmbedder
from sides import batch, peer, points, row, same_gradient, step, tight_batch, versus

MARGIN = .2

# ---- Losses ----
def distances_alone(x, y): return pairwise_distances(x).sum()

AIMS = {('all', '10 classes'): 70, ('all', '4 per class'): 25, ('semi-hard', '10 classes'): 45,
        ('hard', '10 classes'): 1.8, ('contrastive', '10 classes'): 1.3}       # × pytorch-metric-learning, at B = 512

def peer_aim(what, per, B):
    if B == 512: return AIMS.get((what, per))
    return 1 if what == 'all' and B >= 16 else None                            # never slower

def floor_aim(what, B):
    if what != 'all': return None
    if B == 512: return 2.5
    return 1.5 if B >= 2048 else None

def bench_losses(sizes=(16, 64, 256, 512), big=(1024, 2048, 4096), repeats=5):
    "Forward and backward against pytorch-metric-learning, which lists triplets (to 512), and the distances alone"
    ours = {w: TripletLoss(MARGIN, w) for w in ('all', 'semi-hard', 'hard')} | dict(contrastive=ContrastiveLoss(MARGIN))
    peers = {w: peer(w, MARGIN) for w in ours}
    for per in ('10 classes', '4 per class'):
        for B in (*sizes, *big):
            x, y = batch(B, per)
            functions = dict(floor=distances_alone, **ours)
            if B in sizes: functions |= {f'peer {w}': f for w, f in peers.items()}
            sides = {k: partial(step, f, x, y) for k, f in functions.items()}
            t = versus(sides, repeats if B < 1000 else max(2, repeats//2))
            for w, loss in ours.items():
                line = partial(row, f'{w} loss', f'{per}, B = {B}', t[w], B=B, loss=w)
                if B in sizes:
                    # a linear hinge there: of the same cost, not the same loss
                    agree = None if w == 'contrastive' else same_gradient(loss, peers[w], x, y)
                    yield line(t[f'peer {w}'], 'pytorch-metric-learning', peer_aim(w, per, B), low=False, agree=agree)
                if w in ('all', 'contrastive') and B >= 256:
                    yield line(t['floor'], 'the distances alone', floor_aim(w, B))

def slope(x, y):
    "Exponent of a power: the slope of a line through the logarithms"
    x, y = (torch.tensor(v, dtype=torch.float64).log() for v in (x, y))
    x, y = x - x.mean(), y - y.mean()
    return ((x*y).sum()/x.square().sum()).item()

def growth(rows):
    "Exponents of time in B from B = 512 on, of the all-triplets loss and of the distances, which it should not exceed"
    floor = [r for r in rows if r.get('loss') == 'all' and r['against'] == 'the distances alone' and r['B'] >= 512]
    for per in ('10 classes', '4 per class'):
        for n in sorted({r['threads'] for r in rows}):
            pts = [r for r in floor if r['threads'] == n and per in r['setting']]
            if len(pts) < 3: continue
            a, b = (slope([r['B'] for r in pts], [r[k] for r in pts]) for k in ('ours_ms', 'other_ms'))
            yield dict(part='growth', setting=f'all loss, {per}: exponent {a:.2f} against {b:.2f}', threads=n,
                       against='the distances alone', ratio=a - b, measure='difference', aim=.1, met=a - b <= .1)

def bench_exactness(sizes=(64, 512), N=10_000, repeats=5):
    "What it costs that distances are taken from differences where products would round them away"
    loss, line = TripletLoss(MARGIN), partial(row, 'exactness')
    for B in sizes:
        batches = dict(ordinary=batch(B, '10 classes'), tight=tight_batch(B, 1e-4))
        t = versus({k: partial(step, loss, x, y) for k, (x, y) in batches.items()}, repeats)
        yield line(f'all triplets, B = {B}, classes 1e-4 wide', t['tight'], t['ordinary'], 'an ordinary batch', 2., B=B)
    z, y = points(N, 10)
    tight = tight_batch(N, 1e-6)[0].detach()
    t = versus(dict(ours=lambda: retrieval_metrics(z, y), plain=lambda: by_products(z, y, N//10 - 1),
                    tight=lambda: retrieval_metrics(tight, y)), max(1, repeats//2))
    what = f'ranking {N:,} points'
    yield line(what, t['ours'], t['plain'], 'float32 products and topk', B=N)
    yield line(f'{what}, classes 1e-6 wide', t['tight'], t['ours'], 'ordinary points', 3., B=N)

def by_products(z, y, R):
    "What one would write: R-Precision by distances that come from float32 products, a block at a time"
    right = 0.
    for i in torch.arange(len(z)).split(1000):
        d = torch.cdist(z[i], z)
        d[torch.arange(len(i)), i] = torch.inf
        right += (y[d.topk(R, largest=False).indices] == y[i][:, None]).double().mean(1).sum().item()
    return right/len(z)

# ---- Training ----
def learner(config, seeds=1, margins=(1.,)):
    "A run of the toy data with all diagnostics, or a stack of seeds × margins"
    configs = [replace(config, seed=s, margin=m) for s in range(seeds) for m in margins]
    parts = [*map(prepare, configs)]
    data, models, losses, loaders = ([getattr(p, k) for p in parts] for k in ('data', 'model', 'loss', 'dls'))
    held = [(d.x_test, d.clean_test) for d in data]
    if len(configs) == 1: args, held = (loaders[0], models[0], losses[0], 0), held[0]
    else: args = replica_dls(loaders), Replicas(models), stack_losses(losses), [c.seed for c in configs]
    return metric_learner(*args, config.lr, held_out=held, valid_loss=False)

def fit(learn, epochs):
    with learn.no_bar(), learn.no_logging(): learn.fit(epochs)

def plain_loop(config):
    p = prepare(config)
    opt = torch.optim.Adam(p.model.parameters(), lr=config.lr, fused=True)
    def train():
        for e in range(config.epochs):
            for i in p.dls.train.order(e):
                p.loss(p.model(p.data.x[i]), p.data.y[i]).backward()
                opt.step()
                opt.zero_grad()
    return train

def bare_learner(config):
    from fastai.learner import Learner
    p = prepare(config)
    return Learner(p.dls, p.model, p.loss, opt_func=published_adam, lr=config.lr, cbs=NoValidationPass())

def without(learn, *names):
    for name in names: learn.remove_cb(getattr(learn, name))
    return learn

def bench_step(loss, repeats=7, epochs=3):
    "A step of the toy data with more and more of this package around it, all over the same batches"
    config = RunConfig(loss=loss, epochs=epochs)
    learners = {'bare Learner': bare_learner(config),
                'this Learner, no diagnostics': without(learner(config), 'geometry_history',
                                                        'optimization_diagnostics'),
                'with diagnostics': without(learner(config), 'geometry_history'),
                'with held-out points': learner(config)}
    fits = {k: partial(fit, l, epochs) for k, l in learners.items()}
    steps = epochs*len(learners['bare Learner'].dls.train)
    t = versus({'plain loop': plain_loop(config), **fits}, repeats)
    plain, bare, watched, whole = (t[k]/steps for k in ('plain loop', *list(fits)[1:]))
    def line(what, *args): return row('training step', f'{loss}: {what}', *args)
    for k in fits: yield line(k, t[k]/steps, plain, 'a plain PyTorch loop', 1.6 if k == 'with diagnostics' else None)
    yield line('what diagnostics add', watched - bare, bare, 'the Learner without', .15)
    yield line('share of held-out points', whole - watched, whole, 'the run', .10)

def bench_replicas(epochs=3, repeats=3, many=(10, 25)):
    "Stacked fits against a lone one: seeds, and seeds × 5 margins"
    seeds, fifth = many[0], many[1]//5
    for loss in ('contrastive', 'triplet'):
        config = RunConfig(loss=loss, epochs=epochs)
        learners = dict(lone=learner(config), seeds=learner(config, seeds),
                        margins=learner(config, fifth, (.2, .4, .6, .8, 1.)))
        t = versus({k: partial(fit, l, epochs) for k, l in learners.items()}, repeats)
        def line(what, k, aim): return row('replicas', f'{loss}, {what}', t[k], t['lone'], 'one lone run', aim)
        yield line(f'{seeds} seeds', 'seeds', 2.5)
        yield line(f'{fifth} seeds × 5 margins', 'margins', 5)

VIT_B32 = dict(image_size=224, patch_size=32)    # the rest as Hugging Face's default, which is the base size

def bench_frozen(vit=VIT_B32, n=64, repeats=3):
    "A step on the features of a frozen vision transformer of random weights, against the same step through it"
    from transformers import ViTConfig, ViTImageProcessor, ViTModel
    side = vit['image_size']
    with tempfile.TemporaryDirectory() as d:
        ViTModel(ViTConfig(**vit)).save_pretrained(d)
        ViTImageProcessor(size=dict(height=side, width=side)).save_pretrained(d)
        model = ViTEmbedder(d)
    x = torch.randint(256, (n, 3, side, side), dtype=torch.uint8)
    (_, y), loss = batch(n, '10 classes'), TripletLoss(MARGIN)
    head = model.head_only()
    with torch.no_grad(): z = model.eval().features(x)
    opt = torch.optim.Adam(head.parameters(), 1e-3, fused=True)
    def once(net, x):
        loss(net(x), y).backward()
        opt.step()
        opt.zero_grad()
    t = versus(dict(features=lambda: once(head, z), backbone=lambda: once(model.train(), x)), repeats)
    million = sum(p.numel() for p in model.layers[0].parameters())/1e6
    yield row('frozen backbone', f'ViT of {million:.3g} million weights, batches of {n}', t['features'], t['backbone'],
              'the same step through it', 100, low=False)

# ---- Evaluation ----
def peer_evaluation(z, y):
    import faiss
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
    faiss.omp_set_num_threads(torch.get_num_threads())                     # it counts its threads by itself
    wanted = 'precision_at_1', 'r_precision', 'mean_average_precision_at_r'
    return AccuracyCalculator(include=wanted, k='max_bin_count', device=z.device).get_accuracy(z, y)

def free_gb():
    try:
        lines = Path('/proc/meminfo').read_text().splitlines()
        return int(next(l for l in lines if l.startswith('MemAvailable')).split()[1])/2**20
    except (OSError, StopIteration): return 0.

def bench_evaluation(sizes=((5900, 100, 1.), (10_000, 10, 1/3), (60_000, 10, 1/3)), repeats=3):
    "Recall@K, R-Precision and MAP@R of a set against itself: points, classes, and the aim"
    for N, C, aim in sizes:
        z, y = points(N, C)
        sides, against, agree = dict(ours=partial(retrieval_metrics, z, y)), 'not run: too little memory', None
        # GB that the other side was seen to need, which keeps all neighbours of all queries at once
        if fits := N*(N/C)*70/2**30 < .7*free_gb():
            sides['peer'], against = partial(peer_evaluation, z, y), 'pytorch-metric-learning with faiss'
        t = versus(sides, repeats if N < 20_000 else 0)
        if fits:
            a, b = sides['ours'](), sides['peer']()
            same = dict(zip(('map@r', 'recall@1'), ('mean_average_precision_at_r', 'precision_at_1')))
            agree = all(abs(a[k] - b[theirs]) < 1e-4 for k, theirs in same.items())
        yield row('evaluation', f'{N:,} points, {C} classes', t['ours'], t.get('peer'), against, aim, agree=agree, B=N)

# ---- Where the time goes ----
class Calls(TorchDispatchMode):
    "Counts the operations that reach PyTorch's kernels"
    n = 0
    def __torch_dispatch__(self, f, types, args=(), kwargs=None):
        self.n += 1
        return f(*args, **(kwargs or {}))

def calls(f):
    with Calls() as c: f()
    return c.n

def timed(o, name, into, part, when=lambda: True):
    "Add the time that method `name` of `o` takes to `into[part]`"
    f = getattr(o, name)
    def g(*args, **kwargs):
        if not when(): return f(*args, **kwargs)
        start = time.perf_counter()
        try: return f(*args, **kwargs)
        finally: into[part] = into.get(part, 0.) + time.perf_counter() - start
    setattr(o, name, g)

def step_parts(learn, epochs):
    "Seconds per step of the parts of a training step"
    t, model = {}, learn.model
    timed(model, 'forward', t, 'network, forward', lambda: model.training)
    timed(learn.loss_func, 'forward', t, 'loss, with its gradient')
    timed(learn, '_backward', t, 'network, backward')
    for name in ('step', 'zero_grad'): timed(learn.opt, name, t, 'optimiser')
    diagnostics = learn.optimization_diagnostics
    for name in ('after_pred', 'before_step', 'after_step'): timed(diagnostics, name, t, 'diagnostics, each step')
    timed(diagnostics, 'after_train', t, 'diagnostics, end of an epoch')
    timed(learn.geometry_history, 'after_train', t, 'held-out points, end of an epoch')
    start = time.perf_counter()
    fit(learn, epochs)
    rest = max(0., time.perf_counter() - start - sum(t.values()))   # on a busy machine the parts can exceed the whole
    n = epochs*len(learn.dls.train)
    return {k: v/n for k, v in {**t, "batches, fastai's loop": rest}.items()}

def bench_profile(epochs=3, many=10, sizes=((5900, 100), (10_000, 10))):
    "Operations of the losses, parts of a step alone and in a stack, and the matrix product's share of an evaluation"
    for B in (16, 64):
        x, y = batch(B, '10 classes')
        for w, loss in dict(all=TripletLoss(MARGIN), contrastive=ContrastiveLoss(MARGIN)).items():
            a, b = (calls(partial(step, f, x, y)) for f in (loss, peer(w, MARGIN)))
            yield dict(part='profile', setting=f'{w} loss, B = {B}', threads=torch.get_num_threads(), ours_ms=a,
                       against='pytorch-metric-learning', other_ms=b, ratio=a/b, measure='operations')
    for loss in ('contrastive', 'triplet'):
        sides = []
        for n in (1, many):
            learn = learner(RunConfig(loss=loss, epochs=1), n)
            learn.create_opt()
            fit(learn, 1)
            sides.append(step_parts(learn, epochs))
        lone, stack = sides
        for k in lone: yield row('profile', f'{loss} step: {k}', stack[k], lone[k], 'the same part of a lone run')
    for N, C in sizes:
        z, y = points(N, C)
        p, blocks = _Products(z, z, _frame(z), torch.float32), torch.arange(N).split(max(1, 2**20//N))
        t = versus(dict(product=lambda: [p(i) for i in blocks], all=lambda: retrieval_metrics(z, y)), 3)
        yield row('profile', f'evaluation of {N:,} points: the product', t['product'], t['all'], 'the evaluation')
