// Contrastive and triplet loss for points on a circle, as the page on losses defines them. No library: only numbers.
// A point is an angle; `t` are the angles, `y` the labels, `d` the matrix of distances. The tests compare 200 steps
// of this file with the losses in Python. It is a classic script, so that a page opened from a file can load it.
(function (root) {
'use strict';

// ---- Distances ----

// The length of the chord between two angles, and how it grows as the first angle turns
const chord = (a, b) => 2*Math.abs(Math.sin((a - b)/2));
const growth = (a, b) => Math.sign(Math.sin((a - b)/2))*Math.cos((a - b)/2);

const distances = t => t.map(a => t.map(b => chord(a, b)));

// The same matrix with the pair (i, j) at distance x
function withPair(d, [i, j], x) {
  const at = d.slice();
  at[i] = d[i].slice();
  at[j] = d[j].slice();
  at[i][j] = at[j][i] = x;
  return at;
}

// ---- What a strategy selects ----

// The triplets of anchor `a`, as pairs [positive, negative]
function triplets(d, y, a, {strategy, margin}) {
  const own = [];
  const others = [];
  y.forEach((c, k) => {
    if (k !== a) (c === y[a] ? own : others).push(k);
  });
  if (strategy === 'hard') {
    const far = own.reduce((p, k) => d[a][k] > d[a][p] ? k : p);
    const near = others.reduce((p, k) => d[a][k] < d[a][p] ? k : p);
    return [[far, near]];
  }
  const all = own.flatMap(p => others.map(n => [p, n]));
  if (strategy !== 'semi-hard') return all;
  return all.filter(([p, n]) => d[a][p] < d[a][n] && d[a][n] < d[a][p] + margin);
}

const isActive = (d, a, [p, n], margin) => d[a][n] < d[a][p] + margin;

// Which pairs contrastive loss scores: all of them, or those that are part of a selected triplet
function selectedPairs(d, y, args) {
  const used = y.map(() => y.map(() => args.strategy === 'all'));
  if (args.strategy === 'all') return used;
  y.forEach((_, a) => {
    for (const k of triplets(d, y, a, args).flat()) used[a][k] = used[k][a] = true;
  });
  return used;
}

// ---- The losses ----
// Each gives the loss, the share of active terms, and every pair's weight: the derivative of the loss by its distance.

// One pair: d² pulls, [m − d]₊² pushes; here its derivative, as a force
const contrastiveForce = (same, d, margin) => same ? 2*d : 2*Math.max(margin - d, 0);

function contrastive(d, y, args) {
  const used = selectedPairs(d, y, args);
  const sides = {pull: {sum: 0, count: 0}, push: {sum: 0, count: 0}};
  let active = 0;
  for (let i = 0; i < y.length; i++) {
    for (let j = i + 1; j < y.length; j++) {
      if (!used[i][j]) continue;
      const same = y[i] === y[j];
      const side = same ? sides.pull : sides.push;
      side.sum += same ? d[i][j]**2 : Math.max(args.margin - d[i][j], 0)**2;
      side.count += 1;
      active += same || d[i][j] < args.margin;
    }
  }
  const count = sides.pull.count + sides.push.count;
  const mean = side => args.balance ? 1/(2*Math.max(side.count, 1)) : 1/Math.max(count, 1);    // 1 : 1, or as counted
  const [pull, push] = [mean(sides.pull), mean(sides.push)];
  const weights = d.map((row, i) => row.map((x, j) => {
    if (i === j || !used[i][j]) return 0;
    const same = y[i] === y[j];
    return (same ? pull : -push)*contrastiveForce(same, x, args.margin);
  }));
  return {value: pull*sides.pull.sum + push*sides.push.sum, active: active/Math.max(count, 1), weights};
}

function triplet(d, y, args) {
  const counts = d.map(row => row.map(() => 0));       // in how many active triplets with anchor a the pair (a, k) is
  let sum = 0;
  let active = 0;
  let count = 0;
  y.forEach((_, a) => {
    for (const [p, n] of triplets(d, y, a, args)) {
      count += 1;
      if (!isActive(d, a, [p, n], args.margin)) continue;
      active += 1;
      sum += d[a][p] - d[a][n] + args.margin;
      counts[a][p] += 1;
      counts[a][n] -= 1;
    }
  });
  const by = Math.max(args.reduction === 'active' ? active : count, 1);
  const weights = counts.map((row, i) => row.map((c, j) => (c + counts[j][i])/by));
  return {value: sum/by, active: active/Math.max(count, 1), weights};
}

const LOSSES = {contrastive, triplet};

// The loss, its gradient by the angles, and the gradient's length
function evaluate(side, t, y, args) {
  const {value, active, weights} = LOSSES[side](distances(t), y, args);
  const grad = t.map((a, i) => t.reduce((sum, b, j) => sum + weights[i][j]*growth(a, b), 0));
  return {value, active, grad, norm: Math.hypot(...grad)};
}

const step = (t, grad, rate) => t.map((a, i) => a - rate*grad[i]);

// ---- One pair ----

// The rivals of the pair (i, j): who makes an active triplet with it, once for each end, as [end, rival]
function rivals(d, y, [i, j], args) {
  return [[i, j], [j, i]].flatMap(([a, b]) => triplets(d, y, a, args)
    .filter(t => t.includes(b) && isActive(d, a, t, args.margin))
    .map(([p, n]) => [a, p === b ? n : p]));
}

// The force on a pair, were it at distance x: by contrastive loss its own slope, by triplet loss its number of rivals
function pairForce(side, d, y, pair, args, x) {
  const at = withPair(d, pair, x);
  if (side === 'triplet') return rivals(at, y, pair, args).length;
  const [i, j] = pair;
  return selectedPairs(at, y, args)[i][j] ? contrastiveForce(y[i] === y[j], x, args.margin) : 0;
}

// ---- Shares of variance ----
// Within classes, between classes, and the offset of the mean of the class means; they add up to 1.

function shares(points, y) {
  const classes = [...new Set(y)];
  const mean = rows => [0, 1].map(k => rows.reduce((sum, r) => sum + r[k], 0)/rows.length);
  const square = ([a, b]) => a*a + b*b;
  const means = classes.map(c => mean(points.filter((_, i) => y[i] === c)));
  const within = 1 - means.reduce((sum, m) => sum + square(m), 0)/classes.length;
  const offset = square(mean(means));
  return [within, 1 - within - offset, offset];
}

// ---- The start ----

// Mulberry32, a small generator that is the same everywhere, so that a page starts as its picture shows it
function random(seed) {
  return () => {
    seed = seed + 0x6D2B79F5 | 0;
    let z = Math.imul(seed ^ seed >>> 15, 1 | seed);
    z = z + Math.imul(z ^ z >>> 7, 61 | z) ^ z;
    return ((z ^ z >>> 14) >>> 0)/4294967296;
  };
}

// A normal number, from two uniform ones
const normal = draw => Math.sqrt(-2*Math.log(1 - draw()))*Math.cos(2*Math.PI*draw());

// A quarter of the circle ('cap'), as an untrained network gives, or all of it ('circle')
function start(kind, n, classes, seed) {
  const draw = random(seed);
  const width = kind === 'cap' ? Math.PI/2 : 2*Math.PI;
  const t = Array.from({length: n}, () => Math.PI/2 + (draw() - .5)*width);
  return {t, y: t.map((_, i) => i % classes)};
}

root.dmcLosses = {distances, evaluate, step, rivals, pairForce, shares, random, normal, start};
})(globalThis);
