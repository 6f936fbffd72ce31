"""Models of PyTorch and what PyTorch makes of texts: the fixtures of tests/pytorch.rs.

    python make.py tutorial            # torch, numpy, safetensors
    python make.py g2p WHEEL_FOLDER    # beside them the package g2p-en 2.1.0, unpacked
    python make.py joeynmt             # beside them joeynmt 2.3
    python make.py opennmt             # beside them OpenNMT-py 3.5
    python make.py module FOLDER       # torch and safetensors; FOLDER is what train.py of an exported module wrote

Each writes its checkpoints and KIND.json: sources, and the tokens that the maker's own loop says. Weights are
random, and large, so that outputs differ.
"""

import json
import random
import shutil
import sys
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import torch
from torch import nn

HERE = Path(__file__).parent
TEXTS = 30


def shaken(module, scale, seed):
    """Uniform weights, the same on every machine."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data = (torch.rand(parameter.shape, generator=generator) * 2 - 1) * scale
    return module.eval()


def sources(words, longest=6):
    draw = random.Random(5)
    return [[draw.choice(words) for _ in range(draw.randint(1, longest))] for _ in range(TEXTS)]


def lively(say):
    """What `say(seed)` gives with the first seed whose outputs are not too much alike, and say none of the
    special symbols, as no model that was trained does."""
    for seed in range(1, 20_000):
        cases = say(seed)
        targets = {target for _, target in cases}
        if len(targets) > TEXTS / 3 and not any("<" in target for target in targets):
            return cases
    raise AssertionError("the outputs are too much alike")


def write(kind, cases):
    pairs = [{"source": source, "target": target} for source, target in cases]
    (HERE / f"{kind}.json").write_text(json.dumps({"cases": pairs}, indent=0) + "\n")


# The networks of pytorch.org's translation tutorial: names of their parts, and what a step does, are its own.
HIDDEN = 12
SOURCE = ["SOS", "EOS"] + "je tu il suis es est une petite grande .".split()
TARGET = ["SOS", "EOS"] + "i you he am are is a small big girl .".split()
MOST_TOKENS = 10


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(len(SOURCE), HIDDEN)
        self.gru = nn.GRU(HIDDEN, HIDDEN, batch_first=True)

    def forward(self, ids):
        return self.gru(self.embedding(ids))


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(len(TARGET), HIDDEN)
        self.gru = nn.GRU(HIDDEN, HIDDEN, batch_first=True)
        self.out = nn.Linear(HIDDEN, len(TARGET))

    def step(self, token, state, _):
        output, state = self.gru(torch.relu(self.embedding(token)), state)
        return self.out(output), state


class Scores(nn.Module):
    def __init__(self):
        super().__init__()
        self.Wa = nn.Linear(HIDDEN, HIDDEN)
        self.Ua = nn.Linear(HIDDEN, HIDDEN)
        self.Va = nn.Linear(HIDDEN, 1)

    def forward(self, query, keys):
        scores = self.Va(torch.tanh(self.Wa(query) + self.Ua(keys))).transpose(1, 2)
        return torch.bmm(torch.softmax(scores, -1), keys)


class AttentionDecoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(len(TARGET), HIDDEN)
        self.attention = Scores()
        self.gru = nn.GRU(2 * HIDDEN, HIDDEN, batch_first=True)
        self.out = nn.Linear(HIDDEN, len(TARGET))

    def step(self, token, state, memory):
        context = self.attention(state.permute(1, 0, 2), memory)
        output, state = self.gru(torch.cat((self.embedding(token), context), dim=2), state)
        return self.out(output), state


def tutorial():
    from safetensors.torch import save_file

    for kind, decoder in [("tutorial", Decoder()), ("tutorial_attention", AttentionDecoder())]:
        encoder, decoder = shaken(Encoder(), 1.0, 3), shaken(decoder, 1.0, 4)
        both = {"encoder": encoder.state_dict(), "decoder": decoder.state_dict()}
        torch.save(both, HERE / f"{kind}.pt")
        if kind == "tutorial":
            legacy = HERE / "tutorial_before_1.6.pt"
            torch.save(both, legacy, _use_new_zipfile_serialization=False)
            flat = {f"{side}.{name}": x for side, state in both.items() for name, x in state.items()}
            save_file(flat, HERE / "tutorial.safetensors")
            np.savez_compressed(HERE / "tutorial.npz", **{name: x.numpy() for name, x in flat.items()})
            torch.save(encoder.state_dict(), HERE / "tutorial_encoder.pt")
            torch.save(decoder, HERE / "tutorial_decoder_module.pt")
        for name, words in [("source", SOURCE), ("target", TARGET)]:
            text = json.dumps({word: index for index, word in enumerate(words)})
            (HERE / f"tutorial_{name}.json").write_text(text + "\n")
        cases = []
        for words in sources(SOURCE[2:]):
            with torch.no_grad():
                memory, state = encoder(torch.tensor([[SOURCE.index(word) for word in words] + [1]]))
                token, said = torch.tensor([[0]]), []
                while len(said) < MOST_TOKENS:
                    scores, state = decoder.step(token, state, memory)
                    token = scores.argmax(-1)
                    if token.item() == 1:
                        break
                    said.append(TARGET[token.item()])
            cases.append((" ".join(words), " ".join(said)))
        write(kind, cases)


def g2p(folder):
    """The loop of g2p-en itself, over smaller weights of the same names."""
    for name in ["nltk", "nltk.corpus", "nltk.tokenize", "inflect"]:
        sys.modules[name] = MagicMock()
    sys.path.insert(0, folder)
    from g2p_en.g2p import G2p

    package, draw, hidden, width = G2p(), np.random.default_rng(3), 10, 6
    letters, phones = len(package.graphemes), len(package.phonemes)
    shapes = {"fc_w": (phones, hidden), "fc_b": (phones,)}
    for side, rows in [("enc", letters), ("dec", phones)]:
        shapes |= {f"{side}_emb": (rows, width), f"{side}_w_ih": (3 * hidden, width)}
        shapes |= {f"{side}_w_hh": (3 * hidden, hidden)}
        shapes |= {f"{side}_b_ih": (3 * hidden,), f"{side}_b_hh": (3 * hidden,)}
    arrays = {name: (draw.random(shape, np.float32) * 4 - 2) for name, shape in shapes.items()}
    # No model that was trained says <pad>, <unk> or <s>.
    arrays["fc_b"][:3] = -60
    np.savez(HERE / "g2p.npz", **arrays)
    for name, array in arrays.items():
        setattr(package, name, array)
    cases = []
    for letters in sources([chr(97 + at) for at in range(26)] + ["'"], 9):
        word = "".join(letters)
        cases.append((word, " ".join(package.predict(word))))
    write("g2p", cases)


def module(folder):
    """A module of ours that PyTorch has trained, and what its own loop says."""
    sys.path.insert(0, folder)
    from model import Seq2Seq

    (HERE / "module").mkdir(exist_ok=True)
    for name in ["mapping.yaml", "source.json", "target.json", "model.safetensors"]:
        shutil.copy(Path(folder) / name, HERE / "module" / name)
    model = Seq2Seq.load(folder).eval()
    texts = ["".join(words) for words in sources(model.source.symbols[4:])]
    write("module", list(zip(texts, model.translate(texts))))


def joeynmt():
    """Its own model and its own greedy search, over one layer or two, one direction or two."""
    from joeynmt.model import build_model
    from joeynmt.search import greedy
    from joeynmt.vocabulary import Vocabulary
    from safetensors.torch import save_model
    from types import SimpleNamespace

    special = SimpleNamespace(
        unk_token="<unk>", unk_id=0, pad_token="<pad>", pad_id=1, bos_token="<s>", bos_id=2,
        eos_token="</s>", eos_id=3, sep_token=None, sep_id=None, lang_tags=[],
    )  # fmt: skip
    vocabularies = [Vocabulary(words[2:], special) for words in (SOURCE, TARGET)]
    for name, vocabulary in zip(["source", "target"], vocabularies):
        (HERE / f"joeynmt_{name}.txt").write_text("\n".join(vocabulary._itos) + "\n")
    for kind, attention, cell, layers in [
        ("joeynmt", "luong", "lstm", 2), ("joeynmt_bahdanau", "bahdanau", "gru", 1), ("joeynmt_tied", "luong", "gru", 1),
    ]:  # fmt: skip
        is_tied = kind == "joeynmt_tied"
        side = {"rnn_type": cell, "num_layers": layers, "type": "recurrent", "dropout": 0.0}
        config = {
            "encoder": side | {"embeddings": {"embedding_dim": 6, "scale": is_tied}, "hidden_size": 8,
                               "bidirectional": True},
            "decoder": side | {"embeddings": {"embedding_dim": 10 if is_tied else 5}, "hidden_size": 10,
                               "attention": attention, "input_feeding": True, "init_hidden": "bridge"},
            "tied_softmax": is_tied,
        }  # fmt: skip
        model = build_model(config, *vocabularies)

        def said(words):
            ids = torch.tensor([[vocabularies[0].lookup(word) for word in words] + [3]])
            mask = torch.ones(1, 1, ids.shape[1], dtype=torch.bool)
            length = torch.tensor([ids.shape[1]])
            with torch.no_grad():
                output, hidden, _, _ = model(return_type="encode", src=ids, src_length=length, src_mask=mask)
                said, _, _ = greedy(mask, 20, model, output, hidden)
            said = [vocabularies[1]._itos[at] for at in said[0].tolist()]
            return " ".join(said[: said.index("</s>")] if "</s>" in said else said)

        def say(seed):
            shaken(model, 0.9, seed)
            if is_tied:
                model.trg_embed.lut.weight.data[1] = 0  # padding's, as training leaves it
            return [(" ".join(words), said(words)) for words in sources(SOURCE[2:])]

        write(kind, lively(say))
        if is_tied:  # one tensor by one name
            save_model(model, str(HERE / f"{kind}.safetensors"))
            continue
        torch.save({"steps": 1, "model_state": model.state_dict(), "optimizer_state": {}}, HERE / f"{kind}.ckpt")


def opennmt():
    """Its own model, as its own trainer saves it, and a greedy loop over its own decoder."""
    from argparse import Namespace

    import onmt.opts
    from onmt.inputters.inputter import vocabs_to_dict
    from onmt.model_builder import build_base_model
    from onmt.utils.parse import ArgumentParser
    from pyonmttok import build_vocab_from_tokens

    special = ["<unk>", "<blank>", "<s>", "</s>"]
    words = {"src": special + SOURCE[2:], "tgt": special + TARGET[2:]}
    vocabs = {side: build_vocab_from_tokens(all, special_tokens=special) for side, all in words.items()}
    vocabs |= {"data_task": "seq2seq", "decoder_start_token": "<s>"}
    parser = ArgumentParser()
    onmt.opts.model_opts(parser)
    for kind, options in [
        ("opennmt", "-encoder_type brnn -global_attention general -layers 2"),
        ("opennmt_mlp", "-encoder_type rnn -global_attention mlp -layers 1 -rnn_type GRU"),
        ("opennmt_plain", "-encoder_type brnn -global_attention general -layers 1 -input_feed 0"),
        ("opennmt_bridge", "-encoder_type brnn -global_attention general -layers 1 -bridge"),
        ("opennmt_bridge_2", "-encoder_type brnn -global_attention general -layers 2 -bridge"),
    ]:
        opt = parser.parse_args(f"{options} -decoder_type rnn -hidden_size 8 -word_vec_size 6".split())
        opt = Namespace(**vars(opt) | {"dropout": [0.0], "attention_dropout": [0.0], "optim": "sgd"})
        for part in ["encoder", "decoder", "word_vecs_enc", "word_vecs_dec"]:
            setattr(opt, f"freeze_{part}", False)
        ArgumentParser.update_model_opts(opt)
        model = build_base_model(opt, vocabs)
        ids, symbols = vocabs["src"], vocabs["tgt"].ids_to_tokens

        def said(words):
            source = torch.tensor([[[ids[word]] for word in words]])
            length = torch.tensor([len(words)])
            with torch.no_grad():
                memory, final, length = model.encoder(source, length)
                model.decoder.init_state(source, memory, final)
                token, said = torch.tensor([[[vocabs["tgt"]["<s>"]]]]), []
                for step in range(20):
                    output, _ = model.decoder(token, memory, src_len=length, step=step)
                    token = model.generator(output.squeeze(1)).argmax(-1).reshape(1, 1, 1)
                    symbol = symbols[token.item()]
                    if symbol == "</s>":
                        break
                    said.append(symbol)
            return " ".join(said)

        def say(seed):
            shaken(model, 0.9, seed)
            model.generator.bias.data[:3] = -60
            return [(" ".join(words), said(words)) for words in sources(SOURCE[2:])]

        write(kind, lively(say))
        state, generator = model.state_dict(), model.generator.state_dict()
        state = {name: x for name, x in state.items() if not name.startswith("generator")}
        checkpoint = {"model": state, "generator": generator, "vocab": vocabs_to_dict(vocabs), "opt": opt}
        torch.save(checkpoint | {"optim": {}}, HERE / f"{kind}.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    globals()[sys.argv[1]](*sys.argv[2:])
