#!/bin/bash
# symbols.sh BUILD - the shared library exports adze_* and nothing else; the library neither prints to the standard
# streams nor ends the process; the evaluator carries no training code.
set -u
cd "$1" || exit 2
failed=0
complain() { [ -z "$2" ] || { printf '%s:\n%s\n' "$1" "$2"; failed=1; }; }

nm -D --defined-only lib/libadze.so >/dev/null || exit 2
complain 'libadze.so exports' "$(nm -D --defined-only lib/libadze.so | awk '{ print $NF }' | grep -v '^adze_')"

# Without these three objects and the functions that use them by themselves, nothing can reach the terminal.
forbidden='^(std(in|out|err)|v?printf|__v?printf_chk|puts|putchar|perror|psignal|exit|_exit|_Exit|quick_exit|abort)$'
complain 'libadze.a uses' "$(nm -A -u lib/libadze.a | awk -v no="$forbidden" '$NF ~ no { print $1, $NF }')"

if [ -e bin/adze-eval ]; then
  complain 'adze-eval contains' "$(nm bin/adze-eval | awk '$NF ~ /^adze_(train|optim|optimi[sz]er|schedule)_/ { print $NF }')"
fi
exit $failed
