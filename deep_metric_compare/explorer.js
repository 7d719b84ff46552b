// The explorer of both losses: points under contrastive loss on the left, under triplet loss on the right.
// One script for three places: in a static page it computes by itself (PageEngine), in a notebook Python's own losses
// compute (KernelEngine), and a finished run is replayed (RunExplorer).
// It needs explorer_losses.js and no library.
(function (root) {
'use strict';

const {distances, evaluate, step, rivals, pairForce, shares, random, normal, start} = root.dmcLosses;

const SIDES = ['contrastive', 'triplet'];
const DEFAULTS = {
  n: 12, classes: 3, kind: 'cap', seed: 77,                                        // the start
  margin: .7, balance: false, reduction: 'mean', strategy: 'all',                  // the losses
  rate: 7, noise: 0, pace: 3,                                                      // steps; pace is steps a second
};
const AT = Array.from({length: 101}, (_, k) => k/50);     // distances at which the force on the marked pair is drawn
const GLIDE = 250;                                        // milliseconds that a point takes to its next place
const STILL = 1e-4;                                       // a gradient below this moves nothing

// Classes differ in shape as well as in colour: circle, square, triangle, diamond
const SHAPES = [
  'M-1 0a1 1 0 1 0 2 0a1 1 0 1 0-2 0Z',
  'M-.9-.9H.9V.9H-.9Z',
  'M0-1.15L1.1 .85H-1.1Z',
  'M0-1.3L1.1 0L0 1.3L-1.1 0Z',
];
const KEYS = {ArrowLeft: .035, ArrowUp: .035, ArrowRight: -.035, ArrowDown: -.035};     // radians

// ---- Small helpers ----

function make(tag, attributes = {}, parent = null, text = null) {
  const space = tag.startsWith('svg:') ? 'http://www.w3.org/2000/svg' : 'http://www.w3.org/1999/xhtml';
  const e = document.createElementNS(space, tag.replace('svg:', ''));
  for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
  if (text !== null) e.textContent = text;
  if (parent) parent.append(e);
  return e;
}

const onCircle = t => t.map(a => [Math.cos(a), Math.sin(a)]);
const between = (a, b, part) => Array.isArray(a) ? a.map((v, k) => between(v, b[k], part)) : a + part*(b - a);
const polyline = points => points.map(([x, y], k) => `${k ? 'L' : 'M'}${x.toFixed(2)} ${y.toFixed(2)}`).join('');

// ---- Engines: who says what the losses are ----
// Asked about points `t`, they say how these stand and how they will after some steps: a state {t, answers} for now and
// for each of `shakes`, the noise of a step. An answer is the value, active share and gradient of one side.

// The browser computes
class PageEngine {
  ask(s, t, shakes, then) {
    const state = points => ({t: points, answers: SIDES.map((side, k) => evaluate(side, points[k], s.y, s))});
    const states = [state(t)];
    for (const shake of shakes) {
      const {t, answers} = states.at(-1);
      states.push(state(t.map((a, k) => step(a, answers[k].grad, s.rate).map((x, i) => x + shake[k][i]))));
    }
    then(states);
  }
}

// Python computes. One question is on its way at a time; of those that are asked meanwhile only the last is sent.
class KernelEngine {
  constructor(model) {
    this.model = model;
    this.model.on('msg:custom', m => this.answer(m.states));
  }

  ask(s, t, shakes, then) {
    const {y, margin, balance, reduction, strategy, rate} = s;
    const question = {t, y, shakes, margin, balance, reduction, strategy, rate};
    if (this.then) this.next = [question, then];
    else this.send(question, then);
  }

  send(question, then) {
    this.then = then;
    this.model.send(question);
  }

  answer(states) {
    const {then, next} = this;
    this.then = this.next = null;
    if (next) this.send(...next);
    then(states);
  }
}

// ---- One side of the picture ----

class Panel {
  constructor(where, side, title) {
    this.side = side;
    this.counted = side === 'triplet';
    const f = make('figure', {}, where);
    make('figcaption', {}, f, title);
    this.svg = make('svg:svg', {viewBox: '-1.3 -1.3 2.6 2.6', role: 'group', 'aria-label': `points under ${title}`}, f);
    make('svg:circle', {r: 1, class: 'dmc-ring'}, this.svg);
    this.lines = make('svg:g', {}, this.svg);
    this.dots = make('svg:g', {}, this.svg);
    this.note = make('p', {class: 'dmc-note'}, f);
    this.gauge = make('div', {class: 'dmc-gauge', 'aria-hidden': true}, f);
    this.curve = make('svg:svg', {viewBox: '-9 -8 115 62', class: 'dmc-curve', role: 'img'}, f);
    this.path = make('svg:path', {}, this.curve);
    make('svg:path', {d: 'M0 0V44H100', class: 'dmc-axis'}, this.curve);
    this.dot = make('svg:circle', {r: 2.6}, this.curve);
    make('svg:text', {x: 50, y: 52, 'text-anchor': 'middle'}, this.curve, 'distance of the pair');
    make('svg:text', {x: 0, y: 52}, this.curve, '0');
    make('svg:text', {x: 100, y: 52, 'text-anchor': 'end'}, this.curve, '2');
    this.top = make('svg:text', {x: -2, y: 4, 'text-anchor': 'end'}, this.curve);
    const force = this.counted ? 'force: how many rivals' : 'force: by its own distance';
    make('svg:text', {x: -2, y: -4}, this.curve, force);
    make('p', {class: 'dmc-key'}, f, 'variance within classes, between them, offset');
    this.bar = make('div', {class: 'dmc-shares', role: 'img'}, f);
    this.parts = ['within', 'between', 'offset'].map(k => make('span', {class: `dmc-${k}`}, this.bar));
  }

  // A shape for every point; `wire(shape, i)` says what it does
  points(y, wire) {
    this.dots.replaceChildren();
    this.shapes = y.map((c, i) => {
      const label = `point ${i + 1}, class ${c + 1}`;
      const g = make('svg:g', {class: `dmc-point dmc-class${c}`, tabindex: 0, 'aria-label': label}, this.dots);
      make('svg:circle', {r: .15, class: 'dmc-touch'}, g);
      make('svg:path', {d: SHAPES[c], transform: 'scale(.075)'}, g);
      wire(g, i);
      return g;
    });
  }

  // Points and the lines between them, at `xy`: all that moves between two steps
  place(xy, pair) {
    const {look} = this;
    xy.forEach(([x, y], k) => this.shapes[k].setAttribute('transform', `translate(${x} ${-y})`));
    this.lines.replaceChildren();
    const line = (a, b, kind, wide) => make('svg:line',
      {x1: xy[a][0], y1: -xy[a][1], x2: xy[b][0], y2: -xy[b][1], class: kind, 'stroke-width': wide}, this.lines);
    const halo = ([x, y]) => make('svg:circle', {cx: x, cy: -y, r: .15, class: 'dmc-halo'}, this.lines);
    for (const k of new Set(look.rivals.map(([, k]) => k))) halo(xy[k]);
    for (const [end, k] of look.rivals) line(end, k, 'dmc-line', .012);
    if (look.force > 0) line(...pair, look.kind, .02 + .1*look.force/look.top);
  }

  // What is new with a step, a drag or another margin: `d` are the distances, `parts` the shares of variance
  show(d, parts, y, s) {
    const [i, j] = s.pair;
    const pulls = y[i] === y[j];
    const look = {
      kind: pulls ? 'dmc-pull' : 'dmc-push',
      top: this.counted ? 2*Math.max(...y.map(c => y.filter(o => o !== c).length)) : 4,
      rivals: this.counted ? rivals(d, y, s.pair, s) : [],
      force: pairForce(this.side, d, y, s.pair, s, d[i][j]),
    };
    this.shapes.forEach((g, k) => g.classList.toggle('dmc-marked', k === i || k === j));
    this.say(look, pulls);
    this.drawGauge(look);
    this.drawCurve(look, d, y, s);
    this.drawShares(parts);
    this.look = look;
  }

  say(look, pulls) {
    const verb = pulls ? 'pull' : 'push';
    const own = pulls ? 'twice its distance' : 'twice what it lacks to the margin';
    const others = pulls ? 'one for each line to a rival, from either end' : 'one for each pair it is in the way of';
    const size = this.counted ? look.force : look.force.toFixed(2);
    this.note.replaceChildren();
    make('b', {class: look.kind}, this.note, `${verb} ${size}`);
    this.note.append(`: ${this.counted ? others : own}`);
  }

  // Contrastive: one bar; triplet: a block for each rival
  drawGauge(look) {
    this.gauge.replaceChildren();
    const blocks = this.counted ? look.force : 1;
    const width = 100*(this.counted ? 1 : look.force)/look.top;
    for (let k = 0; k < blocks; k++) make('span', {class: look.kind, style: `width: ${width}%`}, this.gauge);
  }

  drawCurve(look, d, y, s) {
    const [i, j] = s.pair;
    const up = v => 44 - 44*v/look.top;
    const forces = AT.map(x => pairForce(this.side, d, y, s.pair, s, x));
    const at = AT.map((x, k) => [50*x, up(forces[k])]);
    const stairs = at.flatMap(([x, v], k) => [[x, at[Math.max(k - 1, 0)][1]], [x, v]]);
    this.path.setAttribute('d', polyline(this.counted ? stairs : at));
    this.path.setAttribute('class', look.kind);
    this.top.textContent = look.top;
    this.dot.setAttribute('cx', 50*Math.min(d[i][j], 2));
    this.dot.setAttribute('cy', up(look.force));
    const form = this.counted ? 'a staircase of rivals' : 'a fixed curve';
    this.curve.setAttribute('aria-label', `force on the marked pair against its distance: ${form}`);
  }

  drawShares(parts) {
    const names = ['within', 'between', 'offset'];
    this.parts.forEach((e, k) => {
      e.style.width = `${100*parts[k]}%`;
      e.textContent = parts[k] > .3 ? `${names[k]} ${parts[k].toFixed(2)}` : '';
    });
    const text = names.map((name, k) => `${name} ${parts[k].toFixed(2)}`).join(', ');
    this.bar.setAttribute('aria-label', `shares of variance: ${text}`);
    this.bar.title = text;
  }
}

// ---- Curves of both sides over the steps ----

class Chart {
  constructor(where, title) {
    const f = make('figure', {}, where);
    make('figcaption', {}, f, title);
    const label = `${title} of both losses over the steps`;
    this.svg = make('svg:svg', {viewBox: '-2 -2 104 44', class: 'dmc-chart', role: 'img', 'aria-label': label}, f);
    make('svg:path', {d: 'M0 0V40H100', class: 'dmc-axis'}, this.svg);
    this.paths = SIDES.map(side => make('svg:path', {class: `dmc-of-${side}`}, this.svg));
  }

  draw(curves) {
    const top = Math.max(...curves.flat(), 1e-9);
    const last = Math.max(curves[0].length - 1, 1);
    curves.forEach((c, k) => this.paths[k].setAttribute('d', polyline(c.map((v, t) => [100*t/last, 40 - 40*v/top]))));
  }
}

// ---- What both explorers share: panels of points that move step by step ----
// A subclass says what stands above and below the panels (build), where all begins (restart), what a step is (forward),
// and what is to be seen (picture). `s.t` has the points of each panel, in whatever form `place` understands.

class Player {
  constructor(el, settings) {
    this.el = el;
    this.s = {...DEFAULTS, ...settings};
    this.calm = matchMedia('(prefers-reduced-motion: reduce)').matches;
    this.el.replaceChildren();                          // a picture stands here for those who see no script
    this.el.classList.add('dmc-explorer');
  }

  begin() {
    this.build();
    this.restart();
    if (!this.calm && this.s.play !== false) this.play(true);
  }

  makeBar() {
    const bar = make('div', {class: 'dmc-bar'}, this.el);
    this.button = this.press(bar, 'play', () => this.play(!this.playing));
    this.press(bar, 'again', () => this.restart());
    return bar;
  }

  makePanels(sides, titles = sides) {
    make('p', {class: 'dmc-hint'}, this.el, this.hint());
    const where = make('div', {class: 'dmc-panels'}, this.el);
    this.panels = sides.map((side, k) => new Panel(where, side, titles[k]));
    this.said = make('p', {class: 'dmc-say', 'aria-live': 'polite'}, this.el);
  }

  press(where, text, then, title = '') {
    const b = make('button', {type: 'button', title}, where, text);
    b.onclick = then;
    return b;
  }

  slider(where, label, min, max, by, value, then) {
    const l = make('label', {}, where, `${label} `);
    const i = make('input', {type: 'range', min, max, step: by, value, 'aria-label': label}, l);
    const out = make('output', {}, l, value);
    i.oninput = () => {
      out.textContent = i.value;
      then(+i.value);
    };
    return {input: i, output: out};
  }

  // Points go to other places, at once or gliding
  move(t, gliding) {
    this.s.t = t;
    if (gliding && !this.calm && this.s.pace <= 10) this.glide();
    else this.shown = t;
    this.picture();
    this.place();
  }

  glide() {
    const [from, to, begin] = [this.shown, this.s.t, performance.now()];
    const frame = now => {
      if (to !== this.s.t) return;                      // something else has moved them
      const part = Math.min(Math.max(now - begin, 0)/GLIDE, 1);
      this.shown = between(from, to, part);
      this.place();
      if (part < 1) requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  }

  place() {
    this.panels.forEach((p, k) => p.place(this.where(this.shown[k]), this.s.pair));
  }

  mark(i) {
    if (i !== this.s.pair[1]) this.s.pair = [this.s.pair[1], i];
    this.picture();
    this.place();
  }

  // A step at every beat. One that cannot be made yet is made as soon as it can.
  play(on) {
    this.playing = on;
    this.late = false;
    this.button.textContent = on ? 'pause' : 'play';
    clearTimeout(this.timer);
    if (on) this.timer = setTimeout(() => this.tick(), 1000/this.s.pace);
  }

  tick() {
    this.late = !this.ready();
    if (this.late) return;
    this.timer = setTimeout(() => this.tick(), 1000/this.s.pace);
    this.forward();
  }

  ready() { return true; }
}

// ---- The explorer of both losses ----

class Explorer extends Player {
  constructor(el, settings = {}, engine = new PageEngine()) {
    super(el, settings);
    this.engine = engine;
    this.frames = 0;                                    // answers that were drawn
    this.begin();
  }

  hint() {
    return 'Drag any point, and watch the force on the outlined pair. Left it depends on the pair’s own distance. '
      + 'Right it counts rivals (lines): points of another class that are not yet a margin farther away.';
  }

  // Three controls in sight, the rest folded away
  build() {
    const bar = this.makeBar();
    this.press(bar, 'swap', () => this.swap(), 'each loss goes on from where the other one is');
    this.setting(bar, 'margin', 'margin', .1, 1.9, .05);
    this.choice(bar, 'pull : push', 'balance', {'as counted': false, '1 : 1': true});
    this.makePanels(SIDES);
    this.more = make('details', {}, this.el);
    make('summary', {}, this.more, 'more');
    const rest = make('div', {class: 'dmc-bar'}, this.more);
    this.choice(rest, 'strategy', 'strategy', {all: 'all', hard: 'hard', 'semi-hard': 'semi-hard'});
    this.choice(rest, 'mean of triplet over', 'reduction', {'all triplets': 'mean', 'active triplets': 'active'});
    this.setting(rest, 'rate', 'rate', .5, 15, .5);
    this.setting(rest, 'noise', 'noise', 0, .3, .01);
    this.setting(rest, 'steps a second', 'pace', 1, 30, 1);
    this.setting(rest, 'points', 'n', 12, 24, 1, true);
    this.setting(rest, 'classes', 'classes', 2, 4, 1, true);
    this.choice(rest, 'start', 'kind', {cap: 'cap', 'whole circle': 'circle'}, true);
    this.press(rest, 'other points', () => this.set('seed', this.s.seed + 1, true));
    const charts = make('div', {class: 'dmc-charts'}, this.more);
    make('p', {class: 'dmc-key'}, this.more, 'each step; solid: contrastive, dashed: triplet');
    this.charts = ['loss', 'active share', 'gradient norm'].map(title => new Chart(charts, title));
    this.more.ontoggle = () => this.drawCharts();
  }

  setting(where, label, key, min, max, by, again = false) {
    this.slider(where, label, min, max, by, this.s[key], v => this.set(key, v, again));
  }

  choice(where, label, key, options, again = false) {
    const l = make('label', {}, where, `${label} `);
    const c = make('select', {'aria-label': label}, l);
    for (const [text, v] of Object.entries(options)) {
      const o = make('option', {value: text}, c, text);
      o.selected = v === this.s[key];
    }
    c.onchange = () => this.set(key, options[c.value], again);
  }

  set(key, value, again) {
    this.s[key] = value;
    if (again) this.restart();
    else this.change(this.s.t, false);
  }

  restart() {
    const {t, y} = start(this.s.kind, this.s.n, this.s.classes, this.s.seed);
    this.s.y = y;
    this.s.pair = [y.length - 1 - this.s.classes, y.length - 1];       // two of a class
    this.draw = random(this.s.seed);                    // of the noise
    this.history = [];
    this.panels.forEach(p => p.points(y, (g, i) => this.wire(p, g, i)));
    this.change([t, t], false);
  }

  // ---- The mouse, a finger, the keyboard ----

  wire(p, g, i) {
    g.setAttribute('role', 'slider');
    g.setAttribute('aria-valuemin', -180);
    g.setAttribute('aria-valuemax', 180);
    g.onpointerdown = e => this.drag(p, g, i, e);
    g.onkeydown = e => this.key(i, e);
  }

  // A point goes to the same place on both circles; one that is pressed without being moved joins the marked pair
  drag(p, g, i, e) {
    e.preventDefault();
    g.setPointerCapture(e.pointerId);
    g.focus({preventScroll: true});
    let moved = false;
    g.onpointermove = v => {
      moved = true;
      const m = p.svg.getScreenCTM().inverse();
      this.put(i, Math.atan2(-(v.clientY*m.d + m.f), v.clientX*m.a + m.e));
    };
    g.onpointerup = g.onpointercancel = () => {
      g.onpointermove = null;
      if (!moved) this.mark(i);
    };
  }

  key(i, e) {
    const turn = KEYS[e.key];
    if (turn) this.turn(i, a => a + turn);
    else if (e.key === 'Enter' || e.key === ' ') this.mark(i);
    else return;
    e.preventDefault();
  }

  turn(i, f) { this.change(this.s.t.map(t => t.map((a, k) => k === i ? f(a) : a)), false); }
  put(i, angle) { this.turn(i, () => angle); }

  swap() {
    this.change([...this.s.t].reverse(), true);
    if (!this.calm) this.play(true);
  }

  // ---- Steps ----

  // Points or settings that no step has made: what was computed ahead is void, and the losses are asked anew
  change(t, gliding) {
    this.now = null;
    this.ahead = [];
    this.move(t, gliding);
    this.engine.ask(this.s, t, [], ([state]) => {
      if (t === this.s.t) this.show(state);
    });
  }

  // Steps are computed some at a time, so that a slow answer does not slow them down
  ready() {
    const few = Math.ceil(this.s.pace/5);
    const last = this.ahead.at(-1) || this.now;
    if (last && this.ahead.length < few && this.waitsFor !== last) {
      this.waitsFor = last;
      const shakes = Array.from({length: few}, () => last.t.map(t => t.map(() => this.s.noise*normal(this.draw))));
      this.engine.ask(this.s, last.t, shakes, states => {
        if (last !== (this.ahead.at(-1) || this.now)) return;          // something else has moved the points
        this.ahead.push(...states.slice(1));
        if (this.playing && this.late) this.tick();
      });
    }
    return this.ahead.length > 0;
  }

  forward() {
    const state = this.ahead.shift();
    this.move(state.t, true);
    this.show(state);
  }

  where(t) { return onCircle(t); }

  // Places, rivals and shares
  picture() {
    this.panels.forEach((p, k) => {
      const t = this.s.t[k];
      p.show(distances(t), shares(onCircle(t), this.s.y), this.s.y, this.s);
      t.forEach((a, i) => p.shapes[i].setAttribute('aria-valuenow', Math.round(a*180/Math.PI)));
    });
  }

  // What the losses say of them
  show(state) {
    const {answers} = state;
    this.frames += 1;
    this.now = state;
    const norms = answers.map(a => Math.hypot(...a.grad));
    this.history.push(answers.map((a, k) => [a.value, a.active, norms[k]]));
    const still = Math.max(...norms) < STILL && !this.s.noise;
    const values = answers.map(a => a.value.toFixed(3));
    const percent = answers.map(a => (100*a.active).toFixed(0));
    this.said.textContent = `loss ${values[0]} and ${values[1]}; `
      + `active: ${percent[0]} % of pairs, ${percent[1]} % of triplets${still ? '; both stand still' : ''}`;
    this.drawCharts();
    if (this.playing && still) this.play(false);
    if (this.playing && this.late) this.tick();
  }

  drawCharts() {
    if (!this.more.open) return;
    this.charts.forEach((chart, q) => chart.draw(SIDES.map((_, k) => this.history.map(h => h[k][q]))));
  }
}

// ---- A finished run, replayed: some points of its probe over its epochs, seen in a plane ----
// `runs` has for each: side, title, labels y, and per epoch the points in the plane, distances, shares, margin, loss.

class RunExplorer extends Player {
  constructor(el, settings) {
    super(el, {pace: 4, ...settings});
    this.last = Math.min(...this.s.runs.map(r => r.epochs.length)) - 1;
    this.begin();
  }

  hint() {
    return 'Some training points of a finished run, epoch by epoch, seen in a plane; distances, forces and shares are '
      + 'those of the whole embedding. Press two points to mark them.';
  }

  build() {
    this.epoch = this.slider(this.makeBar(), 'epoch', 0, this.last, 1, 0, e => this.go(e, false));
    this.makePanels(this.s.runs.map(r => r.side), this.s.runs.map(r => r.title));
  }

  restart() {
    const {y} = this.s.runs[0];
    this.s.pair = [0, y.indexOf(y[0], 1)];
    this.panels.forEach(p => p.points(y, (g, i) => this.wire(g, i)));
    this.go(0, false);
  }

  wire(g, i) {
    g.setAttribute('role', 'button');
    g.onclick = () => this.mark(i);
    g.onkeydown = e => {
      if (e.key === 'Enter' || e.key === ' ') {
        e.preventDefault();
        this.mark(i);
      }
    };
  }

  go(epoch, gliding) {
    this.s.epoch = epoch;
    this.epoch.input.value = this.epoch.output.textContent = epoch;
    this.move(this.s.runs.map(r => r.epochs[epoch].xy), gliding);
  }

  forward() {
    if (this.s.epoch < this.last) this.go(this.s.epoch + 1, true);
    else this.play(false);
  }

  where(xy) { return xy; }

  picture() {
    const now = this.s.runs.map(r => r.epochs[this.s.epoch]);
    this.panels.forEach((p, k) => {
      const {d, shares, margin} = now[k];
      p.show(d, shares, this.s.runs[k].y, {...this.s, margin});
    });
    this.said.textContent = `loss over all pairs of the probe: ${now.map(e => e.loss.toFixed(3)).join(' and ')}`;
  }
}

root.dmcExplorer = {Explorer, RunExplorer, KernelEngine, DEFAULTS};
const places = root.document ? root.document.querySelectorAll('[data-dmc-explorer]') : [];
for (const el of places) el.dmc = new Explorer(el, JSON.parse(el.dataset.dmcExplorer || '{}'));
})(globalThis);
