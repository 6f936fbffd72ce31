"""Training steps a second of PyTorch on the CPU: nn.LSTM encoder and decoder, cross-entropy that ignores PAD, Adam.

    python pytorch_training.py --workload w1 [--input embedding] [--ragged [--packed]] [--threads 2] [--seconds 10]
"""

import torch
from torch import nn
from torch.nn.functional import cross_entropy, one_hot
from torch.nn.utils.rnn import pack_padded_sequence

from workloads import PAD, arguments, batches, measure, padded, report, workload


class Ids(nn.Module):
    """Ids (batch, time) to what the LSTM reads."""

    def __init__(self, vocabulary, embedding):
        super().__init__()
        self.vocabulary, self.width = vocabulary, embedding or vocabulary
        self.embedding = nn.Embedding(vocabulary, embedding, padding_idx=PAD) if embedding else None

    def forward(self, ids):
        return self.embedding(ids) if self.embedding else one_hot(ids, self.vocabulary).float()


class Seq2Seq(nn.Module):
    def __init__(self, sizes):
        super().__init__()
        self.source = Ids(sizes["source_vocabulary"], sizes["embedding"])
        self.target = Ids(sizes["target_vocabulary"], sizes["embedding"])
        stack = {"num_layers": sizes["layers"], "batch_first": True}
        self.encoder = nn.LSTM(self.source.width, sizes["hidden"], **stack)
        self.decoder = nn.LSTM(self.target.width, sizes["hidden"], **stack)
        self.dense = nn.Linear(sizes["hidden"], sizes["target_vocabulary"])

    def forward(self, source, lengths, decoder_input):
        x = self.source(source)
        if lengths is not None:
            x = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        _, state = self.encoder(x)
        y, _ = self.decoder(self.target(decoder_input), state)
        return self.dense(y)


def main():
    parser = arguments(__doc__)
    parser.add_argument("--packed", action="store_true", help="pack the sources, so that the encoder computes no padding")
    args = parser.parse_args()
    sizes = workload(args)
    torch.manual_seed(1)
    torch.set_num_threads(args.threads)
    model = Seq2Seq(sizes)
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    data = []
    for batch in batches(sizes, args.ragged):
        source, decoder_input, expected = (torch.tensor(rows) for rows in padded(batch))
        lengths = None
        if args.packed:
            # Packing wants the tokens first.
            lengths = torch.tensor([len(ids) for ids, _ in batch])
            source = torch.tensor([ids + [PAD] * (source.shape[1] - len(ids)) for ids, _ in batch])
        data.append((source, lengths, decoder_input, expected))
    losses = []

    def step(index):
        source, lengths, decoder_input, expected = data[index]
        adam.zero_grad(set_to_none=True)
        logits = model(source, lengths, decoder_input)
        loss = cross_entropy(logits.flatten(0, 1), expected.flatten(), ignore_index=PAD)
        loss.backward()
        adam.step()
        losses.append(loss.item())

    speeds = measure(step, args.seconds)
    report(args, sizes, f"PyTorch {torch.__version__.split('+')[0]}", speeds, losses, packed=args.packed)


if __name__ == "__main__":
    main()
