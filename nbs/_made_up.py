"""Runs that never happened, for the tests and examples of several pages: `%run _made_up.py`."""
import math
from pathlib import Path
from types import SimpleNamespace
import numpy as np, pandas as pd, torch
from torch.nn import functional as F
from deep_metric_compare.core import RunConfig
from deep_metric_compare.measures import BASELINES
from deep_metric_compare.store import Run, write_run

def made_up_runs(seeds=3, dataset='made-up', arms=('contrastive', 'triplet', 'raw', 'untrained'), outcomes={},
                 change={}, epochs=30, halves=False):
    "Runs with plausible end values drawn at random; `outcomes` and `change` override those of (arm, seed)"
    # within, within + between, accuracy
    level = dict(contrastive=(.021, .62, .85), triplet=(.040, .75, .86), raw=(.45, .72, .98), untrained=(.16, .30, .93))
    runs = []
    for s in range(seeds):
        shared = np.random.default_rng(1000+s).normal()
        for a in arms:
            rng = np.random.default_rng([s, len(a)*7 + ord(a[0])])
            n = lambda sd: math.exp(sd*(.8*shared + .6*rng.normal()))
            within, total, acc = level.get(a, (.030, .66, .84))
            within = within*n(.2 if a not in BASELINES else .02)
            total = total*n(.01)
            acc = min(acc + .004*shared + .004*rng.normal(), .999)
            m = {'test/share_within': within, 'test/share_between': total-within, 'test/share_offset': 1-total,
                 'test/intra_variance': within,
                 'test/inter_variance': (total-within)/.45, 'test/variance_ratio': within*.45/(total-within),
                 'test/knn_accuracy': acc, 'test/recall@1': acc-.02}
            big = 1 if a == 'contrastive' else 1.9
            if a not in BASELINES:
                m.update({'participation': .31/big**.3*n(.05), 'active_ratio': .45/big*n(.05),
                          'grad_norm': .13*big*n(.1), 'update_size': .021/big**.1*n(.05),
                                             'epochs_to_decay': round(14*big*n(.2)), 'active_constant': False})
            outcome = outcomes.get((a, s), 'finished')
            if outcome == 'diverged': m = {k: None for k in m}
            m.update(change.get((a, s), change.get(a, {})), outcome=outcome)
            c = RunConfig(dataset=dataset, seed=s, half=s % 2 if halves else None,
                          epochs=0 if a == 'untrained' else epochs, model='identity' if a == 'raw' else 'mlp',
                          loss=a.replace('-sq', '') if a not in BASELINES else 'triplet',
                          distance='sqeuclidean' if a.endswith('-sq') else 'euclidean')
            runs.append(SimpleNamespace(config=c, arm=c.arm, outcome=outcome, metrics=m, history={}, environment={},
                                        pairing=dict(data=f'd{s}', init=f'i{s}', order=[f'o{s}']*epochs)))
    return runs

# The same as records on disk, with histories, classes and embeddings, in the shape of real ones.

SHARES = 'share_within', 'share_between', 'share_offset'
STEPS = ['loss', 'participation', 'active_ratio', 'active_negative', 'grad_norm', 'update_size']

def made_up_history(rng, arm, epochs):
    "A row per epoch, the first before training; none for a baseline"
    trip = arm != 'contrastive'
    e = np.arange(0 if arm in BASELINES else epochs + 1)
    wob = lambda sd: np.exp(sd*rng.normal() + .3*sd*rng.normal(size=len(e)))
    fall = np.exp(-e/(8. if trip else 5.)/np.exp(.2*rng.normal()))
    within = (.03 if trip else .015) + .10*fall
    h = pd.DataFrame(dict(
        epoch=e, loss=(.9 if trip else .6)*(fall + .05)*wob(.04),
        probe_loss=(.9 if trip else .6)*(fall + (.03 if trip else .01))*wob(.04),
        participation=(.3 + .5*fall if trip else .45 + .3*fall)*wob(.03),
        active_ratio=(.05 + .6*fall if trip else .3 + .5*fall)*wob(.03),
        active_negative=np.nan if trip else (.1 + .6*fall),
        grad_norm=(.3 if trip else .12)*(.3 + .7*fall)*wob(.08),
        update_size=.03*(.3 + .7*fall)*wob(.05),
        share_within=within*wob(.05), share_offset=.05 + .75*fall**1.5))
    h['share_between'] = 1 - h.share_within - h.share_offset
    if len(h): h.loc[0, STEPS] = np.nan
    return h

