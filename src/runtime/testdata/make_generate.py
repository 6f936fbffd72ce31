"""Writes generate.json: what generate() of transformers makes of a model whose logits are a function of the prefix.

    pip install torch transformers
    python src/runtime/testdata/make_generate.py
    python src/runtime/testdata/make_generate.py --texts 100 --out many.json    # then S2S_GENERATE=many.json cargo test

The model has no weights: 64-bit integers of the source, of the last two tokens and of the length are mixed, and every logit
is a multiple of 2^-16 between -8 and 8, so that another program computes the same numbers. `options` are those of s2s, whose
names are generate()'s; `expected` has for each hypothesis the ids without the start token, cut behind the first END, and the
score (of beams). Ids per model: START is PAD (Marian, T5), START is END (BART), or all differ.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import GenerationConfig, GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput

VOCABULARY = 40
MODELS = [
    {"start": 39, "pad": 39, "eos": 0},
    {"start": 0, "pad": 0, "eos": 1},
    {"start": 2, "pad": 1, "eos": 2},
    {"start": 1, "pad": 0, "eos": 2},
]


def mix(a, b):
    z = a * np.uint64(0x9E3779B97F4A7C15) ^ (b + np.uint64(0x7F4A7C15))
    z = (z ^ (z >> np.uint64(31))) * np.uint64(0xBF58476D1CE4E5B9)
    return z ^ (z >> np.uint64(29))


def logits_of(source, ids, eos):
    """The next logits of rows: `source` (rows, time) and `ids` (rows, length), START first."""
    source, ids = source.astype(np.uint64), ids.astype(np.uint64)
    with np.errstate(over="ignore"):
        h = np.full(len(ids), 7, dtype=np.uint64)
        for column in source.T:
            h = mix(h, column)
        # Two tokens and a third of the length: outputs repeat themselves, and end some time.
        h = mix(h, ids[:, -2] if ids.shape[1] > 1 else np.full(len(ids), 99, dtype=np.uint64))
        h = mix(mix(h, ids[:, -1]), np.full(len(ids), ids.shape[1] // 3, dtype=np.uint64))
        k = mix(h[:, None], np.arange(VOCABULARY, dtype=np.uint64)[None]) >> np.uint64(44)
    logits = k.astype(np.float32) / np.float32(65536.0) - np.float32(8.0)
    logits[:, eos] += np.float32(ids.shape[1]) / np.float32(4.0)
    return logits


class Config(PretrainedConfig):
    model_type = "table"

    def __init__(self, **kwargs):
        super().__init__(is_encoder_decoder=True, vocab_size=VOCABULARY, **kwargs)


class Encoder(torch.nn.Module):
    main_input_name = "input_ids"

    def forward(self, input_ids, **_):
        return BaseModelOutput(last_hidden_state=input_ids[..., None].float())


class Table(PreTrainedModel, GenerationMixin):
    config_class = Config
    main_input_name = "input_ids"
    _supports_cache_class = False

    def __init__(self, config):
        super().__init__(config)
        self.encoder = Encoder()
        self.nothing = torch.nn.Parameter(torch.zeros(1))

    def get_encoder(self):
        return self.encoder

    def prepare_inputs_for_generation(self, input_ids, encoder_outputs=None, **_):
        return {"decoder_input_ids": input_ids, "encoder_outputs": encoder_outputs}

    def forward(self, decoder_input_ids=None, encoder_outputs=None, **_):
        source = encoder_outputs.last_hidden_state[..., 0].numpy()
        row = logits_of(source, decoder_input_ids.numpy(), self.eos)
        return Seq2SeqLMOutput(logits=torch.from_numpy(row)[:, None, :])


def settings():
    """Options of s2s; the names are those of generate()."""
    beams = lambda n, **more: {"num_beams": n, **more}
    plain = [
        {},
        {"max_new_tokens": 5},
        {"min_new_tokens": 9},
        {"repetition_penalty": 1.7},
        {"repetition_penalty": 0.6},
        {"no_repeat_ngram_size": 1, "max_new_tokens": 9},
        {"no_repeat_ngram_size": 2},
        {"no_repeat_ngram_size": 3},
        {"encoder_no_repeat_ngram_size": 1},
        {"encoder_no_repeat_ngram_size": 2},
        {"encoder_repetition_penalty": 1.8},
        {"bad_words_ids": [[7], [9], [5, 6], [3, 4, 8], [39]]},
        {"bad_words_ids": [[a, b] for a in range(0, 39, 2) for b in range(3, 39, 3)]},
        {"eos_token_id": [2, 11, 23]},
        {"eos_token_id": [11, 12], "min_new_tokens": 4},
        {"forced_bos_token_id": 13},
        {"forced_eos_token_id": 0, "max_new_tokens": 6},
        {"forced_bos_token_id": 13, "forced_eos_token_id": 2, "max_new_tokens": 7},
        {"forced_eos_token_id": [1, 2], "max_new_tokens": 7},
        {"forced_bos_token_id": 0, "begin_suppress_tokens": list(range(10, 24)), "no_repeat_ngram_size": 2},
        {"begin_suppress_tokens": list(range(0, 30))},
        {"suppress_tokens": list(range(4, 16))},
        {"exponential_decay_length_penalty": [3, 1.4]},
        {"exponential_decay_length_penalty": [2, 0.8], "repetition_penalty": 1.2},
    ]
    searches = [
        beams(2),
        beams(4),
        beams(4, early_stopping=True),
        beams(4, early_stopping="never"),
        beams(4, length_penalty=0.6, early_stopping=True),
        beams(4, length_penalty=2.0),
        beams(4, length_penalty=2.0, early_stopping="never"),
        beams(3, length_penalty=-1.0),
        beams(3, length_penalty=0.0, early_stopping="never"),
        beams(5, num_return_sequences=5),
        beams(5, num_return_sequences=3, length_penalty=0.3, early_stopping=True),
        beams(4, max_new_tokens=4),
        beams(4, max_new_tokens=1),
        beams(3, renormalize_logits=True, suppress_tokens=[4, 5, 6, 7, 8, 9]),
        beams(3, renormalize_logits=True, repetition_penalty=1.5),
        beams(4, forced_eos_token_id=2, max_new_tokens=5, num_return_sequences=4),
        beams(4, bad_words_ids=[[39], [7, 8]], forced_eos_token_id=0, max_new_tokens=24),
        beams(4, forced_bos_token_id=12, early_stopping=True, length_penalty=1.3),
        beams(4, no_repeat_ngram_size=3, min_new_tokens=6, length_penalty=2.0, early_stopping=True),
        beams(4, eos_token_id=[2, 11, 23], num_return_sequences=2),
    ]
    # Rules that matter to beams as much. Left out: encoder_repetition_penalty, which reaches the first beam alone in
    # transformers, and a list of forced tokens, which are equally good.
    shared = [plain[at] for at in (2, 3, 4, 6, 7, 8, 9, 12, 14, 17, 19, 20, 21, 22, 23)]
    return plain + searches + [{"num_beams": 3, **rules} for rules in shared]


def case(model, special, sources, options):
    model.eos = special["eos"]
    theirs = {"max_new_tokens": 16, "renormalize_logits": False, **options}
    beams = theirs.get("num_beams", 1) > 1
    config = GenerationConfig(
        decoder_start_token_id=special["start"],
        pad_token_id=special["pad"],
        **{"eos_token_id": special["eos"], **theirs},
        do_sample=False,
        use_cache=False,
        return_dict_in_generate=True,
        output_scores=True,
    )
    out = model.generate(torch.tensor(sources), generation_config=config)
    ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    sequences = out.sequences[:, 1:].tolist()
    returned = len(sequences) // len(sources)
    found = []
    for at, ids in enumerate(sequences):
        end = next((i + 1 for i, id in enumerate(ids) if id in ends), len(ids))
        score = round(out.sequences_scores[at].item(), 6) if beams else None
        found.append({"ids": ids[:end], "score": score})
    return [
        {"model": special, "source": source, "options": theirs, "expected": found[at * returned : (at + 1) * returned]}
        for at, source in enumerate(sources)
    ]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--texts", type=int, default=2, help="of each setting")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "generate.json")
    args = parser.parse_args()
    model = Table(Config())
    rng = np.random.default_rng(5)
    cases = []
    for at, options in enumerate(settings()):
        # Every setting with every kind of model, in turn.
        for number, special in enumerate(MODELS):
            if args.texts < 4 and (at + number) % 2:
                continue
            sources = rng.integers(0, VOCABULARY, (args.texts, 6)).tolist()
            cases += case(model, special, sources, options)
    lines = ",\n".join(json.dumps(case) for case in cases)
    args.out.write_text(
        f'{{"transformers": "{transformers.__version__}", "vocabulary": {VOCABULARY}, "cases": [\n{lines}\n]}}\n'
    )
    print(f"{len(cases)} cases in {args.out}")


if __name__ == "__main__":
    main()
