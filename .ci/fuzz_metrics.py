"""Fuzz the measures: `python .ci/fuzz_metrics.py [--sets 1500] [--first SEED]`.

Retrieval, neighbours, verification and geometry of random sets are compared with loops in float64. Every set has a
seed; a set whose values differ is printed with its seed and what differs (`--first SEED --sets 1` repeats one), and the
exit status is then 1."""
import argparse, math, sys
import numpy as np, torch
from deep_metric_compare.geometry import class_geometry
from deep_metric_compare.metrics import knn_predict, retrieval_metrics, verification_metrics, verification_thresholds

KINDS = 'classes', 'tight', 'far row', 'copies', 'few points', 'grid', 'large', 'small', 'line', 'many classes'
DTYPES = torch.float32, torch.float32, torch.float64, torch.float16, torch.bfloat16

def random_set(seed):
    "Embeddings, labels (some negative) and the name of the kind"
    rng = np.random.default_rng(seed)
    kind, dtype = KINDS[seed % len(KINDS)], DTYPES[seed // len(KINDS) % len(DTYPES)]
    N, C = int(rng.integers(2, 90)), int(rng.integers(1, 8))
    D = int(rng.choice([1, 2, 3, 8, 31, 64, 130, 600, 2000]))
    if kind == 'many classes': C = max(1, N//2)
    true = rng.integers(0, C, N)
    centres = rng.normal(size=(C, D))
    spread = 10.**rng.uniform(-5, -1) if kind == 'tight' else rng.uniform(.1, 2)
    z = centres[true] + spread*rng.normal(size=(N, D))/D**.5
    if kind in ('classes', 'tight'): z /= np.linalg.norm(z, axis=1, keepdims=True)
    if kind == 'far row': z[rng.integers(N)] *= 10.**rng.uniform(1, 4)
    if kind == 'copies': z[N//2:] = z[:N - N//2]
    if kind == 'few points': z = z[rng.integers(0, min(N, 3), N)]
    if kind == 'grid': z = rng.integers(-1, 2, (N, D)).astype(float)
    if kind == 'line': z = np.repeat(z[:, :1], D, 1)
    if dtype not in (torch.float16,): z = z*{'large': 1e30, 'small': 1e-30}.get(kind, 1.)
    z = torch.from_numpy(z).to(dtype)
    labels = np.where(rng.random(N) < .1, rng.integers(0, C, N), true)
    labels[rng.random(N) < .05] = -1
    return z, labels, f'{kind}, {str(dtype)[6:]}, {N} points, {D} columns, {C} classes'

def distances(a, b):
    "Squares added from small to large"
    return np.array([[np.sort((p - q)**2).sum() for q in b] for p in a])

def slow_retrieval(d, y, ks=(1, 2, 4, 8)):
    rows = []
    for i in np.flatnonzero(y >= 0):
        other = np.delete(np.arange(len(y)), i)
        match = y[other] == y[i]
        R = match.sum()
        if not R: continue
        hit = match[np.lexsort((match, d[i, other]))]
        P = hit.cumsum()/np.arange(1, len(hit) + 1)
        rows.append([float(hit[:k].any()) for k in ks] + [P[R - 1], (P*hit)[:R].sum()/R])
    names = [f'recall@{k}' for k in ks] + ['r_precision', 'map@r']
    return dict(zip(names, np.mean(rows, 0) if rows else [math.nan]*len(names)))

def slow_knn(d, y, k):
    res = []
    for row in d:
        near = [j for j in np.argsort(row, kind='stable') if row[j] <= np.sort(row)[k - 1]]
        votes = {c: [row[j] for j in near if y[j] == c] for c in {y[j] for j in near}}
        res.append(min(votes, key=lambda c: (-len(votes[c]), sum(votes[c]), c)))
    return res

def slow_verification(d, y, t):
    i, j = np.triu_indices(len(y), 1)
    counted = (y[i] >= 0) | (y[j] >= 0)
    i, j = i[counted], j[counted]
    x, same = d[i, j], y[i] == y[j]
    if not same.any() or same.all(): return {}
    errors = [max((x[~same] < v).mean(), (x[same] >= v).mean()) for v in [*np.unique(x), np.inf]]
    return {'tar@5%': (x[same] < t).mean(), 'far@5%': (x[~same] < t).mean(), 'eer': min(errors)}

def slow_geometry(z, y):
    classes = sorted({*y[y >= 0].tolist()})
    groups = [z[y == c] for c in classes]
    mu = np.stack([g.mean(0) for g in groups])
    v = np.array([((g - m)**2).sum(1).mean() for g, m in zip(groups, mu)])
    res = dict(intra_variance=v.mean(), offset=(mu.mean(0)**2).sum())
    a, b = np.nonzero(~np.eye(len(mu), dtype=bool))
    d2 = ((mu[a] - mu[b])**2).sum(1)
    if len(a): res |= dict(inter_variance=d2.mean(), inter_distance=(d2**.5).mean())
    return res

def check(seed):
    "What differs on the set of a seed"
    z, y, name = random_set(seed)
    labels, exact = torch.from_numpy(y), z.double().numpy()
    exact = np.ldexp(exact, -math.frexp(np.abs(exact).max())[1])      # a power of two changes no order
    d, rng, wrong = distances(exact, exact), np.random.default_rng(seed), []
    entries = int(rng.choice([1, 200, 2**20]))
    def compare(what, got, want, eps):
        for k, w in want.items():
            same = np.isclose(got[k], w, rtol=eps, atol=eps, equal_nan=True)
            if not same: wrong.append(f'{what}: {k} is {got[k]!r}, exact {w!r}')
    compare('retrieval', retrieval_metrics(z, labels, entries=entries), slow_retrieval(d, y), 1e-12)
    h = len(y)//2
    k = int(rng.integers(1, min(h, 9) + 1)) if h else 0
    if h:
        predicted = knn_predict(z[:h], labels[:h], z[h:], k, entries).tolist()
        compare(f'{k} neighbours', predicted, dict(enumerate(slow_knn(d[h:, :h], y[:h], k))), 0)
    scaled, ts = torch.from_numpy(exact), {'threshold@5%': math.nan}
    if h: ts = verification_thresholds(scaled[:h], labels[:h], fars=(.05,), entries=entries)
    root = torch.cdist(scaled, scaled, compute_mode='donot_use_mm_for_euclid_dist').numpy()
    t = ts['threshold@5%']
    if not math.isnan(t):
        verified = verification_metrics(scaled, labels, ts, entries)
        compare('verification', verified, slow_verification(root, y, t), 1e-12)
    if (y >= 0).any():
        geometry = class_geometry(scaled, labels, per_class=False, spectrum=False)
        compare('geometry', geometry, slow_geometry(exact, y), 1e-9)
    return [f'seed {seed} ({name}): {w}' for w in wrong]

def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--sets', type=int, default=1500)
    p.add_argument('--first', type=int, default=0)
    args = p.parse_args()
    failed = 0
    for seed in range(args.first, args.first + args.sets):
        wrong = check(seed)
        failed += bool(wrong)
        for w in wrong: print(w, flush=True)
    print(f'{args.sets - failed} of {args.sets} sets agree with loops')
    sys.exit(failed > 0)

if __name__ == '__main__': main()
