"""Trains the model of a folder on pairs, on one device or on several, here or on several machines:

    python train.py pairs.tsv --dev dev.tsv -o trained
    torchrun --nproc-per-node 2 train.py pairs.tsv --dev dev.tsv -o trained

Each process takes its share of the batches; a GPU each where there are some, else a CPU each. The best weights by the
loss on --dev lie in the folder -o, which `s2s import pytorch` reads.
"""

import argparse
import os
import random
import shutil
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils.rnn import pad_sequence

from model import Seq2Seq
from texts import END, PAD, START, read_pairs

HERE = Path(__file__).resolve().parent
BESIDE = ["config.json", "source.json", "target.json", "mapping.yaml"]
BESIDE += ["model.py", "layers.py", "texts.py", "train.py", "README.md"]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path, help="source, tab, target a line; or .csv, or .jsonl")
    parser.add_argument("--dev", type=Path, required=True, help="pairs whose loss chooses the weights")
    parser.add_argument("-o", "--output", type=Path, required=True, help="a folder for the best weights")
    parser.add_argument("--start", type=Path, default=HERE, help="the folder whose weights training starts from")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--tokens", type=int, default=4096, help="of a step's batches, padding counted, on both sides")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--weight-decay", type=float, default=0.01)
    parser.add_argument("--clip", type=float, default=1.0, help="bound on the norm of all gradients")
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--label-smoothing", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", help="cpu or cuda, by default what there is")
    return parser.parse_args()


def encoded(model, file):
    """Ids of each pair: the source, and the target between START and END."""
    pairs = read_pairs(file)
    return [(model.source.encode(s), [START, *model.target.encode(t), END]) for s, t in pairs]


def cut(pairs, most, order=None):
    """Batches of pairs of about the same length, of at most so many tokens with padding."""
    pairs = list(pairs)
    if order:
        order.shuffle(pairs)
    batches = []
    # Sorted within stretches, so that batches differ from epoch to epoch.
    for stretch in (pairs[i : i + 10_000] for i in range(0, len(pairs), 10_000)):
        batch, longest = [], [0, 0]
        for pair in sorted(stretch, key=lambda pair: (len(pair[1]), len(pair[0]))):
            longer = [max(longest[side], len(pair[side])) for side in (0, 1)]
            if batch and (len(batch) + 1) * sum(longer) > most:
                batches.append(batch)
                batch, longer = [], [len(pair[0]), len(pair[1])]
            batch.append(pair)
            longest = longer
        batches.append(batch)
    if order:
        order.shuffle(batches)
    return batches


def tensors(batch, device):
    """Sources, what the decoder reads, and what it should say, (pairs, time) each."""
    rows = [[pair[0] for pair in batch], [pair[1][:-1] for pair in batch], [pair[1][1:] for pair in batch]]
    return [pad_sequence([torch.tensor(ids or [PAD]) for ids in side], batch_first=True).to(device) for side in rows]


def nats(logits, wanted, smoothing=0.0):
    """The sum over the target's tokens."""
    return F.cross_entropy(logits.transpose(1, 2), wanted, ignore_index=PAD, reduction="sum", label_smoothing=smoothing)


def summed(*numbers, device):
    """The sums over all processes."""
    total = torch.tensor(numbers, dtype=torch.float64, device=device if device.type == "cuda" else "cpu")
    if dist.is_initialized():
        dist.all_reduce(total)
    return total.tolist()


@torch.no_grad()
def dev_loss(model, batches, device, rank, world):
    """Nats a token."""
    model.eval()
    total = tokens = 0
    for batch in batches[rank::world]:
        source, read, wanted = tensors(batch, device)
        total += nats(model(source, read), wanted).item()
        tokens += (wanted != PAD).sum().item()
    total, tokens = summed(total, tokens, device=device)
    return total / tokens


def main():
    args = arguments()
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    kind = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(kind, int(os.environ.get("LOCAL_RANK", 0)) if kind == "cuda" else None)
    if kind == "cuda":
        torch.cuda.set_device(device)
    if world > 1:
        dist.init_process_group("nccl" if kind == "cuda" else "gloo")
    torch.manual_seed(args.seed + rank)
    model = Seq2Seq.load(args.start).to(device)
    model.dropout.p = args.dropout
    train, dev = encoded(model, args.pairs), cut(encoded(model, args.dev), args.tokens)
    parallel = DistributedDataParallel(model, [device] if kind == "cuda" else None) if world > 1 else model
    optimiser = torch.optim.AdamW(model.parameters(), args.learning_rate, weight_decay=args.weight_decay)
    order = random.Random(args.seed)  # the same in every process

    best = dev_loss(model, dev, device, rank, world)
    if rank == 0:
        print(f"before: dev loss {best:.6f} nats a token", flush=True)
    for epoch in range(1, args.epochs + 1):
        model.train()
        batches = cut(train, args.tokens, order)
        batches += batches[: -len(batches) % world]  # as many steps in every process
        total = tokens = 0
        for batch in batches[rank::world]:
            source, read, wanted = tensors(batch, device)
            (count,) = summed((wanted != PAD).sum().item(), device=device)
            logits = parallel(source, read)
            # The mean over the tokens of all processes; their gradients will be averaged.
            loss = nats(logits, wanted, args.label_smoothing) * world / count
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), args.clip)
            optimiser.step()
            total, tokens = total + loss.item() * count / world, tokens + (wanted != PAD).sum().item()
        total, tokens = summed(total, tokens, device=device)
        now = dev_loss(model, dev, device, rank, world)
        if rank == 0:
            print(f"epoch {epoch}: loss {total / tokens:.6f}, dev loss {now:.6f}{' *' * (now < best)}", flush=True)
            if now < best:
                save(model, args.start, args.output)
        best = min(best, now)
    if dist.is_initialized():
        dist.destroy_process_group()


def save(model, start, output):
    """Puts the weights, and what belongs to them, into a folder; a file is whole or not there."""
    output.mkdir(parents=True, exist_ok=True)
    for name in BESIDE:
        if start.resolve() != output.resolve() and (start / name).exists():
            shutil.copy(start / name, output / name)
    model.save(output / "model.safetensors.part")
    os.replace(output / "model.safetensors.part", output / "model.safetensors")


if __name__ == "__main__":
    main()
