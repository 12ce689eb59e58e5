"""scoring.py - what the programs that compare scores have in common: running ours, ending, naming the machine."""
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def die(code, text):
    print(f'{os.path.basename(sys.argv[0])}: {text}', file=sys.stderr)
    sys.exit(code)


def run(*command):
    """Its standard output; ends with its exit status if that is not 0."""
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if result.returncode != 0:
        die(result.returncode, f'{" ".join(command)}\n{result.stderr}')
    return result.stdout


def machine():
    lines = dict(line.split(':', 1) for line in run('lscpu').splitlines() if ':' in line)
    return f'{lines["Model name"].strip()}, {os.cpu_count()} processors'
