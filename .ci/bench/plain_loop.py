"""The default comparison as one would write it without this project: a plain loop with pytorch-metric-learning, spread
over the cores by joblib.

    python .ci/bench/plain_loop.py race     # dmc_compare and both loops in turn, whole processes, the ratios of times
    python .ci/bench/plain_loop.py          # the loop alone: every setting of the grid with every tuning seed
    python .ci/bench/plain_loop.py halve    # the same; half of the settings go after each seed, as dmc_compare has it

The same data, networks, batches, losses, grid and seeds. It scores by scikit-learn's k-NN after every epoch, as
dmc_compare does. It has no diagnostics, no geometry, no checkpoints, no intervals and no report: what dmc_compare does
beside training is its own time."""
import os, subprocess, sys, tempfile, time
from pathlib import Path

os.environ.setdefault('OMP_NUM_THREADS', '1')
EPOCHS, BATCH, SEEDS, TUNING = 15, 64, range(10), (10_000, 10_001, 10_002)
MARGINS = dict(contrastive=(.2, .529, 1.4), triplet=(.05, .224, 1.))
RATES = 1e-3, 3e-3

def data_of(name, seed):
    "Training and held-out inputs and labels"
    from deep_metric_compare.core import RunConfig
    from deep_metric_compare.run import data_of
    d = data_of(RunConfig(dataset=name, seed=seed))
    return d.x, d.y, d.x_test, d.clean_test

def split(x, y, seed):
    "Two thirds to train on, a third to choose by; outliers stay in training"
    import torch
    from sklearn.model_selection import train_test_split
    named = (y >= 0).nonzero()[:, 0].numpy()
    a, b = train_test_split(named, test_size=1/3, stratify=y[named].numpy(), random_state=seed)
    out = (y < 0).nonzero()[:, 0]
    a = torch.cat([torch.from_numpy(a), out])
    return x[a], y[a], x[b], y[b]

def network(name):
    "The networks that the comparison trains"
    from torch import nn
    if name == 'toy': return nn.Sequential(nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 32))
    return nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(),
                         nn.Conv2d(32, 64, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(),
                         nn.Flatten(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 64))

def loss_function(loss, margin, other_mean):
    "All pairs or triplets of a batch, averaged over all or as the other choice of the grid"
    from pytorch_metric_learning import distances, losses, reducers
    reducer = reducers.AvgNonZeroReducer() if other_mean else reducers.MeanReducer()
    about = dict(distance=distances.LpDistance(normalize_embeddings=False), reducer=reducer)
    if loss == 'contrastive': return losses.ContrastiveLoss(pos_margin=0, neg_margin=margin, **about)
    return losses.TripletMarginLoss(margin=margin, **about)

def train(name, loss, margin, other_mean, rate, seed, epochs, every_epoch, data):
    "Score after each epoch, or after the last"
    import torch
    from sklearn.neighbors import KNeighborsClassifier
    from torch.nn.functional import normalize
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    x, y, xt, yt = data
    model, f = network(name), loss_function(loss, margin, other_mean)
    opt = torch.optim.Adam(model.parameters(), lr=rate)
    y = torch.where(y < 0, y.max() + 1, y)                           # outliers as a class
    def score():
        with torch.no_grad(): z, zt = normalize(model(x)), normalize(model(xt))
        return KNeighborsClassifier(5, algorithm='brute').fit(z, y).score(zt, yt)
    scores = [score()] if every_epoch else []
    for epoch in range(epochs):
        for i in torch.randperm(len(x)).split(BATCH):
            opt.zero_grad()
            f(normalize(model(x[i])), y[i]).backward()
            opt.step()
        if every_epoch: scores.append(score())
    return scores if every_epoch else score()

def whole(name, cores, halve):
    "Tune both losses, then ten paired seeds of each"
    from joblib import Parallel, delayed
    work = Parallel(cores)
    chosen = {}
    for loss, margins in MARGINS.items():
        left, seen = [(m, o, r) for m in margins for o in (False, True) for r in RATES], {}
        for seed in TUNING:
            x, y, *_ = data_of(name, seed if name == 'toy' else 0)
            data = split(x, y, seed)
            scored = work(delayed(train)(name, loss, *s, seed, EPOCHS, True, data) for s in left)
            for s, scores in zip(left, scored): seen.setdefault(s, []).append(scores)
            mean = {s: [sum(v)/len(v) for v in zip(*seen[s])] for s in left}
            left.sort(key=lambda s: -max(mean[s]))
            if halve: left = left[:-(-len(left)//2)]
        best = left[0]
        chosen[loss] = best, mean[best].index(max(mean[best]))
    tasks = [delayed(train)(name, loss, *s, seed, epoch, False, data_of(name, seed))
             for loss, (s, epoch) in chosen.items() for seed in SEEDS]
    scores = work(tasks)
    return {loss: sum(scores[i*len(SEEDS):][:len(SEEDS)])/len(SEEDS) for i, loss in enumerate(chosen)}

def loop(halve):
    for name in ('toy', 'digits'):
        print(name, {k: round(v, 4) for k, v in whole(name, os.cpu_count(), halve).items()}, flush=True)

def timed(*command):
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start

def race(rounds=2):
    "All in turn; the ratios of the times of each round, also in nbs/results/race.csv"
    lines = ['round,ours_s,halving_s,grid_s']
    for i in range(1, rounds + 1):
        command = str(Path(sys.executable).parent/'dmc_compare')
        with tempfile.TemporaryDirectory() as d: ours = timed(command, '--out', d)
        halving, grid = timed(sys.executable, __file__, 'halve'), timed(sys.executable, __file__)
        print(f'round {i}: dmc_compare {ours:.0f} s; plain loop {grid:.0f} s, ratio {ours/grid:.2f}; '
              f'with halving {halving:.0f} s, ratio {ours/halving:.2f}', flush=True)
        lines.append(f'{i},{ours:.0f},{halving:.0f},{grid:.0f}')
        (Path(__file__).parents[2]/'nbs/results/race.csv').write_text('\n'.join(lines) + '\n')

if __name__ == '__main__':
    if 'race' in sys.argv[1:]: race()
    else: loop('halve' in sys.argv[1:])
