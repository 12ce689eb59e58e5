#!/usr/bin/env python3
"""scores.py - PatchCore from pictures to metrics against reference scores on the same pictures.

For each class of the data folders: adze-train and adze-eval with the reference's own projection and starting rows
(draw=named), seed by seed, then with adze's random numbers (draw=philox). Asked of the first: the same first picks and
every score within 0.0005. Asked of the second: the mean over the seeds within three standard deviations of the reference's
mean, at least 0.01. Prints a table; exit 1 if a bar is missed, 3 for missing input, 4 without h5dump (hdf5-tools).

    bench/scores.py --data ../shared/data/surfaces --data ../shared/data/elcells --weights resnet18.h5
"""
import argparse
import json
import os
import re
import shutil
import sys
import tempfile
import time

from scoring import ROOT, die, machine, run

BAR = 0.0005          # same random numbers
OWN_SIGMAS, OWN_LEAST = 3.0, 0.01  # other random numbers
KEYS = {  # the reference's name: ours. Image metrics there use the folder's label.
    'image_auroc': 'image_auroc_file',
    'image_ap': 'image_ap_file',
    'image_f1max': 'image_f1_max_file',
    'image_auroc_mask_labels': 'image_auroc',
    'pixel_auroc': 'pixel_auroc',
    'pixel_ap': 'pixel_ap',
    'pixel_f1max': 'pixel_f1_max',
    'aupro_exact_0.3': 'aupro',
    'aupro_strips_50': 'aupro_strips',
    'pixel_auroc_strips_50': 'pixel_auroc_ader',
    'pixel_ap_strips_50': 'pixel_ap_ader',
}


def first_picks(checkpoint, n):
    """The first n rows that greedy k-center picked, out of the checkpoint itself."""
    text = run('h5dump', '-d', '/memory_bank/coreset_index', '-c', str(n), '-w', '0', '-y', checkpoint)
    return [int(x) for x in re.search(r'DATA \{([0-9,\s]*)\}', text).group(1).split(',')]


def train_and_score(args, folder, classes, draw, seed):
    """{class: metrics}, {class: checkpoint} of one seed."""
    out = os.path.join(args.work, f'{os.path.basename(folder)}-{args.coreset}-{draw}{seed}')
    common = ['--data', folder, '--class', ','.join(classes), '--force', '--log', 'quiet']
    run(f'{args.bin}/adze-train', '--method', 'patchcore', '--backbone', 'resnet18', '--weights', args.weights,
        '--out', f'{out}/run', '--seed', str(seed), '--set', f'draw={draw}', '--set', 'drop_last=no',
        '--set', f'coreset={args.coreset}', *common)
    run(f'{args.bin}/adze-eval', '--model', f'{out}/run', '--out', f'{out}/result', '--heatmaps=no', *common)
    with open(f'{out}/result/metrics.json', encoding='utf-8') as file:
        metrics = json.load(file)['classes']
    return metrics, {c: f'{out}/run/{c}/model.h5' for c in classes}


def compared(reference, metrics):
    """(name, reference, ours) of every score that both have."""
    return [(name, reference[name], metrics[ours]) for name, ours in KEYS.items()
            if name in reference and metrics.get(ours) is not None]


def same_numbers(args, folder, classes, reference):
    """One row per class and seed; number of rows that miss the bar."""
    missed = 0
    seeds = sorted({s for c in classes for s in reference[c] if s.startswith('seed')})
    for seed in seeds:
        here = [c for c, name in classes.items() if seed in reference[c]]
        metrics, checkpoint = train_and_score(args, folder, here, 'named', int(seed[4:]))
        for c in here:
            want = reference[c][seed]
            pairs = compared(want, metrics[c])
            name, is_, got = max(pairs, key=lambda p: abs(p[2] - p[1]))
            picks = first_picks(checkpoint[c], len(want['first_picks']))
            same = sum(a == b for a, b in zip(picks, want['first_picks']))
            ok = abs(got - is_) <= BAR and picks == want['first_picks']
            missed += not ok
            values = dict((n, g) for n, _, g in pairs)
            shown = ' '.join(f'{values[n]:9.6f}' if n in values else '        -'
                             for n in ('image_auroc', 'pixel_auroc', 'aupro_exact_0.3'))
            print(f'{classes[c]:18} {seed[4:]:>4} {shown}  {same:2}/{len(picks)}  {abs(got - is_):.1e} {name:24}'
                  f'{"ok" if ok else "MISSED"}', flush=True)
    return missed


