// The explorer of both losses: points on a circle, moved by contrastive and by triplet loss side by side.
// One file for two places. In a static page it computes by itself; in a notebook Python's own losses compute and it only draws.
// It is a classic script, so that a page opened from a file can load it, and it needs no library.
(function (root) {
'use strict';

// ---- The losses, as the page on losses defines them, for unit vectors at angles `t` with labels `y` ----

const chord = (a, b) => 2*Math.abs(Math.sin((a - b)/2));
const slope = (a, b) => Math.sign(Math.sin((a - b)/2))*Math.cos((a - b)/2);   // of the chord, by the first angle

function distances(t) { return t.map(a => t.map(b => chord(a, b))); }

// Loss, active share and the weight of every pair: the derivative of the loss by its distance. `w` is symmetric: each pair stands twice.
function contrastive(d, y, {margin, balance}) {
  const n = y.length, w = d.map(r => r.map(() => 0));
  let pos = 0, neg = 0, P = 0, N = 0, active = 0;
  for (let i = 0; i < n; i++) for (let j = i + 1; j < n; j++) {
    if (y[i] === y[j]) { pos += d[i][j]**2; P++; } else {
      const h = Math.max(margin - d[i][j], 0);
      neg += h*h; N++; active += h > 0;
    }
  }
  const share = balance ? [1/(2*Math.max(P, 1)), 1/(2*Math.max(N, 1))] : [1/(P + N), 1/(P + N)];
  for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) if (i !== j)
    w[i][j] = y[i] === y[j] ? share[0]*2*d[i][j] : -share[1]*2*Math.max(margin - d[i][j], 0);
  return {value: share[0]*pos + share[1]*neg, active: (P + active)/Math.max(P + N, 1), w, counts: null};
}

// `counts[a][b]`: in how many active triplets with anchor a the pair (a, b) takes part; positive pairs pull, negative ones push.
function triplet(d, y, {margin, reduction}) {
  const n = y.length, counts = d.map(r => r.map(() => 0)), w = d.map(r => r.map(() => 0));
  let sum = 0, all = 0, active = 0;
  for (let a = 0; a < n; a++) for (let p = 0; p < n; p++) {
    if (p === a || y[p] !== y[a]) continue;
    for (let k = 0; k < n; k++) {
      if (y[k] === y[a]) continue;
      all++;
      if (!(d[a][k] < d[a][p] + margin)) continue;
      active++; sum += d[a][p] - d[a][k] + margin;
      counts[a][p]++; counts[a][k]++;
    }
  }
  const by = Math.max(reduction === 'active' ? active : all, 1);
  for (let i = 0; i < n; i++) for (let j = 0; j < n; j++)
    w[i][j] = (y[i] === y[j] ? 1 : -1)*(counts[i][j] + counts[j][i])/by;
  return {value: sum/by, active: active/Math.max(all, 1), w, counts};
}

const LOSSES = {contrastive, triplet};

function evaluate(loss, t, y, args) {
  const d = distances(t), r = LOSSES[loss](d, y, args);
  r.grad = t.map((a, i) => t.reduce((s, b, j) => s + (i === j ? 0 : r.w[i][j]*slope(a, b)), 0));
  r.norm = Math.hypot(...r.grad);
  return r;
}

function step(loss, t, y, args, rate) {
  const r = evaluate(loss, t, y, args);
  return {...r, t: t.map((a, i) => a - rate*r.grad[i])};
}

// Shares of variance: within classes, between classes, and the offset of the mean of the class means. They add up to 1.
function shares(t, y) {
  const C = [...new Set(y)], mean = f => C.map(c => {
    const own = t.filter((_, i) => y[i] === c);
    return own.reduce((s, a) => s + f(a), 0)/own.length;
  });
  const mx = mean(Math.cos), my = mean(Math.sin), avg = v => v.reduce((a, b) => a + b, 0)/C.length;
  const within = 1 - avg(mx.map((x, i) => x*x + my[i]*my[i])), offset = avg(mx)**2 + avg(my)**2;
  return [within, 1 - within - offset, offset];
}

// The same small generator everywhere, so that a page starts as its picture shows it (mulberry32).
function random(seed) {
  return () => { seed = seed + 0x6D2B79F5 | 0; let z = Math.imul(seed ^ seed >>> 15, 1 | seed);
    z = z + Math.imul(z ^ z >>> 7, 61 | z) ^ z; return ((z ^ z >>> 14) >>> 0)/4294967296; };
}

function start(kind, n, C, seed) {
  const r = random(seed), wide = kind === 'cap' ? Math.PI/2 : 2*Math.PI;
  return {t: Array.from({length: n}, () => Math.PI/2 + (r() - .5)*wide), y: Array.from({length: n}, (_, i) => i % C)};
}

// ---- What is drawn ----

const COLORS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7'], SIDES = ['contrastive', 'triplet'];
const DEFAULTS = {n: 15, classes: 3, seed: 50, kind: 'cap', margin: 1, balance: false, reduction: 'mean', rate: 1};
const SVG = 'http://www.w3.org/2000/svg';

function make(tag, attributes = {}, parent = null, text = null) {
  const e = document.createElementNS(tag.startsWith('svg:') ? SVG : 'http://www.w3.org/1999/xhtml', tag.replace('svg:', ''));
  for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
  if (text !== null) e.textContent = text;
  if (parent) parent.append(e);
  return e;
}

const AT = Array.from({length: 201}, (_, k) => k/100);    // distances at which the force on the marked pair is drawn

// Points that make an active triplet with anchor a and the pair (a, b), were its distance x
function rivals(d, y, a, b, x, m) {
  const same = y[a] === y[b];
  return y.flatMap((c, k) => {
    if (k === a || k === b || (c === y[a]) === same) return [];
    return (same ? d[a][k] < x + m : x < d[a][k] + m) ? [k] : [];
  });
}

// The force on the pair (i, j) at distance x: for contrastive the slope of its own term, for triplet the number of triplets it is in
function force(side, d, y, margin, i, j, x) {
  if (side === 'contrastive') return y[i] === y[j] ? 2*x : 2*Math.max(margin - x, 0);
  return rivals(d, y, i, j, x, margin).length + rivals(d, y, j, i, x, margin).length;
}

// The browser computes. `look` says how things stand, `step` moves all points once and then looks; the answer goes to `then`.
class PageEngine {
  args(s, side) { return side === 'contrastive' ? {margin: s.margin, balance: s.balance} : {margin: s.margin, reduction: s.reduction}; }
  look(s, then) {
    const [i, j] = s.pair;
    then(SIDES.map(side => {
      const t = s.t[side], d = distances(t), r = evaluate(side, t, s.y, this.args(s, side)), f = x => force(side, d, s.y, s.margin, i, j, x);
      return {t, value: r.value, active: r.active, norm: r.norm, force: f(d[i][j]), curve: AT.map(f)};
    }));
  }
  step(s, then) {
    const t = {};
    SIDES.forEach(side => { t[side] = step(side, s.t[side], s.y, this.args(s, side), s.rate).t; });
    this.look({...s, t}, then);
  }
}

// Python computes. One question is on its way at a time; of those asked meanwhile only the last is sent.
class KernelEngine {
  constructor(model) {
    this.model = model;
    model.on('msg:custom', m => {
      const then = this.then, next = this.next;
      this.then = this.next = null;
      if (then) then(m.looks);
      if (next && !this.then) this.ask(...next);
    });
  }
  ask(kind, s, then) {
    if (this.then) { this.next = [kind, s, then]; return; }
    this.then = then;
    const {t, y, pair, margin, balance, reduction, rate} = s;
    this.model.send({kind, t, y, pair, margin, balance, reduction, rate});
  }
  look(s, then) { this.ask('look', s, then); }
  step(s, then) { if (!this.then) this.ask('step', s, then); }
}

class Explorer {
  constructor(el, options = {}, engine = new PageEngine()) {
    this.el = el; this.engine = engine; this.s = {...DEFAULTS, ...options}; this.frames = 0;
    this.build(); this.turn = 0; this.restart();
    if (!matchMedia('(prefers-reduced-motion: reduce)').matches && this.s.play !== false) this.play(true);
  }

  restart() {
    const {t, y} = start(this.s.kind, this.s.n, this.s.classes, this.s.seed);
    this.s.y = y; this.s.t = {contrastive: t.slice(), triplet: t.slice()};
    this.s.pair = [0, y.indexOf(y[0], 1)];
    this.turn++;
    this.points(); this.look();
  }

  // Controls: three in sight, the rest folded away
  build() {
    this.el.replaceChildren();                       // a picture stands here for those who see no script
    this.el.classList.add('dmc-explorer');
    const bar = make('div', {class: 'dmc-bar'}, this.el), more = make('details', {}, this.el);
    make('summary', {}, more, 'more');
    this.button = make('button', {type: 'button'}, bar, 'play');
    this.button.onclick = () => this.play(!this.timer);
    make('button', {type: 'button'}, bar, 'again').onclick = () => { this.restart(); };
    make('button', {type: 'button', title: 'each loss goes on from where the other one is'}, bar, 'swap').onclick = () => this.swap();
    this.slider(bar, 'margin', .1, 1.9, .05);
    this.choice(bar, 'pull : push of contrastive', [['as counted', false], ['1 : 1', true]], 'balance');
    this.choice(more, 'mean of triplet over', [['all triplets', 'mean'], ['active triplets', 'active']], 'reduction');
    this.slider(more, 'rate', .1, 6, .1);
    this.slider(more, 'n', 12, 24, 1, 'points', true);
    this.slider(more, 'classes', 2, 4, 1, 'classes', true);
    this.choice(more, 'start', [['cap', 'cap'], ['whole circle', 'circle']], 'kind', true);
    make('button', {type: 'button'}, more, 'other points').onclick = () => { this.s.seed++; this.restart(); };
    const panels = make('div', {class: 'dmc-panels'}, this.el);
    this.panels = SIDES.map(side => this.panel(panels, side));
    this.say = make('p', {class: 'dmc-say', 'aria-live': 'polite'}, this.el);
  }

  slider(where, key, min, max, by, label = key, again = false) {
    const l = make('label', {}, where, label + ' '), i = make('input', {type: 'range', min, max, step: by, value: this.s[key], 'aria-label': label}, l);
    const out = make('output', {}, l, this.s[key]);
    i.oninput = () => { this.s[key] = +i.value; out.textContent = i.value; again ? this.restart() : this.look(); };
  }

  choice(where, label, options, key, again = false) {
    const l = make('label', {}, where, label + ' '), c = make('select', {'aria-label': label}, l);
    options.forEach(([text, v], i) => { const o = make('option', {value: i}, c, text); o.selected = v === this.s[key]; });
    c.onchange = () => { this.s[key] = options[c.value][1]; again ? this.restart() : this.look(); };
  }

  panel(where, side) {
    const f = make('figure', {}, where), p = {side};
    make('figcaption', {}, f, side);
    p.svg = make('svg:svg', {viewBox: '-1.3 -1.3 2.6 2.6', role: 'group', 'aria-label': `points under ${side} loss`}, f);
    make('svg:circle', {r: 1, class: 'dmc-ring'}, p.svg);
    p.lines = make('svg:g', {}, p.svg); p.dots = make('svg:g', {}, p.svg);
    p.bar = make('div', {class: 'dmc-shares', role: 'img'}, f);
    p.parts = ['within', 'between', 'offset'].map(k => make('span', {class: 'dmc-' + k}, p.bar));
    p.curve = make('svg:svg', {viewBox: '-12 -8 124 62', class: 'dmc-curve', role: 'img'}, f);
    p.path = make('svg:path', {}, p.curve); p.dot = make('svg:circle', {r: 2.4}, p.curve);
    make('svg:path', {d: 'M0 0V44H100', class: 'dmc-axis'}, p.curve);
    make('svg:text', {x: 100, y: 52, 'text-anchor': 'end'}, p.curve, 'distance of the marked pair');
    make('svg:text', {x: 0, y: -3}, p.curve, side === 'triplet' ? 'force: rivals that violate the margin' : 'force: by its own distance');
    p.note = make('p', {class: 'dmc-note'}, f);
    return p;
  }

  points() {
    for (const p of this.panels) {
      p.dots.replaceChildren();
      p.points = this.s.y.map((c, i) => {
        const d = make('svg:circle', {r: .07, fill: COLORS[c], tabindex: 0, role: 'slider', 'aria-label': `point ${i + 1}, class ${c + 1}`, 'aria-valuemin': -180, 'aria-valuemax': 180}, p.dots);
        d.onpointerdown = e => this.drag(p, d, i, e);
        d.onkeydown = e => this.key(i, e);
        return d;
      });
    }
  }

  // A point is put to the same place on both circles; one that was pressed without being moved joins the marked pair
  drag(p, d, i, e) {
    e.preventDefault(); d.setPointerCapture(e.pointerId);
    let moved = false;
    d.onpointermove = v => {
      const m = p.svg.getScreenCTM().inverse(), x = v.clientX*m.a + m.e, y = v.clientY*m.d + m.f;
      moved = true; this.put(i, Math.atan2(-y, x));
    };
    d.onpointerup = d.onpointercancel = () => { d.onpointermove = null; if (!moved) this.mark(i); };
  }

  key(i, e) {
    const by = {ArrowLeft: .035, ArrowUp: .035, ArrowRight: -.035, ArrowDown: -.035}[e.key];
    if (by) { e.preventDefault(); this.turn++; SIDES.forEach(s => { this.s.t[s][i] += by; }); this.look(); }
    if (e.key === 'Enter' || e.key === ' ') { e.preventDefault(); this.mark(i); }
  }

  put(i, angle) { this.turn++; SIDES.forEach(s => { this.s.t[s][i] = angle; }); this.look(); }
  mark(i) { if (i !== this.s.pair[1]) this.s.pair = [this.s.pair[1], i]; this.look(); }
  swap() { this.turn++; const t = this.s.t; this.s.t = {contrastive: t.triplet, triplet: t.contrastive}; this.look(); }

  play(on) {
    clearInterval(this.timer); this.timer = on ? setInterval(() => this.forward(), 50) : null;
    this.button.textContent = on ? 'pause' : 'play';
  }

  look() { this.engine.look(this.s, r => this.show(r)); }

  forward() {
    const before = this.turn;                       // points that were put somewhere meanwhile stay there
    this.engine.step(this.s, r => {
      if (before !== this.turn) return;
      SIDES.forEach((side, k) => { this.s.t[side] = r[k].t; });
      this.show(r);
    });
  }

  show(looks) {
    this.frames++;
    this.panels.forEach((p, k) => this.draw(p, looks[k], this.s.t[p.side]));
    const [a, b] = looks, still = a.norm < 1e-4 && b.norm < 1e-4;
    this.say.textContent = `loss ${a.value.toFixed(3)} and ${b.value.toFixed(3)}; active ${(100*a.active).toFixed(0)} % of pairs and ${(100*b.active).toFixed(0)} % of triplets` + (still ? '; both stand still' : '');
    if (still && this.timer) this.play(false);
  }

  draw(p, r, t) {
    const [i, j] = this.s.pair, at = a => [Math.cos(a), -Math.sin(a)], pull = this.s.y[i] === this.s.y[j];
    t.forEach((a, k) => { const [x, y] = at(a), d = p.points[k];
      d.setAttribute('cx', x); d.setAttribute('cy', y); d.setAttribute('aria-valuenow', Math.round(a*180/Math.PI));
      d.classList.toggle('dmc-marked', k === i || k === j); });
    p.lines.replaceChildren();
    const here = chord(t[i], t[j]), counted = p.side === 'triplet';
    if (counted) this.rivals(p, t, i, j);
    const [x1, y1] = at(t[i]), [x2, y2] = at(t[j]), wide = .006 + (counted ? .008*r.force : .04*r.force);
    make('svg:line', {x1, y1, x2, y2, class: pull ? 'dmc-pull' : 'dmc-push', 'stroke-width': Math.min(wide, .16)}, p.lines);
    const s = shares(t, this.s.y);
    p.parts.forEach((e, k) => { e.style.width = 100*s[k] + '%'; e.textContent = s[k] > .18 ? ['within ', 'between ', 'offset '][k] + s[k].toFixed(2) : ''; });
    p.bar.setAttribute('aria-label', `shares of variance: within ${s[0].toFixed(2)}, between ${s[1].toFixed(2)}, offset ${s[2].toFixed(2)}`);
    this.curve(p, r, here, pull);
    const verb = pull ? 'pulled' : 'pushed';
    p.note.textContent = counted ? `at distance ${here.toFixed(2)} it is ${verb} by ${r.force} triplets: one for each rival in the way`
      : `at distance ${here.toFixed(2)} it is ${verb} with ${r.force.toFixed(2)}, wherever the others are`;
  }

  // Thin lines to the points that make triplets with the marked pair
  rivals(p, t, i, j) {
    const d = distances(t);
    for (const [a, b] of [[i, j], [j, i]]) for (const k of rivals(d, this.s.y, a, b, d[a][b], this.s.margin))
      make('svg:line', {x1: Math.cos(t[a]), y1: -Math.sin(t[a]), x2: Math.cos(t[k]), y2: -Math.sin(t[k]), class: 'dmc-rival'}, p.lines);
  }

  curve(p, r, here, pull) {
    const y = this.s.y, top = p.side === 'contrastive' ? 4 : 2*Math.max(...y.map(c => y.filter(o => o !== c).length)), up = v => 44 - 44*v/top;
    p.path.setAttribute('d', r.curve.map((v, k) => `${k ? 'L' : 'M'}${50*AT[k]} ${up(v)}`).join(''));
    p.path.setAttribute('class', pull ? 'dmc-pull' : 'dmc-push');
    p.dot.setAttribute('cx', 50*here);
    p.dot.setAttribute('cy', up(r.force));
    p.curve.setAttribute('aria-label', `force on the marked pair against its distance: ${p.side === 'contrastive' ? 'a fixed curve' : 'a staircase of rivals'}`);
  }
}

root.dmcExplorer = {evaluate, step, shares, force, start, Explorer, KernelEngine, DEFAULTS};
root.document?.querySelectorAll?.('[data-dmc-explorer]').forEach(el => { el.dmc = new Explorer(el, JSON.parse(el.dataset.dmcExplorer || '{}')); });
})(globalThis);
