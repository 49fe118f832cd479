"""The run that the example `char_lm` recorded, in PyTorch on the CPU: the same initial weights, batches, learning rates and clipping.

    python char_lm.py RECORD [CURVE.json]

RECORD is what `--record` wrote. Prints how far the two loss curves lie apart, and both as JSON into CURVE.json; exits with 1 where a
loss differs by more than 1e-3.
"""

import json
import sys
import time

import torch
from safetensors import safe_open
from torch import nn

TOLERANCE = 1e-3
NETWORKS = {
    "lstm": nn.LSTM,
    "gru": nn.GRU,
    "rnn_tanh": nn.RNN,
    "rnn_relu": lambda *sizes: nn.RNN(*sizes, nonlinearity="relu"),
}


class CharLm(nn.Module):
    def __init__(self, settings, tokens):
        super().__init__()
        self.embedding = nn.Embedding(tokens, settings["embedding"])
        self.rnn = NETWORKS[settings["cell"]](settings["embedding"], settings["hidden"], settings["layers"])
        self.head = nn.Linear(settings["hidden"], tokens)

    def forward(self, tokens, state):
        output, state = self.rnn(self.embedding(tokens), state)
        return self.head(output), state


def detached(state):
    return tuple(part.detach() for part in state) if isinstance(state, tuple) else state.detach()


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    with safe_open(sys.argv[1], "pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    settings = json.loads(metadata["model"])["settings"]
    if settings["cell"] not in NETWORKS:
        sys.exit(f"PyTorch has no `{settings['cell']}`; it has {', '.join(NETWORKS)}")
    tokens, restarts, rates, expected = (tensors.pop(name) for name in ("tokens", "restarts", "learning_rates", "losses"))

    model = CharLm(settings, tensors["head.bias"].numel())
    model.load_state_dict(tensors, strict=True)
    optimizer = torch.optim.Adam(model.parameters())
    state, losses = None, []
    since = time.perf_counter()
    for chunk, restart, rate in zip(tokens, restarts, rates):
        for group in optimizer.param_groups:
            group["lr"] = rate.item()
        logits, state = model(chunk[:-1], None if restart else detached(state))
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), chunk[1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), float(metadata["clip"]))
        optimizer.step()
        losses.append(loss.item())
    seconds = time.perf_counter() - since

    differences = [abs(ours - theirs) for ours, theirs in zip(expected.tolist(), losses)]
    worst = max(range(len(losses)), key=differences.__getitem__)
    if len(sys.argv) == 3:
        with open(sys.argv[2], "w") as out:
            json.dump({"settings": settings, "tidegate": expected.tolist(), "pytorch": losses}, out)
    speed = len(losses) * settings["seq"] * settings["batch"] / seconds
    print(
        f"{settings['cell']}: {len(losses)} steps, loss {losses[0]:.3f} to {losses[-1]:.3f}; largest difference "
        f"{differences[worst]:.2e}, at step {worst + 1}; PyTorch {torch.__version__} with {torch.get_num_threads()} threads: "
        f"{seconds:.1f} s, {speed:.0f} characters/s"
    )
    # `not (<=)`: a NaN differs.
    if not all(difference <= TOLERANCE for difference in differences):
        sys.exit(f"a loss differs by more than {TOLERANCE}")


main()