def made_up_metrics(rng, arm, h):
    "End values that fit to a history"
    raw = (.45, .33, .22) if arm == 'raw' else (.16, .14, .70)
    end = h.iloc[-1] if len(h) else dict(zip(SHARES, raw))
    acc = {'contrastive': .85, 'triplet': .86, 'raw': .98}.get(arm, .9) + .01*rng.normal()
    within, between, offset = (float(end[k]) for k in SHARES)
    m = {'test/knn_accuracy': acc, 'test/recall@1': acc - .02, 'test/share_within': within,
         'test/share_between': between, 'test/share_offset': offset, 'test/intra_variance': within,
         'test/inter_variance': between/.45, 'test/variance_ratio': .45*within/between}
    if not len(h): return m
    low = np.flatnonzero(h.probe_loss < .1*h.probe_loss[0])
    return m | h[STEPS[1:3] + STEPS[4:]].mean().to_dict() | dict(epochs_to_decay=int(low[0]) if len(low) else None)

def made_up_record(folder, c, arm, rng, seed, n_classes, outcome, constant):
    "Write one record"
    trip = arm != 'contrastive'
    h = made_up_history(rng, arm, c.epochs)
    y = torch.arange(n_classes).repeat_interleave(60)
    centres = F.normalize(torch.randn(n_classes, 32, generator=torch.Generator().manual_seed(0)), dim=1)
    noise = torch.randn(len(y), 32, generator=torch.Generator().manual_seed(seed))
    z = F.normalize(centres[y] + (.16 if trip else .11)*noise, dim=1)
    scatter = lambda i: (.05 if trip else .025)*math.exp(.35*np.sin(i*2) + .15*rng.normal())
    per_class = [dict(label=i, count=60, intra_variance=scatter(i)) for i in range(n_classes)]
    m = dict(outcome=outcome, seconds=1.2, active_constant=constant) | made_up_metrics(rng, arm, h)
    rest = dict(history=h.to_dict('records'), per_class=per_class, embeddings=dict(test=z, test_labels=y))
    if outcome == 'diverged':
        m = dict(outcome=outcome, seconds=.4)
        rest = dict(history=rest['history'][:4], per_class=[], embeddings={})
    folder.mkdir(parents=True)
    write_run(folder, c, m, pairing=dict(data=f'd{c.seed}', init=f'i{c.seed}', order=f'o{c.seed}'), **rest)
    return Run(folder)

def made_up_records(folder, seeds=3, arms=('contrastive', 'triplet', 'raw', 'untrained'), dataset='made-up', epochs=30,
                    n_classes=10, outcomes={}, constant=(), **config):
    "Records of runs that never happened; `outcomes` of (arm, seed), `constant`: arms with a constant active ratio"
    runs = []
    for s in range(seeds):
        for k, a in enumerate(arms):
            c = RunConfig(dataset=dataset, seed=s, epochs=0 if a in BASELINES else epochs, n_classes=n_classes,
                          model='identity' if a == 'raw' else 'mlp', **config,
                          loss='none' if a in BASELINES else a.replace('-sq', ''),
                          distance='sqeuclidean' if a.endswith('-sq') else 'euclidean')
            runs.append(made_up_record(Path(folder)/f'{dataset}-{a}-{s}', c, a, np.random.default_rng([s, k]), s*10 + k,
                                       n_classes, outcomes.get((a, s), 'finished'), a in constant))
    return runs
