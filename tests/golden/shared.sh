#!/bin/bash
# shared.sh GOLDEN [small] - all reference cases of this version's areas in the folder ../shared beside the source tree; what
# is kept in this folder is a part of them. small: without whole networks at full size, for builds with sanitizers. Skipped,
# exit status 77, where that folder is not.
set -u
golden=$1 size=${2:-all}
shared=../shared/golden
if [ ! -d "$shared" ]; then
  echo "SKIPPED: no reference cases at $shared" >&2
  exit 77
fi
cases=("$shared"/{images,weights,metrics,patchcore,cflow,simplenet,destseg,rd,ops}/*.json
       "$shared"/backbones/{fold,real,wide}_*.json "$shared"/backbones/resnet{18,34,50}_[0-9]*.json
       "$shared"/backbones/tf_efficientnet_lite0_*.json)
if [ "$size" = small ]; then
  for i in "${!cases[@]}"; do
    case ${cases[i]} in *-full.json | */full_* | *_256.json | *wrn*) unset "cases[i]" ;; esac
  done
fi
exec "$golden" --quiet "${cases[@]}"
