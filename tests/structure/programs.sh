#!/bin/bash
# programs.sh BIN - what every program owes its user: a help page that fits, a version, results on stdout and messages on
# stderr, exit status 2 for a wrong option, and a quick start.
set -u
cd "$1" || exit 2
failed=0
complain() { echo "$*"; failed=1; }
err=$(mktemp)
trap 'rm -f "$err"' EXIT

# Milliseconds that the fastest of ten starts computes: by the clock it would be at the mercy of a busy machine.
start_ms() {
  local TIMEFORMAT='%3U %3S'
  for _ in 1 2 3 4 5 6 7 8 9 10; do
    { time "./$1" --version >/dev/null 2>&1; } 2>&1
  done | awk '{ ms = ($1 + $2) * 1000; if (NR == 1 || ms < best) best = ms } END { print int(best) }'
}

for program in adze-*; do
  [ -x "$program" ] || continue
  help=$("./$program" --help 2>"$err") || complain "$program --help: exit status $?"
  [[ $help == usage:* ]] || complain "$program --help does not begin with its usage"
  [ -s "$err" ] && complain "$program --help writes to stderr"
  wide=$(awk 'length($0) > 80' <<<"$help")
  [ -z "$wide" ] || complain "$program --help is wider than 80 columns: $wide"
  version=$("./$program" --version 2>/dev/null) || complain "$program --version: exit status $?"
  [[ $version == "$program "[0-9]* ]] || complain "$program --version says '$version'"
  out=$("./$program" --helq 2>"$err")
  code=$?
  [ $code = 2 ] || complain "$program --helq: exit status $code, want 2"
  [ -z "$out" ] || complain "$program --helq writes to stdout"
  grep -q "^$program: .*did you mean '--help'" "$err" || complain "$program --helq says: $(cat "$err")"
  # A sanitizer's start is its own business.
  if ! nm "$program" | grep -q __asan_init; then
    took=$(start_ms "$program")
    [ "$took" -lt 50 ] || complain "$program takes $took ms to start, want less than 50"
  fi
done
exit $failed
