#!/bin/bash
# spills.sh FOLDER - what ptxas said of every kernel (FOLDER/*.ptxas.txt, kept by the build): none may spill registers, on
# any of the cards compiled for. Without nvcc there is nothing to read: skipped.
set -u
shopt -s nullglob
logs=("$1"/*.ptxas.txt)
if [ ${#logs[@]} = 0 ]; then
  echo "SKIPPED: no $1/*.ptxas.txt: the CUDA backend is not built (no nvcc, or ADZE_CUDA=off)"
  exit 77
fi
cat "${logs[@]}" | awk '
  /Compiling entry function/ { split($0, part, "\047"); name = part[2]; arch = part[4] }
  /bytes spill stores/ {
    n++
    for (i = 2; i <= NF; i++) if ($i == "bytes" && $(i + 1) == "spill") spilled += $(i - 1)
    if (spilled) { print name " spills " spilled " bytes on " arch; bad++ }
    spilled = 0
  }
  END { print n + 0 " kernels looked at, " bad + 0 " spill registers"; exit !n || bad }'
