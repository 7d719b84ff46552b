"""Do the pages' tests bite? Small errors are put into a module, one at a time, and the page that makes it has to fail.

    python .ci/mutants.py losses kernels metrics geometry            # 50 mutants of each, drawn by a seed
    python .ci/mutants.py losses --n 200 --seed 1

A page is run cell by cell in one process. Before an exported cell it forks for each of that cell's mutants: the child
runs the mutated cell and the rest of the page, until something fails. So nothing is imported or computed twice. A
mutant survives if the page ends well. Those known to change nothing that can be observed stand, each with its reason,
in .ci/mutants_alike.txt, and are not run. (mutmut and cosmic-ray were looked at: they run tests of pytest, and a
process with its imports for each mutant.)"""
import argparse, ast, contextlib, io, json, linecache, os, random, re, resource, signal, sys, tempfile, time, types
from pathlib import Path

os.environ |= dict(OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='', MPLBACKEND='agg', IN_TEST='1')   # one thread: it forks
ROOT = Path(__file__).resolve().parent.parent
ALIKE = ROOT/'.ci/mutants_alike.txt'
SKIPPED = {'slow', 'gpu', 'data'}                     # directives of cells that the tests leave out, too
MEMORY = 8 << 30

# ---- What can go wrong in a line ----
SWAPS = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
         ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.Add: ast.Sub,
         ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
         ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
         ast.And: ast.Or, ast.Or: ast.And}
OPPOSITE = ('min', 'max'), ('amin', 'amax'), ('argmin', 'argmax'), ('clamp_min', 'clamp_max')
NAMES = {a + suffix: b + suffix for x, y in OPPOSITE
         for a, b in ((x, y), (y, x)) for suffix in ('', '_')}
SYMMETRIC = {'min', 'max', 'minimum', 'maximum'}

def swapped(node):
    "Another operator: of a comparison, a sum, a product, bits, and/or"
    one = node.ops[0] if isinstance(node, ast.Compare) else getattr(node, 'op', None)
    if type(one) not in SWAPS or isinstance(node, ast.AugAssign) or is_text(node): return
    other = SWAPS[type(one)]()
    if isinstance(node, ast.Compare): new = ast.Compare(node.left, [other, *node.ops[1:]], node.comparators)
    elif isinstance(node, ast.BoolOp): new = ast.BoolOp(other, node.values)
    else: new = ast.BinOp(node.left, other, node.right)
    yield f'({ast.unparse(new)})'

def is_text(node):
    ends = [getattr(node, k, None) for k in ('left', 'right')]
    return any(isinstance(e, ast.JoinedStr) or isinstance(getattr(e, 'value', None), str) for e in ends)

def off_by_one(node):
    "Another number, or the other truth"
    if not isinstance(node, ast.Constant) or not isinstance(node.value, (int, float)): return
    if isinstance(node.value, bool): yield str(not node.value)
    elif isinstance(node.value, int): yield str(node.value + 1)
    else: yield str(2*node.value or 1.)

def unsigned(node):
    "No sign, no `not`, no ~"
    if isinstance(node, ast.UnaryOp): yield f'({ast.unparse(node.operand)})'

def renamed(node):
    "min for max"
    if isinstance(node, ast.Attribute) and node.attr in NAMES: yield f'{ast.unparse(node.value)}.{NAMES[node.attr]}'
    if isinstance(node, ast.Name) and node.id in NAMES: yield NAMES[node.id]

def shifted(node):
    "A slice that begins or ends one later"
    if not isinstance(node, ast.Slice): return
    for part in ('lower', 'upper'):
        end = getattr(node, part)
        if end is None: continue
        later = ast.BinOp(end, ast.Add(), ast.Constant(1))
        yield ast.unparse(ast.Slice(**{**vars(node), part: later}))

def dropped(node):
    "A statement that is not there"
    said = isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant)
    if said or isinstance(node, ast.AugAssign) or isinstance(node, ast.If) and not node.orelse: yield 'pass'

def exchanged(node):
    "The first two arguments the other way round"
    if not isinstance(node, ast.Call) or len(node.args) < 2: return
    if any(isinstance(a, ast.Starred) for a in node.args[:2]): return
    a, b, *rest = node.args
    if ast.dump(a) == ast.dump(b) or ast.unparse(node.func).split('.')[-1] in SYMMETRIC: return
    yield ast.unparse(ast.Call(node.func, [b, a, *rest], node.keywords))

def negated(node):
    "The other branch of a conditional"
    if isinstance(node, ast.IfExp): yield f'({ast.unparse(ast.IfExp(node.test, node.orelse, node.body))})'

KINDS = swapped, off_by_one, unsigned, renamed, shifted, dropped, exchanged, negated

def visited(node):
    "What runs: no annotations, no messages"
    for name, value in ast.iter_fields(node):
        if name in ('annotation', 'returns'): continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(child, ast.JoinedStr): continue
            yield child
            yield from visited(child)

def mutants_of(src):
    "Every mutant of a cell: its text, and the changed line before and after"
    data = src.encode()
    starts = [0]
    for line in data.splitlines(keepends=True): starts.append(starts[-1] + len(line))
    for node in visited(ast.parse(src)):
        if not hasattr(node, 'lineno'): continue
        a, b = starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset
        for kind in KINDS:
            for new in kind(node):
                text = (data[:a] + new.encode() + data[b:]).decode()
                before = src.splitlines()[node.lineno - 1:node.end_lineno]
                after = text.splitlines()[node.lineno - 1:][:len(before) + text.count('\n') - src.count('\n')]
                yield dict(text=text, kind=kind.__name__, before=one_line(before), after=one_line(after))

