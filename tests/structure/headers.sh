#!/bin/bash
# headers.sh ROOT CC CXX FLAGS... - each header compiles by itself, in C11 and in C++17. Private ones (*_impl.h) are for C
# only; includes.sh sees to it that no other header shows them. CUDA's headers are the emulator's.
set -u
cd "$1" || exit 2
cc=$2 cxx=$3
shift 3
set -- -DADZE_CUSIM -isystem tests/cusim/include "$@"
failed=0
while read -r header; do
  printf '#include "%s"\n' "$header" | "$cc" -std=c11 -x c -fsyntax-only -Wall -Wextra -Werror -I. "$@" - ||
    { echo "$header does not compile alone in C"; failed=1; }
  [[ $header == *_impl.h ]] && continue
  printf '#include "%s"\n' "$header" | "$cxx" -std=c++17 -x c++ -fsyntax-only -Wall -Wextra -Werror -I. "$@" - ||
    { echo "$header does not compile alone in C++"; failed=1; }
done < <(find core cuda models datasets checkpoints eval train bench tests -name '*.h' 2>/dev/null | sort)
exit $failed