def own_numbers(args, folder, classes, reference):
    """One row per class; number of rows that miss the bar."""
    missed = 0
    runs = [train_and_score(args, folder, list(classes), 'philox', seed)[0] for seed in range(args.own_seeds)]
    for c in classes:
        mean, std = reference[c]['mean'], reference[c].get('std', {})
        worst = None
        shown = {}
        for name, is_, _ in compared(mean, runs[0][c]):
            got = sum(r[c][KEYS[name]] for r in runs) / len(runs)
            bar = max(OWN_SIGMAS * std.get(name, 0.0), OWN_LEAST)
            shown[name] = got
            if worst is None or abs(got - is_) / bar > worst[0]:
                worst = abs(got - is_) / bar, name, abs(got - is_), bar
        ok = worst[0] <= 1.0
        missed += not ok
        values = ' '.join(f'{shown[n]:9.6f}' if n in shown else '        -'
                          for n in ('image_auroc', 'pixel_auroc', 'aupro_exact_0.3'))
        print(f'{classes[c]:18} {"mean":>4} {values}         {worst[2]:.4f}  {worst[1]:24}'
              f'{"ok" if ok else "MISSED"}, bar {worst[3]:.4f}', flush=True)
    return missed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', action='append', required=True, help='folder of a data set; repeatable')
    parser.add_argument('--weights', required=True, help="resnet18's weights, made by adze-weights import")
    parser.add_argument('--reference', default=f'{ROOT}/../shared/golden/scores/patchcore-resnet18.json')
    parser.add_argument('--coreset', default='0.01', choices=['0.01', '0.1'])
    parser.add_argument('--part', default='both', choices=['both', 'same', 'own'], help='which random numbers')
    parser.add_argument('--own-seeds', type=int, default=3, help='seeds with own random numbers')
    parser.add_argument('--bin', default=f'{ROOT}/build/bin')
    parser.add_argument('--work', help='keep checkpoints and results in this folder')
    args = parser.parse_args()
    if not shutil.which('h5dump'):
        die(4, 'h5dump is missing: apt-get install hdf5-tools')
    for path in (args.weights, args.reference, *args.data):
        if not os.path.exists(path):
            die(3, f'{path}: no such file or folder')
    with open(args.reference, encoding='utf-8') as file:
        categories = json.load(file)['categories']
    temporary = None
    if not args.work:
        temporary = tempfile.TemporaryDirectory()
        args.work = temporary.name
    start, missed = time.monotonic(), 0
    print(f'PatchCore, resnet18, 256x256, coreset {args.coreset}, against {os.path.basename(args.reference)}')
    print(f'machine: {machine()}')
    work = []
    for folder in map(os.path.normpath, args.data):
        prefix = os.path.basename(folder) + '/'
        classes = {n[len(prefix):]: n for n in categories if n.startswith(prefix)}
        if not classes:
            die(3, f'{args.reference} has no class of {folder}')
        work.append((folder, classes, {c: categories[n][f'fraction_{args.coreset}'] for c, n in classes.items()}))
    head = f'{"class":18} {"seed":>4} {"I-AUROC":>9} {"P-AUROC":>9} {"AUPRO":>9}'
    if args.part != 'own':
        print(f'\nthe reference\'s random numbers; bar {BAR} for each of {len(KEYS)} scores, and the same first picks\n'
              f'{head}  picks  largest difference')
        for item in work:
            missed += same_numbers(args, *item)
    if args.part != 'same':
        print(f'\nown random numbers, mean over {args.own_seeds} seeds; bar {OWN_SIGMAS:g} standard deviations of the reference, '
              f'at least {OWN_LEAST}\n{head}         difference nearest to its bar')
        for item in work:
            missed += own_numbers(args, *item)
    if temporary:
        temporary.cleanup()
    print(f'\n{"all bars kept" if missed == 0 else f"{missed} rows MISSED"}; {time.monotonic() - start:.0f} s in all')
    sys.exit(1 if missed else 0)


if __name__ == '__main__':
    main()
