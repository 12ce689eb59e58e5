#!/bin/bash
# coverage.sh ROOT OBJECTS GCOV - line coverage of the .cu and .cuh files of cuda/, summed over everything that ran on the
# emulator since it was built; at least 95 % of the lines, and every kernel. Fewest covered first. Without data: skipped.
set -u
root=$1 objects=$2 gcov=$3
want=95
cd "$root" || exit 2
mapfile -t data < <(find "$objects" -name '*.cu.gcda' 2>/dev/null | sort)
if [ ${#data[@]} = 0 ]; then
  echo "SKIPPED: no data below $objects; run the tests of cuda/ first"
  exit 77
fi
failed=0
for file in cuda/*.cu; do
  [[ " ${data[*]} " == *"/$file.gcda "* ]] || { echo "$file is not part of the emulated backend"; failed=1; }
done
lines=$(mktemp)
trap 'rm -f "$lines"' EXIT

# FILE LINE COUNT of each executable line; templates and headers come several times.
"$gcov" -t "${data[@]}" 2>/dev/null | awk -F: -v root="$root/" '
  $3 == "Source" { file = $4; sub("^" root, "", file) }
  file ~ /^cuda\/[a-z0-9_]+\.cuh?$/ && $2 + 0 > 0 && $1 !~ /-/ { count = $1; gsub(/[ *]/, "", count); print file, $2 + 0, (count ~ /^[#=]/ ? 0 : 1) }
' | sort -u -k1,1 -k2,2n -k3,3nr | awk '!seen[$1, $2]++' >"$lines"

awk -v want=$want '
  { n[$1]++; all++; if ($3) { hit[$1]++; ok++ } else missed[$1] = missed[$1] " " $2 }
  END {
    if (!all) { print "no lines"; exit 1 }
    for (file in n) {
      share = 100 * hit[file] / n[file]
      printf "%6.2f %% %4d of %4d lines  %s%s\n", share, hit[file], n[file], file, missed[file] ? "  not:" missed[file] : "" | "sort -n"
    }
    close("sort -n")
    printf "%6.2f %% %d of %d lines of cuda/, want %d %%\n", 100 * ok / all, ok, all, want
    exit 100 * ok < want * all
  }' "$lines" || failed=1

# A kernel has run if the first executable line from its name on has.
total=0
while read -r file line name; do
  total=$((total + 1))
  awk -v file="$file" -v line="$line" '$1 == file && $2 >= line { ok = $3; exit } END { exit !ok }' "$lines" ||
    { echo "$file:$line: $name has not run"; failed=1; }
done < <(awk '
  /__global__/ { looking = 1 }
  looking && match($0, /[a-z0-9_]+_kernel *\(/) {
    name = substr($0, RSTART, RLENGTH - 1)
    sub(/ +$/, "", name)
    print FILENAME, FNR, name
    looking = 0
  }' $(find cuda -name '*.cu' -o -name '*.cuh' | sort))
[ $total -gt 0 ] || { echo "no kernels found"; failed=1; }
[ $failed = 0 ] && echo "all $total kernels of cuda/ have run"
exit $failed
