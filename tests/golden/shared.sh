#!/bin/bash
# shared.sh GOLDEN - all reference cases of this version's areas in the folder ../shared beside the source tree; what is
# kept in this folder is a part of them. Skipped, exit status 77, where that folder is not.
set -u
golden=$1
shared=../shared/golden
if [ ! -d "$shared" ]; then
  echo "SKIPPED: no reference cases at $shared" >&2
  exit 77
fi
exec "$golden" --quiet "$shared"/images/*.json "$shared"/weights/*.json "$shared"/metrics/*.json "$shared"/{patchcore,cflow,simplenet,destseg}/*.json \
  "$shared"/backbones/{fold,real,wide}_*.json "$shared"/backbones/resnet{18,34,50}_[0-9]*.json \
  "$shared"/backbones/tf_efficientnet_lite0_*.json "$shared"/ops/*.json
