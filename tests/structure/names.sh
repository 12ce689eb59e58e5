#!/bin/bash
# names.sh ROOT - file names are unique in the tree, and no source carries an unfinished mark.
set -u
cd "$1" || exit 2
failed=0
folders=(core cuda models datasets checkpoints eval train bench tests)
list() { find "${folders[@]}" -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' -o -name '*.def' -o -name '*.py' 2>/dev/null; }

doubles=$(list | sed 's|.*/||' | sort | uniq -d)
[ -z "$doubles" ] || { printf 'names used twice:\n%s\n' "$doubles"; failed=1; }
marks=$(list | xargs grep -nwE 'TODO|FIXME|XXX|HACK')
[ -z "$marks" ] || { printf 'unfinished:\n%s\n' "$marks"; failed=1; }
exit $failed
