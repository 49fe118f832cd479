"""The run that the example `classify` recorded, in PyTorch on the CPU: the same initial weights, batches, learning rates and clipping.

    python classify.py RECORD [--data DIR] [--expected FILE]

RECORD is what `--record` wrote, DIR the folder that it was trained on. Trains in float64 and in float32 and prints how far the losses lie
apart, and all accuracies. Training amplifies what rounding leaves: so losses count up to the step where PyTorch's own float32 is off
float64 by more than 1e-6, and until then the recorded ones must lie within 1e-4 of float64, else the exit code is 1. `--expected` writes
what came out in float64 as safetensors: `losses` [N] and `test_losses` [epochs] F64, `right` [epochs] I32, and the settings as metadata.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence

PARTED = 1e-6
TOLERANCE = 1e-4
ROOT = Path(__file__).resolve().parents[2]
NETWORKS = {
    "lstm": nn.LSTM,
    "gru": nn.GRU,
    "rnn_tanh": nn.RNN,
    "rnn_relu": lambda *sizes, **options: nn.RNN(*sizes, nonlinearity="relu", **options),
}


class Classifier(nn.Module):
    def __init__(self, settings, channels, classes):
        super().__init__()
        self.rnn = NETWORKS[settings["cell"]](channels, settings["hidden"], settings["layers"], bidirectional=True)
        self.head = nn.Linear(2 * settings["hidden"], classes)

    def forward(self, sequences):
        lengths = torch.tensor([len(sequence) for sequence in sequences])
        _, state = self.rnn(pack_padded_sequence(pad_sequence(sequences), lengths, enforce_sorted=False))
        h = state[0] if isinstance(state, tuple) else state
        return self.head(torch.cat([h[-2], h[-1]], dim=1))


def read(path):
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()


def sequences(path, dtype):
    tensors, metadata = read(path)
    frames = tensors["frames"].to(dtype).split(tensors["lengths"].tolist())
    return frames, tensors["labels"].long(), len(json.loads(metadata["classes"]))


def judge(model, frames, labels, batch):
    """The mean loss, and which class each is taken for."""
    with torch.no_grad():
        logits = torch.cat([model(frames[at : at + batch]) for at in range(0, len(frames), batch)])
        return nn.functional.cross_entropy(logits, labels).item(), logits.argmax(dim=1)


def train(weights, order, rates, settings, clip, folder, dtype):
    """Losses of all steps; losses and classes of the held-out sequences after each epoch; seconds of the steps alone."""
    frames, labels, classes = sequences(folder / "train.safetensors", dtype)
    tests, test_labels, _ = sequences(folder / "test.safetensors", dtype)
    model = Classifier(settings, frames[0].shape[1], classes)
    model.load_state_dict(weights, strict=True)
    model.to(dtype)
    optimizer = torch.optim.Adam(model.parameters())
    losses, test_losses, predicted, seconds = [], [], [], 0.0
    for epoch in order:
        since = time.perf_counter()
        for chosen in epoch.split(settings["batch"]):
            for group in optimizer.param_groups:
                group["lr"] = rates[len(losses)].item()
            loss = nn.functional.cross_entropy(model([frames[at] for at in chosen]), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            losses.append(loss.item())
        seconds += time.perf_counter() - since
        test_loss, found = judge(model, tests, test_labels, settings["batch"])
        test_losses.append(test_loss)
        predicted.append(found)
    curves = [torch.tensor(curve, dtype=torch.float64) for curve in (losses, test_losses)]
    return *curves, torch.stack(predicted), test_labels, seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record")
    parser.add_argument("--data", type=Path, default=ROOT / "tests/fixtures/japanese_vowels")
    parser.add_argument("--expected")
    args = parser.parse_args()

    tensors, metadata = read(args.record)
    settings, clip = json.loads(metadata["settings"]), float(metadata["clip"])
    if settings["cell"] not in NETWORKS:
        sys.exit(f"PyTorch has no `{settings['cell']}`; it has {', '.join(NETWORKS)}")
    names = ("order", "learning_rates", "losses", "test_losses", "predicted")
    order, rates, losses, test_losses, predicted = (tensors.pop(name) for name in names)
    # More threads only wait for each other on a model this small.
    torch.set_num_threads(1)
    given = (tensors, order, rates, settings, clip, args.data)
    truth, test_truth, truly_predicted, labels, _ = train(*given, torch.float64)
    narrow, _, narrowly_predicted, _, seconds = train(*given, torch.float32)

    if args.expected:
        right = (truly_predicted == labels).sum(dim=1).to(torch.int32)
        tensors = {"losses": truth, "test_losses": test_truth, "right": right}
        save_file(tensors, args.expected, metadata={"settings": metadata["settings"]})
    off, narrow_off, test_off = (losses - truth).abs(), (narrow - truth).abs(), (test_losses - test_truth).abs()
    # `not (<=)`: a NaN differs.
    parted = next((at for at, difference in enumerate(narrow_off.tolist()) if not difference <= PARTED), len(truth))
    right = [(classes[-1] == labels).sum().item() for classes in (predicted, narrowly_predicted, truly_predicted)]
    speeds = [order.numel() / time for time in (float(metadata["seconds"]), seconds)]
    print(
        f"{settings['cell']}, seed {settings['seed']}: {len(truth)} steps, loss {truth[0]:.3f} to {truth[-1]:.4f}\n"
        f"  off float64: {off[:parted].max():.1e} in the first {parted} steps, {off.max():.1e} in all, held-out {test_off.max():.1e}; "
        f"PyTorch's float32: {narrow_off[:parted].max():.1e}, {narrow_off.max():.1e}\n"
        f"  right of {len(labels)}: {right[0]}; PyTorch {right[1]} in float32, {right[2]} in float64\n"
        f"  sequences/s: {speeds[0]:.0f}; PyTorch {torch.__version__} in float32 on one thread {speeds[1]:.0f}"
    )
    wrong = [at for at, difference in enumerate(off[:parted].tolist()) if not difference <= TOLERANCE]
    if parted == 0 or wrong:
        sys.exit(f"the loss of step {wrong[0] + 1 if wrong else 1} differs by more than {TOLERANCE}")


main()
