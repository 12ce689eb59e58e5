#!/bin/bash
# includes.sh ROOT - who includes whom: our folders by the arrows of the layers, each library in its own corner.
set -u
cd "$1" || exit 2
failed=0

sources() { find "$@" -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' -o -name '*.def' 2>/dev/null | sort; }

# FILE:LINE:#include ... of the given files
includes() { [ $# -eq 0 ] || grep -HnE '^ *# *include' "$@"; }

complain() { # RULE; offending lines on stdin
  local lines
  lines=$(cat)
  [ -z "$lines" ] && return
  printf '%s:\n%s\n' "$1" "$lines"
  failed=1
}

# FOLDER may include ours only from FOLDERS (a|b|c).
layer() {
  local folder=$1 allowed=$2
  [ -d "$folder" ] || return
  mapfile -t files < <(sources "$folder")
  complain "$folder/ may include only $allowed" < <(includes "${files[@]}" | grep '"' | grep -vE "\"($allowed)/")
}
layer core 'core'
layer cuda 'core|cuda'
layer models 'core|models'
layer datasets 'core|datasets'
layer checkpoints 'core|checkpoints'
layer eval 'core|datasets|checkpoints|models|eval'
layer train 'core|datasets|checkpoints|models|eval|train'
layer bench 'core|cuda|datasets|checkpoints|models|eval|train|bench|tests/golden' # its checks use the case tensors

mapfile -t metrics < <(sources eval | grep -E '^eval/(aupro|curve|label|loop_aupro|metrics|pixel_|rank_|strips|thresholded)')
complain 'the metrics of eval/ see only core/' < <(includes "${metrics[@]}" | grep '"' | grep -vE '"(core|eval)/')

mapfile -t public < <(sources core cuda models datasets checkpoints eval train bench | grep '\.h$' | grep -v '_impl\.h$')
complain 'private headers are for sources only' < <(includes "${public[@]}" | grep '_impl\.h"')

# HEADERS (a regular expression) may be included only below FOLDERS (another one).
mapfile -t all < <(sources core cuda models datasets checkpoints eval train bench)
corner() {
  complain "<$1> belongs into $2" < <(includes "${all[@]}" | grep -E "<$1>" | grep -vE "^($2)")
}
corner '(hdf5|H5[A-Za-z]*)\.h' 'checkpoints/'
corner 'zlib\.h' 'checkpoints/'
corner '(png|spng|jpeglib|jerror|jmorecfg|turbojpeg)\.h' 'datasets/'
corner '(oneapi/dnnl/)?dnnl[a-z_]*\.h' 'core/cpu/'
corner '(cblas|lapacke)\.h' 'core/'
corner 'yaml\.h' 'core/options_file\.c'
corner '(cuda|cudnn|cublas|nccl|nvtx|curand)[A-Za-z_0-9/]*\.h' 'cuda/'
exit $failed