def one_line(lines): return ' '.join(re.sub(r'\s+#.*', '', l).strip() for l in lines)[:160]

# ---- The page ----
def page_of(module):
    "The code cells of the page that makes a module: id, source, exported?"
    for nb in sorted((ROOT/'nbs').glob('[0-9]*.ipynb')):
        cells = [c for c in json.loads(nb.read_text(encoding='utf-8'))['cells'] if c['cell_type'] == 'code']
        texts = [''.join(c['source']) for c in cells]
        texts = [re.sub(r'^%run (\S+)$', r"exec(open('\1').read())", t, flags=re.M) for t in texts]
        if not any(re.search(rf'^#\|\s*default_exp {module}$', t, flags=re.M) for t in texts): continue
        said = [set(re.findall(r'^#\|\s*(\w+)', t, flags=re.M)) for t in texts]
        return [(c['id'], t, bool(d & {'export', 'exporti'})) for c, t, d in zip(cells, texts, said) if not d & SKIPPED]
    sys.exit(f'no page makes the module {module}')

def run(id, text, names):
    file = f'<cell {id}>'
    linecache.cache[file] = len(text), None, text.splitlines(keepends=True), file
    with contextlib.redirect_stdout(io.StringIO()): exec(compile(text, file, 'exec'), names)
    if plt := sys.modules.get('matplotlib.pyplot'): plt.close('all')

def forked(cells, names, limit):
    "Run cells in a child: where it failed and how, or None; and its processor time"
    say, hear = os.pipe()[::-1]
    sys.stdout.flush()
    if not (child := os.fork()):
        null = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2): os.dup2(null, stream)
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        signal.alarm(10*limit)
        where = None
        try:
            for where, text, _ in cells: run(where, text, names)
            os.write(say, b'null')
        except BaseException as e:
            lines = str(e).strip().splitlines() or ['']
            os.write(say, json.dumps(f'{where}: {type(e).__name__} {lines[0][:80]}').encode())
        os._exit(0)
    os.close(say)
    with os.fdopen(hear, 'rb') as f: said = f.read()
    used = os.wait4(child, 0)[2]
    return json.loads(said) if said else 'time or memory', used.ru_utime + used.ru_stime

def sweep(module, n, seed):
    "Killed and surviving mutants of a module"
    cells, known = page_of(module), alike(module)
    every = [dict(m, cell=i) for i, (_, text, exported) in enumerate(cells) if exported for m in mutants_of(text)]
    chosen = random.Random(f'{module} {seed}').sample(every, min(n, len(every)))
    if gone := known.keys() - {(m['before'], m['after']) for m in every}:
        sys.exit(f'mutants_alike.txt names mutants of {module} that there are no more: {gone}')
    page = types.ModuleType('__main__')
    sys.modules['__main__'] = page                    # what is pickled on a page is found there
    failed, seconds = forked(cells, vars(page), 3600)
    if failed: sys.exit(f'the page of {module} fails without any mutant, in cell {failed}')
    for i, cell in enumerate(cells):
        for m in (m for m in chosen if m['cell'] == i):
            start, reason = time.time(), known.get((m['before'], m['after']))
            rest = [(cell[0], m['text'], True), *cells[i + 1:]]
            m['failed'] = None if reason else forked(rest, vars(page), int(3*seconds) + 20)[0]
            m['verdict'] = 'alike' if reason else 'killed' if m['failed'] else 'SURVIVED'
            why = reason or m['failed'] or ''
            print(f"{m['verdict']:<8} {module} {cell[0]} {m['kind']}, {time.time() - start:.0f} s: {why}\n"
                  f"         {m['before']}\n       → {m['after']}", flush=True)
        run(*cell[:2], vars(page))
    return chosen

def alike(module):
    "Mutants known to change nothing that can be observed: the line before and after → why"
    if not ALIKE.exists(): return {}
    blocks = [b.splitlines() for b in ALIKE.read_text(encoding='utf-8').split('\n\n')]
    lines = [[l.strip() for l in b if not l.startswith('#')] for b in blocks]
    return {(before, after): why for name, before, after, why in filter(None, lines) if name == module}

def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('modules', nargs='+')
    p.add_argument('--n', type=int, default=50, help='mutants of each module')
    p.add_argument('--seed', type=int, default=0, help='of the draw')
    args = p.parse_args()
    os.chdir(ROOT/'nbs')
    with tempfile.TemporaryDirectory() as d:
        os.environ['TMPDIR'] = tempfile.tempdir = d
        for module in args.modules:
            verdicts = [m['verdict'] for m in sweep(module, args.n, args.seed)]
            count = {k: verdicts.count(k) for k in ('killed', 'alike', 'SURVIVED')}
            share = count['killed']/max(1, len(verdicts) - count['alike'])
            print(f"{module}: {count['killed']} killed, {count['alike']} alike, {count['SURVIVED']} survived; "
                  f'{share:.0%} of those that change something', flush=True)

if __name__ == '__main__': main()
