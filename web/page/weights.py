"""weights.py CHECKPOINT MODEL: the weights of a checkpoint of the example char_lm, without moments, as the page's model file."""

import json
import sys

from safetensors import safe_open
from safetensors.numpy import save_file

with safe_open(sys.argv[1], "numpy") as checkpoint:
    model = json.loads(json.loads(checkpoint.metadata()["tidegate_checkpoint"])["note"])
    names = [name for name in checkpoint.keys() if name.startswith(("embedding.", "rnn.", "head."))]
    weights = {name: checkpoint.get_tensor(name) for name in names}
save_file(weights, sys.argv[2], {"cell": model["settings"]["cell"], "vocabulary": model["vocabulary"]})
