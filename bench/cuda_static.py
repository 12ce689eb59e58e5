#!/usr/bin/env python3
"""cuda_static.py - what is known of each CUDA kernel without a GPU, as a table; or whether it is what it should be.

usage: bench/cuda_static.py BUILD [-o FILE] [--check FILE]

From nvcc's log (BUILD/cuda/*.ptxas.txt): registers, spilled bytes, static shared memory per card, and from these the
occupancy. From the emulator, which runs each case of bench-kernels, its maps made small with their channels kept, in a process
of its own: threads per block, 32-byte sectors per request of a warp over the fewest that could hold its bytes, passes per access
of shared memory over the fewest (1: no bank conflicts). From bench-kernels --static: the floor of the case's step at the
benchmark's shapes, batch 16, on an RTX 4090 and an H100 SXM. Instances that no case launches are taken from the tests of all
operations, whose shapes are odd; where they have not run there, they are listed with nvcc's words alone.

--check FILE: instead of a table, compares sectors and passes with the expectations in FILE (tests/cuda/access.txt); nothing but
the cases is run, and nvcc is not needed. Exit status 1: a kernel differs, or is not in the file.
"""
import argparse
import collections
import fnmatch
import json
import os
import re
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# Per multiprocessor: warps, blocks, bytes of shared memory; registers are 65536, handed out to a warp by 256.
CARDS = {'sm_80': (64, 32, 164), 'sm_86': (48, 16, 100), 'sm_89': (48, 24, 100), 'sm_90': (64, 32, 228), 'sm_120': (48, 32, 100)}


def plain(name):
    """lines_kernel<forward_body<false>, 32> of a demangled name."""
    name = name.replace('(anonymous namespace)::', '').replace('void ', '', 1)
    name = re.sub(r'\[clone[^]]*\]', '', name)
    name = re.sub(r'\(int\)|\(bool\)', '', name.split('(const ')[0]).split('(')[0].strip()
    return name.replace('> >', '>>').replace(' ', '')


def demangle(names):
    out = subprocess.run(['c++filt'], input='\n'.join(names), capture_output=True, text=True, check=True).stdout
    return out.split('\n')[:len(names)]


def ptxas(folder):
    """{(file, kernel): {card: (registers, spilled bytes, shared bytes)}}"""
    rows = []
    for log in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        if not log.endswith('.ptxas.txt'):
            continue
        entry = None
        for line in open(os.path.join(folder, log)):
            m = re.search(r"Compiling entry function '(\w+)' for '(\w+)'", line)
            if m:
                entry, spilled = [log[:-len('.ptxas.txt')], *m.groups()], 0
            elif 'bytes spill stores' in line:
                spilled = sum(int(n) for n in re.findall(r'(\d+) bytes spill', line))
            elif entry and 'Used' in line and 'registers' in line:
                shared = re.search(r'(\d+) bytes smem', line)
                rows.append((*entry, int(re.search(r'Used (\d+)', line).group(1)), spilled, int(shared.group(1)) if shared else 0))
                entry = None
    table = collections.defaultdict(dict)
    for (file, _, card, registers, spilled, shared), name in zip(rows, demangle([r[1] for r in rows])):
        table[file, plain(name)][card] = (registers, spilled, shared)
    return table


def symbols(library):
    """{offset: (file, kernel)} of the emulated backend: local symbols stand behind the name of their file."""
    file, found = None, {}
    for line in subprocess.run(['readelf', '-sW', library], capture_output=True, text=True, check=True).stdout.split('\n'):
        part = line.split()
        if len(part) >= 8 and part[3] == 'FILE':
            file = part[7]
        elif len(part) >= 8 and part[3] == 'FUNC':
            found[int(part[1], 16)] = (file if part[4] == 'LOCAL' else None, part[7])
    names = demangle([v[1] for v in found.values()])
    return {k: (v[0], plain(n)) for (k, v), n in zip(found.items(), names)}


FIELDS = ('launches', 'threads', 'shared', 'loads', 'load_sectors', 'load_fewest', 'stores', 'store_sectors', 'store_fewest',
          'accesses', 'passes', 'fewest_passes', 'worst')
Counts = collections.namedtuple('Counts', FIELDS)
MOST = ('threads', 'shared', 'worst')  # of several: the largest, not the sum


