#!/usr/bin/env python3
"""cuda_static.py - what is known of each CUDA kernel without a GPU, as a table.

usage: bench/cuda_static.py BUILD [-o FILE] [--] [COMMAND...]

From nvcc's log (BUILD/cuda/*.ptxas.txt): registers, spilled bytes, static shared memory per card. From the emulator, which
runs COMMAND (default: the tests of all operations): threads per block, 32-byte sectors per request of a warp beside the
fewest that its bytes need, passes per access of shared memory (1: no bank conflicts). Occupancy is computed from
registers, threads and shared memory. Shapes of the tests are small and odd: short rows need more sectors than long ones.
"""
import argparse
import collections
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
    return re.sub(r'\(int\)|\(bool\)', '', name.split('(const ')[0]).split('(')[0].strip()


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


def counted(build, commands):
    """{(file, kernel): counts}: of the emulator, over all commands."""
    table = {}
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'counts')
        env = dict(os.environ, ADZE_CUSIM_COUNTS=path, ADZE_TEST_DEVICE='cusim', ADZE_BACKEND_PATH=os.path.join(build, 'lib'))
        for command in commands:
            done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True)
            if done.returncode != 0:
                sys.exit(f'{" ".join(command)}: exit status {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}')
        known = {}
        for line in open(path) if os.path.exists(path) else []:
            library, offset, kernel, launches, threads, shared, *rest = line.rstrip('\n').split('\t')
            if library not in known:
                known[library] = symbols(library)
            key = known[library].get(int(offset), (None, kernel))
            old = table.setdefault(key, [0, 0, 0] + [0] * len(rest))
            new = [int(v) for v in (launches, threads, shared, *rest)]
            most = (1, 2, len(new) - 1)  # threads, shared, worst conflict: not summed
            table[key] = [max(a, b) if i in most else a + b for i, (a, b) in enumerate(zip(old, new))]
    return table


def occupancy(card, registers, threads, shared):
    warps, blocks, kib = CARDS[card]
    per_block = -(-threads // 32)
    by_registers = 65536 // (-(-registers * 32 // 256) * 256) // per_block if registers else blocks
    by_shared = kib * 1024 // (shared + 1024)
    return 100 * per_block * min(blocks, warps // per_block, by_registers, by_shared) // warps


def ratio(a, b):
    return f'{a / b:.2f}' if b else '-'


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split('\n')[2][len('usage: '):])
    parser.add_argument('build')
    parser.add_argument('-o', dest='out')
    parser.add_argument('command', nargs='*')
    args = parser.parse_args()
    build = os.path.abspath(args.build)
    commands = [args.command] if args.command else [[f'{build}/tests/{t}'] for t in ('test_ops', 'test_ops_train', 'test_device_calls')]
    static, counts = ptxas(os.path.join(build, 'cuda')), counted(build, commands)
    cards = sorted({card for row in static.values() for card in row}, key=lambda c: int(c[3:]))

    lines = ['CUDA kernels without a GPU: nvcc\'s words, and what the emulator saw in '
             + ' '.join(os.path.relpath(w, build) if w.startswith('/') else w for c in commands for w in c),
             'regs, occupancy in percent: ' + ', '.join(cards or ['no nvcc']) + '; load, store: sectors per request / fewest possible; '
             'shared: passes per access, and the worst', '']
    head = f'{"kernel":<64} {"threads":>7} {"shared":>7} {"spills":>6} {"regs":>9} {"occup.":>9} {"load":>12} {"store":>12} {"shared":>10}'
    spills = kernels = 0
    by_file = collections.defaultdict(list)
    for key in sorted(set(static) | set(counts), key=lambda k: (k[0] or '', k[1])):
        row, c = static.get(key, {}), counts.get(key)
        kernels += 1
        spilled = sum(v[1] for v in row.values())
        spills += spilled
        threads, dynamic = (c[1], c[2]) if c else (0, 0)
        shared = max([v[2] for v in row.values()], default=0) + dynamic
        regs = '/'.join(str(row[card][0]) for card in cards if card in row) or '-'
        occ = '/'.join(str(occupancy(card, row[card][0], threads, row[card][2] + dynamic)) for card in cards if card in row) \
            if threads else ''
        load = store = bank = '-'
        if c:
            load = f'{ratio(c[4], c[3])}/{ratio(c[5] / 32, c[3])}'
            store = f'{ratio(c[7], c[6])}/{ratio(c[8] / 32, c[6])}'
            bank = f'{ratio(c[10], c[11])} {c[12]}' if c[9] else '-'
        by_file[key[0]].append(f'{key[1]:<64} {threads or "-":>7} {shared:>7} {spilled if row else "-":>6} {regs:>9} {occ or "-":>9} '
                               f'{load:>12} {store:>12} {bank:>10}')
    for file in by_file:
        lines += [f'{file or "shared by several files"}', head] + by_file[file] + ['']
    lines.append(f'{kernels} kernels, {len(counts)} run on the emulator, {spills} bytes spilled')
    text = '\n'.join(lines) + '\n'
    if args.out:
        with open(args.out, 'w') as f:
            f.write(text)
    else:
        sys.stdout.write(text)
    return 1 if spills else 0


if __name__ == '__main__':
    sys.exit(main())
