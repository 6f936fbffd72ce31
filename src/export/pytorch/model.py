"""A recurrent encoder-decoder that s2s exported, in plain PyTorch; config.json says which one.

    model = Seq2Seq.load(".").eval()
    print(model.translate(["some text", "another"]))

Ids: 0 pads, 1 starts a target, 2 ends it, 3 is unknown. Texts of a batch are padded on the right.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from layers import BRIDGES, run, table
from texts import END, PAD, START, Vocabulary


class Seq2Seq(nn.Module):
    def __init__(self, config, source, target):
        super().__init__()
        self.config, self.source, self.target = config, source, target
        is_lstm, both_ways = config["cell"] == "lstm", config["bidirectional"]
        recurrent = nn.LSTM if is_lstm else nn.GRU
        memory, hidden, width = config["encoder_hidden"], config["hidden"], config["attention_width"]
        score, reads, has_bias = config["attention"], config["attention_output"], config["attention_bias"]
        self.source_embedding, of_source = table(len(source), config["source_embedding"])
        shape = {"num_layers": config["layers"], "bidirectional": both_ways}
        self.encoder = recurrent(of_source, memory // (1 + both_ways), batch_first=True, **shape)
        self.states = ["h", "c"] if is_lstm else ["h"]
        self.bridge = nn.ModuleDict()  # from the encoder's last states to the decoder's first
        for layer, start in enumerate(config["hand_over"]):
            if config["bridge"] != "none" and start is not None:
                self.bridge.update({f"{state}_{layer}": nn.Linear(memory, hidden) for state in self.states})
        self.target_embedding, of_target = table(len(target), config["target_embedding"])
        self.fed = {"none": 0, "output": hidden, "context": memory}[config["feeding"]]
        self.decoder = recurrent(of_target + self.fed, hidden, config["decoder_layers"], batch_first=True)
        if score == "general":  # h K . m
            self.attention_query = nn.Linear(hidden, memory, bias=False)
        if score == "additive":  # v . tanh(h W + m U + b)
            self.attention_query = nn.Linear(hidden, width, bias=has_bias)
            self.attention_keys = nn.Linear(memory, width, bias=False)
            self.attention_score = nn.Linear(width, 1, bias=False)
        if score != "none" and reads in ("combined", "combined_linear"):
            self.combine = nn.Linear(memory + hidden, hidden, bias=has_bias)
        is_wide = score != "none" and reads == "concatenated"
        self.output = nn.Linear(memory + hidden if is_wide else hidden, len(target))
        if config["tied_embeddings"]:
            self.output.weight = self.target_embedding.weight
            # The row of padding stays zeros.
            self.output.weight.register_hook(lambda d: torch.cat([d[:1] * 0, d[1:]]))
        self.dropout = nn.Dropout(0.0)

    def embed(self, rows, ids):
        return self.dropout(rows(ids) * (ids != PAD).unsqueeze(-1))

    def encode(self, source):
        """Ids (batch, time) to what attention reads (outputs, keys, mask), and the decoder's first states."""
        mask = source != PAD
        y, last = run(self.encoder, self.embed(self.source_embedding, source), None, mask, self.config)
        y, has_text = y * mask.unsqueeze(-1), mask.any(1, keepdim=True)
        # (layers * ways, batch, width) to (layers, batch, ways * width); nothing was read of an empty text.
        ways = 1 + self.encoder.bidirectional
        last = [state.unflatten(0, (-1, ways)).transpose(1, 2).flatten(2) * has_text for state in last]
        first = zip(*(self.start(last, *of) for of in enumerate(self.config["hand_over"])))
        keys = self.attention_keys(y) if self.config["attention"] == "additive" else y
        return (y, keys, mask), tuple(torch.stack(layers) for layers in first)

    def start(self, last, layer, start):
        """The first states of a decoder layer, from the last ones of the encoder's layer `start`."""
        if start is None:
            return [last[0].new_zeros(last[0].shape[1], self.config["hidden"]) for _ in last]
        states = [(last[0] if self.config["bridge_source"] == "hidden" else state)[start] for state in last]
        if self.config["bridge"] == "none":
            return states
        across = BRIDGES[self.config["bridge"]]
        return [across(self.bridge[f"{name}_{layer}"](state)) for name, state in zip(self.states, states)]

    def attend(self, h, memory):
        """The contexts of states h (batch, steps, hidden)."""
        y, keys, mask = memory
        query = h if self.config["attention"] == "dot" else self.attention_query(h)
        if self.config["attention"] == "additive":
            scores = self.attention_score(torch.tanh(query.unsqueeze(2) + keys.unsqueeze(1))).squeeze(-1)
        else:
            scores = query @ keys.transpose(1, 2)
        return scores.masked_fill(~mask.unsqueeze(1), torch.finfo(h.dtype).min).softmax(-1) @ y

    def step(self, x, memory, states, fed):
        """What the output layer reads after tokens x (batch, steps, width); the states, what is fed next."""
        reads, feeding, context = self.config["attention_output"], self.config["feeding"], None
        if feeding == "context":
            fed = context = self.attend(states[0][-1].unsqueeze(1), memory)
        h, states = run(self.decoder, x if fed is None else torch.cat([x, fed], -1), states, None, self.config)
        if self.config["attention"] == "none" or reads == "state":
            return h, states, fed
        both = torch.cat([self.attend(h, memory) if context is None else context, h], -1)
        if reads != "concatenated":
            both = torch.tanh(self.combine(both)) if reads == "combined" else self.combine(both)
        return both, states, both if feeding == "output" else fed

    def decode(self, target, memory, states, fed=None):
        """Logits (batch, steps, symbols) behind the ids (batch, steps); the states, what is fed next."""
        x = self.embed(self.target_embedding, target)
        if self.fed and fed is None:
            fed = x.new_zeros(len(x), 1, self.fed)
        read = []
        for tokens in x.split(1, dim=1) if self.fed else [x]:
            output, states, fed = self.step(tokens, memory, states, fed)
            read.append(output)
        return self.output(self.dropout(torch.cat(read, 1))), states, fed

    def forward(self, source, target):
        """Logits (batch, time, symbols), zeros at padding, of ids (batch, time), the target's behind START."""
        return self.decode(target, *self.encode(source))[0] * (target != PAD).unsqueeze(-1)

    @torch.no_grad()
    def translate(self, texts, max_new_tokens=None):
        """Greedy decoding."""
        ids = [self.source.encode(text) for text in texts]
        token = torch.full((len(texts), 1), START, device=self.output.weight.device)
        source = pad_sequence([token.new_tensor(row or [PAD]) for row in ids], batch_first=True)
        (memory, states), fed, said = self.encode(source), None, token[:, :0]
        for _ in range(max_new_tokens or self.config["max_new_tokens"]):
            logits, states, fed = self.decode(token, memory, states, fed)
            token = logits[..., END:].argmax(-1) + END
            said = torch.cat([said, token], 1)
            if (said == END).any(1).all():
                break
        return [self.target.decode(out) if row else "" for row, out in zip(ids, said.tolist())]

    @classmethod
    def load(cls, folder):
        config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
        model = cls(config, *(Vocabulary.load(folder, side, config[side]) for side in ("source", "target")))
        weights = load_file(Path(folder) / "model.safetensors")
        weights.setdefault("output.weight", weights.get("target_embedding.weight"))
        model.load_state_dict(weights)
        return model

    def save(self, file):
        left_out = ["output.weight"] if self.config["tied_embeddings"] else []
        weights = {name: value.cpu().contiguous() for name, value in self.state_dict().items()}
        save_file({name: value for name, value in weights.items() if name not in left_out}, file)