def together(a, b):
    return Counts(*(max(x, y) if f in MOST else x + y for f, x, y in zip(FIELDS, a, b)))


def counted(build, command, known):
    """{(file, kernel): Counts} of what COMMAND launches on the emulator. `known`: symbols read so far."""
    table = {}
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'counts')
        env = dict(os.environ, ADZE_CUSIM_COUNTS=path, ADZE_CUSIM_CHECKS='fast', ADZE_TEST_DEVICE='cusim',
                   ADZE_BACKEND_PATH=os.path.join(build, 'lib'), XDG_CACHE_HOME=folder)
        done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f'{" ".join(command)}: exit status {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}')
        for line in open(path) if os.path.exists(path) else []:
            library, offset, kernel, *rest = line.rstrip('\n').split('\t')
            if library not in known:
                known[library] = symbols(library)
            key = known[library].get(int(offset), (None, kernel))
            new = Counts(*map(int, rest))
            table[key] = together(table[key], new) if key in table else new
    return table


def run_cases(build, known):
    """{(file, kernel): (case, Counts)}: of the case in which it touches most."""
    program, table = f'{build}/bin/bench-kernels', {}
    for case in subprocess.run([program, '--list'], capture_output=True, text=True, check=True).stdout.splitlines():
        for key, c in counted(build, [program, '--device', 'cusim', '--batch', '1', '--repeat', '1', '--shrink', '8', '--case', case], known).items():
            old = table.get(key)
            if not old or c.load_sectors + c.store_sectors > old[1].load_sectors + old[1].store_sectors:
                table[key] = (case, c)
    return table


def floors(build):
    """{case: [step of bench-kernels --static]}"""
    table = collections.defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'floors.json')
        subprocess.run([f'{build}/bin/bench-kernels', '--static', '--json', path], stdout=subprocess.DEVNULL, check=False)
        for step in json.load(open(path)):
            table[step['case']].append(step)
    return table


def floor_of(steps, file, kernel):
    """Microseconds on both cards of the step that launches the kernel: same direction, if possible the operation of its file."""
    backward = bool(re.search('backward|gradient|unpack', kernel))
    fit = [s for s in steps if s['backward'] == backward] or steps
    fit = [s for s in fit if s['op'] == (file or '').removesuffix('.cu')] or fit
    return f"{1e6 * fit[0]['floor_rtx_4090_s']:.1f}/{1e6 * fit[0]['floor_h100_s']:.1f}" if fit else '-'


