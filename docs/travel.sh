#!/bin/sh
# A stage travels: trained here, pushed, stacked on elsewhere, and loaded again without network, to the last bit.
#
#     HF_TOKEN=... sh docs/travel.sh YOUR-NAME-ON-THE-HUB
#
# Everything stays in one folder of its own, the Hub's cache too, which is thrown away in between and at the end.
# HF_ENDPOINT names another server that speaks the Hub's protocol. tests/test_travel.py runs this script.
set -eu
me=${1:?"your name on the Hub, as in: sh docs/travel.sh you"}
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
export HF_HUB_CACHE="$here/hub" ZOO_CACHE="$here/codes"

echo "== one person trains a stage, pushes it, and tags it"
zoo train "28x28x1/conv7x7x10(width=8)" --data sample --steps 20 --out stage
zoo push stage "$me/stage" --tag v1

echo "== nothing of it is left here"
rm -rf stage hub codes

echo "== another puts a level on these very bytes, trains it, and pushes both"
python - "$me" <<'PYTHON'
import sys

import zoo

me = sys.argv[1]
stack = zoo.build(f"hub({me}/stage@v1)/fc8+wae_mmd")
print(stack.spec, "on", stack.brought.source, stack.brought.revision)
zoo.fit(stack, "sample", steps=20, out="stack")
stack.push_to_hub(f"{me}/stack", tag="v1")
PYTHON
cat > outputs.py <<'PYTHON'
import hashlib
import sys

import torch
import zoo

stack = zoo.load(sys.argv[1])
x = torch.rand(64, 1, 28, 28, generator=torch.Generator().manual_seed(0))
with torch.inference_mode():
    z = stack.encode(x)
    print(hashlib.sha256(z.numpy().tobytes() + stack.decode(z).numpy().tobytes()).hexdigest())
PYTHON
python outputs.py stack > before

echo "== fetched once, it needs no network any more, and gives the same outputs"
rm -rf stack hub codes
zoo pull "$me/stack@v1"
HF_HUB_OFFLINE=1 python outputs.py "hf-hub:$me/stack@v1" > after
cmp before after
echo "== bit-equal"
