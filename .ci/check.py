"""Run every notebook's tests and the project's checks: `python .ci/check.py [NAME ...]`, a name being a notebook's path
or a check's.

Prints a line `PASS name` or `FAIL name` for each, what went wrong above it, and the counts last. A check is a function
that yields (or returns) its complaints, one sentence each; none means it passed. Each notebook and each heavy check
runs in processes of its own."""
import ast, filecmp, json, os, re, shutil, subprocess, sys, tempfile, time
from concurrent.futures import ThreadPoolExecutor
from configparser import ConfigParser
from functools import cache
from pathlib import Path
import yaml

ROOT = Path(__file__).resolve().parent.parent
BIN, LIB, NBS = Path(sys.executable).parent, ROOT/'deep_metric_compare', ROOT/'nbs'
ENV = {**os.environ, 'PATH': f"{BIN}{os.pathsep}{os.environ['PATH']}", 'OMP_NUM_THREADS': '1'}
LIGHT = 'distances sampling kernels losses synthetic metrics geometry'.split()
HEAVY = 'fastai transformers pandas scipy sklearn matplotlib'.split()
CHECKS = []

def check(f):
    CHECKS.append(f)
    return f

class Failed(Exception): "A command a check relies on failed; its output is the message."

def sh(*cmd, cwd=ROOT):
    "Output of a command, which must succeed"
    r = subprocess.run([str(c) for c in cmd], cwd=cwd, env=ENV, text=True, stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if r.returncode: raise Failed(r.stdout)
    return r.stdout

def py(code, *args, cwd=ROOT): return sh(sys.executable, '-c', code, *args, cwd=cwd)

def read(path): return Path(path).read_text(encoding='utf-8')

# ---- What is there ----
@cache
def files():
    "Every file of the project, committed or not yet"
    names = sh('git', 'ls-files', '-coz', '--exclude-standard').split('\0')
    return [ROOT/n for n in sorted(set(names)) if n and ((ROOT/n).exists() or (ROOT/n).is_symlink())]

@cache
def notebooks(): return sorted(NBS.glob('[0-9i]*.ipynb'))

@cache
def cells(nb):
    "The cells of a notebook, with `src`, Quarto's options `opts`, nbdev's `directives`, and whether a reader sees them"
    res = json.loads(read(nb))['cells']
    for i, c in enumerate(res):
        c['src'] = ''.join(c['source'])
        c['where'] = f'{nb.name}, cell {i}'
        lines = re.findall(r'^#\|\s*(.+)$', c['src'], flags=re.M) if c['cell_type'] == 'code' else []
        c['opts'] = dict(re.match(r'([\w-]+)\s*:\s*(.*)', l).groups() for l in lines if re.match(r'[\w-]+\s*:', l))
        c['directives'] = {l.split()[0] for l in lines if ':' not in l}
        hidden = c['directives'] & {'hide', 'export', 'exporti', 'default_exp'}
        c['shown'] = not hidden and c['opts'].get('include') != 'false'
    return res

def code_cells(): return [c for nb in notebooks() for c in cells(nb) if c['cell_type'] == 'code']

def prose(nb):
    "What is written on a page, without code, formulas and links' addresses"
    md = '\n\n'.join(c['src'] for c in cells(nb) if c['cell_type'] == 'markdown')
    md += '\n\n'.join(c['opts'].get('fig-cap', '') for c in cells(nb) if c['shown'])
    return re.sub(r'```.*?```|`[^`\n]*`|\]\([^)]*\)', ' ', md, flags=re.S)

@cache
def settings():
    cfg = ConfigParser(delimiters=['='])
    cfg.read(ROOT/'settings.ini', encoding='utf-8')
    return cfg['DEFAULT']

def module_of(nb):
    m = re.search(r'^#\|\s*default_exp\s+(\S+)', '\n'.join(c['src'] for c in cells(nb)), flags=re.M)
    return m and m[1]

def exported(f):
    "The public names of a module"
    found = re.search(r'^__all__ = (\[.*?\])', read(f), flags=re.M | re.S)
    return set(ast.literal_eval(found[1])) if found else set()

def number(nb): return re.match(r'\d*[a-z]*(?=_)|', nb.name)[0] or 'z'   # index reads everything

def copy_tree(to):
    for f in files():
        new = Path(to)/f.relative_to(ROOT)
        new.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(f, new, follow_symlinks=False)
    return Path(to)

# ---- Notebooks and what is made of them ----
@check
def notebooks_and_modules_agree():
    with tempfile.TemporaryDirectory() as tmp:
        copy_tree(tmp)
        sh(BIN/'nbdev_clean', cwd=tmp)
        sh(BIN/'nbdev_export', cwd=tmp)
        for new in sorted([*Path(tmp, 'nbs').glob('*.ipynb'), *Path(tmp, LIB.name).rglob('*.py')]):
            name = new.relative_to(tmp)
            same = (ROOT/name).exists() and filecmp.cmp(ROOT/name, new, shallow=False)
            if not same: yield f'{name} changes when cleaned and exported: run make sync'
        made = {module_of(nb) for nb in notebooks()} | {'__init__', '_modidx'}
        for f in files():
            ours = f.parent == LIB and f.suffix == '.py'
            if ours and f.stem not in made: yield f'{f.relative_to(ROOT)} comes from no notebook'

@check
def readme_is_the_index(): sh(sys.executable, ROOT/'.ci/readme.py', '--check')

PROCESS = """from nbdev.quarto import refresh_quarto_yml
from nbdev.serve import proc_nbs
refresh_quarto_yml()
proc_nbs(n_workers=0)"""

@check
def pages_can_be_processed():
    with tempfile.TemporaryDirectory() as tmp:
        copy_tree(tmp)
        out = py(PROCESS, cwd=tmp)
        if 'imports and other code' in out: yield out
        same = filecmp.cmp(NBS/'nbdev.yml', Path(tmp, 'nbs/nbdev.yml'), shallow=False)
        if not same: yield 'nbs/nbdev.yml is not what settings.ini says'

@check
def sidebar_lists_the_pages():
    entries = yaml.safe_load(read(ROOT/'_quarto.yml'))['website']['sidebar']['contents']
    listed = [p for e in entries for p in (e['contents'] if isinstance(e, dict) else [e])]
    there = [nb.name for nb in notebooks()]
    yield from (f'_quarto.yml lists {p}, which is not there' for p in listed if p not in there)
    yield from (f'_quarto.yml does not list {p}' for p in there if p not in listed)
    link = NBS/'_quarto.yml'
    linked = link.is_symlink() and os.readlink(link) == '../_quarto.yml'
    if not linked: yield f'nbs/{link.name} is not a link to ../{link.name}'

# ---- Pages ----
@check
def cell_options_are_yaml():
    for c in code_cells():
        for k, v in c['opts'].items():
            try: yaml.safe_load(f'{k}: {v}')
            except yaml.YAMLError: yield f"{c['where']}: quote the value of {k}"

@check
def references_resolve():
    keys = re.findall(r'^@\w+\{([^,\s]+),', read(NBS/'references.bib'), flags=re.M)
    yield from (f'references.bib has {k} twice' for k in sorted(set(keys)) if keys.count(k) > 1)
    for nb in notebooks():
        text = prose(nb)
        labels = re.findall(r'\{#((?:fig|eq|tbl|sec|lst)-[\w-]+)', text)
        labels += [c['opts']['label'] for c in cells(nb) if c['shown'] and 'label' in c['opts']]
        yield from (f'{nb.name} has the label {l} twice' for l in sorted(set(labels)) if labels.count(l) > 1)
        docs = ''.join(c['src'] for c in cells(nb) if 'export' in c['directives'])    # docstrings are on the page
        refs = re.findall(r'(?<![\w@\\])@([A-Za-z][\w:-]*\w)', text) + re.findall(r'@((?:fig|eq|tbl)-[\w-]+)', docs)
        for ref in refs:
            of_page = re.match('(fig|eq|tbl|sec|lst)-', ref)
            known, place = (labels, 'on this page') if of_page else (keys, 'in references.bib')
            if ref not in known: yield f'{nb.name}: @{ref} is defined nowhere {place}'

@check
def figures_say_what_they_show():
    for c in code_cells():
        picture = any(k.startswith('image/') for o in c['outputs'] for k in o.get('data', {}))
        label = c['opts'].get('label', '')
        if c['shown'] and picture:
            missing = [k for k in ('label', 'fig-cap', 'fig-alt') if not c['opts'].get(k)]
            if missing: yield f"{c['where']}: a figure without {', '.join(missing)}"
            elif not label.startswith('fig-'): yield f"{c['where']}: the label {label} should begin with fig-"
        if label.startswith('fig-') and not picture:
            yield f"{c['where']}: {label} has no stored picture; run the notebook and store its outputs"

@check
def stored_outputs_are_presentable():
    local = r'(?<![\w./:~-])/(?:root|home|Users|work|tmp|opt|usr|var)/\S*'
    bad = re.compile(r'\w*Warning:|site-packages|Traceback \(most recent|' + local)
    for c in code_cells():
        if any(o['output_type'] == 'error' for o in c['outputs']): yield f"{c['where']}: a stored error"
        outputs = [dict(o.get('data', {}), text=o.get('text', '')) for o in c['outputs']]
        texts = [''.join(v) for o in outputs for k, v in o.items() if k.startswith('text')]
        for m in set(bad.findall('\n'.join(texts))): yield f"{c['where']}: an output with {m!r}"

# In pixels, as the style sheet sets them: the text column of a page, a character of a table, the padding of a cell
COLUMN, CHAR, PAD = 678, 8.1, 12

def table_width(md):
    "Pixels that a Markdown table takes at the least, once its cells have broken their text at blanks and hyphens"
    rows = [re.split(r'(?<!\\)\|', l.strip().strip('|')) for l in md.splitlines() if l.lstrip().startswith('|')]
    rows = [r for r in rows if not all(re.fullmatch(r'\s*:?-+:?\s*', c) for c in r)]
    bare = lambda c: re.sub(r'[*`]|\]\([^)]*\)|\[', '', c)
    word = lambda c: max(map(len, re.split(r'\s|(?<=-)', bare(c))), default=0)
    return sum(CHAR*max(map(word, col)) + PAD for col in zip(*rows))

@check
def pages_fit_their_column():
    "Tables and figures no wider than the text, outputs no longer than a screen, nothing that makes a page load scripts"
    shrinks = re.search(r'main img \{[^}]*max-width: 100%; height: auto', read(NBS/'styles.css'))
    for c in code_cells():
        if not c['shown'] or c['opts'].get('output') == 'false': continue
        for o in c['outputs']:
            data = {'text/plain': o['text']} if 'text' in o else o.get('data', {})
            text = lambda k: ''.join(data.get(k, ''))
            wide = max(map(table_width, re.split(r'\n\s*\n', text('text/markdown'))), default=0)
            if wide > COLUMN: yield f"{c['where']}: a table of {wide:.0f} pixels, beyond the {COLUMN} of the column"
            if {'text/html', 'application/javascript'} & set(data):
                yield f"{c['where']}: an output in HTML, for which a page loads scripts from elsewhere"
            long = text('text/plain').count('\n')
            if len(data) == 1 and long > 60: yield f"{c['where']}: an output of {long} lines"
            size = (o.get('metadata') or {}).get('image/png', {}).get('width', 0)
            if size > COLUMN and not shrinks:
                yield f"{c['where']}: a figure of {size} pixels, and styles.css does not let it shrink"

@check
def signatures_read_as_text():
    "What stands in a signature or a docstring is shown as it is: no links to the package's own names, no HTML"
    ours = set().union(*map(exported, LIB.glob('[a-z]*.py')))
    for c in code_cells():
        if 'export' not in c['directives']: continue
        lines = c['src'].splitlines()
        for n in ast.walk(ast.parse(c['src'])):
            if not isinstance(n, (ast.FunctionDef, ast.ClassDef)): continue
            signature = [l.split('#', 1)[1] for l in lines[n.lineno - 1:n.body[0].lineno - 1] if '#' in l]
            linked = ours & set(re.findall(r'`(\w+)`', ' '.join(signature)))
            if linked: yield f"{c['where']}: back-ticks round {', '.join(sorted(linked))} in the signature of {n.name}"
            tags = re.findall(r'<[a-z]\w*>', ' '.join(signature) + (ast.get_docstring(n) or ''))
            if tags: yield f"{c['where']}: {tags[0]} in the words about {n.name} would vanish from the page"

WIDEST = 120    # columns of a line of code

@check
def lines_are_short():
    "Code that is written by hand: cells, but for their options, and files that are no modules"
    codes = [(c['where'], c['src']) for c in code_cells()]
    for f in files():
        name = str(f.relative_to(ROOT))
        ours = f.suffix == '.py' and f.parent != LIB
        if ours or name in ('.ci/run', 'Makefile'): codes.append((name, read(f)))
    for where, code in codes:
        for i, line in enumerate(code.splitlines(), 1):
            if len(line) > WIDEST and not line.startswith('#|'):
                yield f'{where}, line {i} has {len(line)} columns, expected at most {WIDEST}'

# ---- Modules ----
@check
def imports_follow_the_numbers():
    numbers = {module_of(nb): number(nb) for nb in notebooks() if module_of(nb)}
    for nb in notebooks():
        for c in cells(nb):
            if c['cell_type'] != 'code': continue
            for used in re.findall(r'^\s*(?:from|import)\s+(?:deep_metric_compare)?\.(\w+)', c['src'], flags=re.M):
                if used not in numbers: yield f"{c['where']} imports {used}, which no notebook makes"
                elif numbers[used] >= number(nb) and (used != module_of(nb) or 'export' in c['directives']):
                    yield f"{c['where']} imports {used} ({numbers[used]}), which does not come before it"

@check
def names_differ_from_fastai():
    theirs = set(py('from fastai.basics import *\nfrom fastai.callback.all import *\nprint(*dir())').split())
    for f in sorted(LIB.glob('[a-z]*.py')):
        both = theirs & exported(f)
        if both: yield f'{f.name} exports {sorted(both)}, which fastai exports too'

IMPORTS = """import importlib, sys
for module, unwanted in [('console', ['torch']), *((m, sys.argv[2:]) for m in sys.argv[1].split())]:
    importlib.import_module(f'deep_metric_compare.{module}')
    if extra := set(unwanted) & set(sys.modules): sys.exit(print(f'importing {module} imports {sorted(extra)}'))"""

@check
def imports_are_light():
    "The console before torch, so that --help is quick; the losses and what they need without anything but torch"
    return py(IMPORTS, ' '.join(LIGHT), *HEAVY).splitlines()

# ---- The project's files ----
@check
def versions_and_commands_agree():
    version = settings()['version']
    for f, pattern in [(LIB/'__init__.py', r'__version__ = "(.*)"'), (ROOT/'CITATION.cff', r'^version: (.*)$')]:
        found = re.findall(pattern, read(f), flags=re.M)
        if found != [version]: yield f'{f.name} has another version than settings.ini ({version})'
    for command in settings()['console_scripts'].split():
        name, module, function = re.split('[=:]', command)
        tree = ast.parse(read(ROOT/(module.replace('.', '/') + '.py')))
        there = {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
        if function not in there: yield f'{name} has no function {function} in {module}'

@check
def files_hold_nothing_local():
    registries = r'pypi\.org|pythonhosted\.org|download\.pytorch\.org|anaconda\.org'
    bad = re.compile(registries + r'|(?<![\w.:/~<>+-])/(?:root|home|Users|work|tmp)/\w+')
    for f in files():
        if f.is_symlink() or f == Path(__file__): continue
        try: text = read(f)
        except UnicodeDecodeError: continue
        for m in sorted(set(bad.findall(text))): yield f'{f.relative_to(ROOT)} has {m!r}'

# ---- Running them ----
def notebook(nb):
    def f(): sh(BIN/'nbdev_test', '--path', nb, '--n_workers', 0)
    f.__name__ = str(nb.relative_to(ROOT))
    return f

def run(f):
    start = time.time()
    try: complaints = [*(f() or ())]
    except Failed as e: complaints = [str(e).strip()]
    except Exception as e: complaints = [f'{type(e).__name__}: {e}']
    name = f.__name__.replace('_', ' ') if f in CHECKS else f.__name__
    text = ''.join(f'    {l}\n' for c in complaints for l in c.splitlines()[-40:])
    print(f"{text}{'FAIL' if complaints else 'PASS'} {name} ({time.time() - start:.0f} s)", flush=True)
    return not complaints

def main(names):
    jobs = [notebook(nb) for nb in reversed(notebooks())] + CHECKS     # the long ones first
    jobs = [f for f in jobs if not names or f.__name__ in names]
    with ThreadPoolExecutor(2) as pool: passed = [*pool.map(run, jobs)]
    print(f'{sum(passed)} passed, {len(passed) - sum(passed)} failed')
    return 0 if passed and all(passed) else 1

if __name__ == '__main__': sys.exit(main(sys.argv[1:]))