def occupancy(card, registers, threads, shared):
    warps, blocks, kib = CARDS[card]
    per_block = -(-threads // 32)
    by_registers = 65536 // (-(-registers * 32 // 256) * 256) // per_block if registers else blocks
    by_shared = kib * 1024 // (shared + 1024)
    return 100 * per_block * min(blocks, warps // per_block, by_registers, by_shared) // warps


def each(a, b):
    return f'{a / b:.2f}' if b else '-'


def access(c):
    """Sectors per request and over the fewest, of loads and of stores; passes over the fewest."""
    return (each(c.load_sectors, c.loads), each(c.load_sectors, c.load_fewest), each(c.store_sectors, c.stores),
            each(c.store_sectors, c.store_fewest), each(c.passes, c.fewest_passes))


def by_name(key):
    return key[0] or '', key[1]


def table_of(build):
    known = {}
    static, cases, by_case = ptxas(os.path.join(build, 'cuda')), run_cases(build, known), floors(build)
    odd = {}
    for test in ('test_ops', 'test_ops_train', 'test_device_calls'):
        for key, c in counted(build, [f'{build}/tests/{test}'], known).items():
            odd[key] = together(odd[key], c) if key in odd else c
    cards = sorted({card for row in static.values() for card in row}, key=lambda c: int(c[3:]))
    lines = ['CUDA kernels without a GPU: what nvcc says of them, what the emulator saw of their accesses, and their floors',
             f'regs, occup. (percent): {", ".join(cards) or "no nvcc"}; load, store: 32-byte sectors per request of a warp x over the '
             'fewest that could hold its bytes; banks: passes of shared memory over the fewest',
             'case: of bench-kernels, made small for the emulator; floor (us): of its step at 256x256, batch 16, on an RTX 4090 / H100 '
             'SXM (it is that of all kernels of the step together); odd: of the tests of operations', '']
    head = f'{"kernel":<58} {"threads":>7} {"shared":>6} {"spills":>6} {"regs":>7} {"occup.":>7} {"load":>11} {"store":>11} {"banks":>5}  ' \
           f'{"case":<20} {"floor":>13}'
    spills, by_file = 0, collections.defaultdict(list)
    keys = sorted(set(static) | set(cases) | set(odd), key=by_name)
    for key in keys:
        row, (case, c) = static.get(key, {}), cases.get(key, ('odd' if key in odd else '-', odd.get(key)))
        spills += sum(v[1] for v in row.values())
        threads, dynamic = (c.threads, c.shared) if c else (0, 0)
        shared = max([v[2] for v in row.values()], default=0) + dynamic
        regs = '/'.join(str(row[card][0]) for card in cards if card in row) or '-'
        occ = '/'.join(str(occupancy(card, row[card][0], threads, row[card][2] + dynamic)) for card in cards if card in row) if threads else '-'
        load, load_over, store, store_over, banks = access(c) if c else '-----'
        by_file[key[0]].append(f'{key[1]:<58} {threads or "-":>7} {shared:>6} {sum(v[1] for v in row.values()) if row else "-":>6} {regs:>7} {occ:>7} '
                               f'{load:>5}x{load_over:<5} {store:>5}x{store_over:<5} {banks:>5}  {case:<20} {floor_of(by_case.get(case, []), *key):>13}')
    for file in by_file:
        lines += [file or 'shared by several files', head] + by_file[file] + ['']
    lines.append(f'{len(keys)} kernels, {len(cases)} of them in the cases, {len(odd.keys() - cases.keys())} more in the tests, {spills} bytes spilled')
    return '\n'.join(lines) + '\n', spills


def expectations(path):
    """[(file, pattern, expected access)]: words of each line before the reason."""
    rows = []
    for number, line in enumerate(open(path), 1):
        word = line.split('#')[0].split()
        if not word:
            continue
        if len(word) != 7:
            sys.exit(f'{path}:{number}: want file, kernel, five numbers, # and a reason')
        if any(w not in ('-', '*', '1.00') for w in (word[3], word[5], word[6])) and '#' not in line:
            sys.exit(f'{path}:{number}: more than the fewest, and no reason')
        rows.append((word[0], word[1], word[2:]))
    return rows


def check(build, path):
    """Messages: what differs from the expectations. More sectors over the fewest or passes than expected by 0.02 differ, and so do sectors
    per request by 2 percent: they say how wide a thread's accesses are."""
    expected, used, wrong = expectations(path), set(), []
    for key, (case, c) in sorted(run_cases(build, {}).items(), key=lambda kv: by_name(kv[0])):
        got = access(c)
        row = next((i for i, (file, pattern, _) in enumerate(expected) if file == (key[0] or '-') and fnmatch.fnmatchcase(key[1], pattern)), None)
        line = f'{key[0] or "-":<20} {key[1]:<50} ' + ' '.join(f'{g:>5}' for g in got)
        if row is None:
            wrong.append(f'not in {path}: {line}')
            continue
        used.add(row)
        for i, (g, e) in enumerate(zip(got, expected[row][2])):
            if e == '*':
                bad = False
            elif '-' in (g, e):
                bad = g != e
            elif i in (0, 2):
                bad = abs(float(g) - float(e)) > 0.02 * float(e) + 0.005
            else:
                bad = float(g) > float(e) + 0.02
            if bad:
                wrong.append(f'{("load", "load over fewest", "store", "store over fewest", "banks")[i]} is {g}, expected {e} ({case}): {line}')
    wrong += [f'no case launches {expected[i][0]} {expected[i][1]}' for i in range(len(expected)) if i not in used]
    return wrong


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split('\n')[2][len('usage: '):])
    parser.add_argument('build')
    parser.add_argument('-o', dest='out')
    parser.add_argument('--check', metavar='FILE')
    args = parser.parse_args()
    build = os.path.abspath(args.build)
    if args.check:
        wrong = check(build, args.check)
        print('\n'.join(wrong) or 'all kernels access memory as expected')
        return 1 if wrong else 0
    text, spills = table_of(build)
    if args.out:
        with open(args.out, 'w') as f:
            f.write(text)
    else:
        sys.stdout.write(text)
    return 1 if spills else 0


if __name__ == '__main__':
    sys.exit(main())
