# toy.sh - for the tests of whole programs, sourced with BIN MAKE_WEIGHTS as arguments: an empty folder to work in, a small
# data set `toy` with the classes product_01 and product_02, weights of two backbones, and what a test says.
set -u
bin=$1 make_weights=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
chmod 755 "$work" # other users look in as well
export XDG_CACHE_HOME=$work/no-cache HOME=$work
PATH=$bin:$PATH
failed=0

complain() { printf '%s\n' "$*"; failed=1; }

# expect STATUS OUTPUT-PATTERN COMMAND... - a sanitizer's finding never passes, whatever is expected.
expect() {
  local status=$1 pattern=$2 out code
  shift 2
  out=$("$@" 2>&1)
  code=$?
  [ $code = "$status" ] && [[ $out == $pattern && $out != *Sanitizer* && $out != *"runtime error"* ]] && return
  complain "$*"$'\n'"  gave $code: $out"$'\n'"  want $status: $pattern"
}
same() { # FILE FILE
  cmp -s "$1" "$2" || complain "$1 and $2 differ"
}
differ() {
  ! cmp -s "$1" "$2" || complain "$1 and $2 are the same"
}
nothing_half() { # FOLDER
  local left
  left=$(find "$1" -name '*.tmp*')
  [ -z "$left" ] || complain "half-written files are left: $left"
}

adze-data synth toy --classes 2 --train 6 --test-good 3 --test-bad 4 --size 64 --log quiet >/dev/null || exit 1
for backbone in resnet18 efficientnet_lite0; do
  "$make_weights" $backbone >$backbone.safetensors &&
    adze-weights import $backbone.safetensors --as $backbone -o $backbone.h5 >/dev/null 2>&1 || exit 1
done
model=(--method patchcore --backbone resnet18 --weights resnet18.h5 --size 64 --set coreset=0.2)
