"""Processor time of decoding with a Marian-sized model, in turns with the programs that run Optimum's folders.

    python optimum.py S2S WORK [--rounds 3] [--cases 1x1,32x1,32x4] [--contestants s2s-ort,ortmodel,...]

Makes a model of 74 million random parameters in WORK (once), exports it with Optimum, converts it for CTranslate2, and lets
each contestant decode sources of 25 tokens into exactly 32 tokens with one thread. A case is TEXTSxBEAMS. The figure of a
round is the processor time of one more call: of two in one process, the first warms up; s2s translates a short and a long
file, and the difference counts. Outputs must be the same texts as ORTModelForSeq2SeqLM's, but for a few that random weights
put on a tie, which are counted; with weights in 8 bits (-int8) they are another model's. `peak` is the largest resident set of the whole process, loading counted.

Needs torch 2.8, transformers 4.57, optimum-onnx 0.1, onnxruntime, ctranslate2, sentencepiece.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

# This file has the name of a package that is imported below.
sys.path[:] = [path for path in sys.path if Path(path or ".").resolve() != Path(__file__).resolve().parent]

SOURCE_TOKENS, TARGET_TOKENS, VOCABULARY = 25, 32, 58101
CONTESTANTS = ["s2s-tract", "s2s-ort", "s2s-tract-int8", "ortmodel", "ortmodel-merged", "bare", "ctranslate2", "ctranslate2-int8"]


def make(work):
    """The model, its export and its conversion."""
    model, onnx = work / "marian-base", work / "onnx"
    if not (model / "config.json").exists():
        import sentencepiece
        import torch
        from transformers import MarianConfig, MarianMTModel

        torch.manual_seed(0)
        sizes = {f"{side}_{key}": value for side in ("encoder", "decoder") for key, value in (("layers", 6), ("attention_heads", 8), ("ffn_dim", 2048))}
        config = MarianConfig(
            vocab_size=VOCABULARY, d_model=512, **sizes, max_position_embeddings=512, pad_token_id=VOCABULARY - 1, eos_token_id=0, bos_token_id=0,
            decoder_start_token_id=VOCABULARY - 1, forced_eos_token_id=0, scale_embedding=True, static_position_embeddings=True,
            activation_function="swish", share_encoder_decoder_embeddings=True, tie_word_embeddings=True,
        )
        network = MarianMTModel(config).eval()
        network.generation_config.update(bad_words_ids=[[VOCABULARY - 1]], num_beams=1, max_length=512, forced_eos_token_id=0)
        model.mkdir(parents=True, exist_ok=True)
        words = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in "bdfgklmnprst"]
        for side in ("source", "target"):
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter([" ".join(words[i : i + 8]) for i in range(len(words) - 8)]), model_prefix=str(work / side), vocab_size=400,
                model_type="unigram", minloglevel=2, hard_vocab_limit=False,
            )
            (work / f"{side}.model").rename(model / f"{side}.spm")
        spm = sentencepiece.SentencePieceProcessor(model_file=str(model / "source.spm"))
        pieces = ["</s>", "<unk>"] + [spm.id_to_piece(i) for i in range(3, spm.get_piece_size())]
        pieces += [f"\u2581w{i}" for i in range(len(pieces), VOCABULARY - 1)] + ["<pad>"]
        (model / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}, ensure_ascii=False))
        (model / "tokenizer_config.json").write_text(
            json.dumps({"tokenizer_class": "MarianTokenizer", "source_lang": "a", "target_lang": "b", "model_max_length": 512, "separate_vocabs": False})
        )
        network.save_pretrained(model)
    if not (onnx / "decoder_model_merged.onnx").exists():
        subprocess.run(["optimum-cli", "export", "onnx", "--model", model, "--task", "text2text-generation-with-past", onnx], check=True)
    if not (work / "ct2" / "model.bin").exists():
        converter = [Path(sys.executable).parent / "ct2-transformers-converter", "--model", model, "--output_dir"]
        subprocess.run([*converter, work / "ct2"], check=True)
        subprocess.run([*converter, work / "ct2-int8", "--quantization", "int8"], check=True)
    texts = work / "texts.txt"
    if not texts.exists():
        from transformers import MarianTokenizer

        tokenizer, lines = MarianTokenizer.from_pretrained(model), []
        words = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in "bdfgklmnprst"]
        for start in range(10_000):
            chosen = [words[(start * 7 + i * (start % 11 + 1)) % len(words)] for i in range(24)]
            for count in range(6, 25):
                line = " ".join(chosen[:count])
                if len(tokenizer(line)["input_ids"]) == SOURCE_TOKENS:
                    lines.append(line)
                    break
            if len(lines) == 32:
                break
        assert len(lines) == 32, "no 32 texts of the right length"
        texts.write_text("\n".join(lines) + "\n")


class OrtModel:
    """ORTModelForSeq2SeqLM as its documentation has it."""

    def __init__(self, work, merged):
        import onnxruntime
        import torch
        from optimum.onnxruntime import ORTModelForSeq2SeqLM
        from transformers import MarianTokenizer

        torch.set_num_threads(1)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.model = ORTModelForSeq2SeqLM.from_pretrained(work / "onnx", use_merged=merged, session_options=options)
        self.tokenizer = MarianTokenizer.from_pretrained(work / "onnx")

    def run(self, texts, beams):
        batch = self.tokenizer(texts, return_tensors="pt", padding=True)
        ids = self.model.generate(**batch, num_beams=beams, min_new_tokens=TARGET_TOKENS, max_new_tokens=TARGET_TOKENS, do_sample=False)
        return self.tokenizer.batch_decode(ids, skip_special_tokens=True)


class Bare:
    """Three sessions and numpy, greedy only, as careful people write it."""

    def __init__(self, work):
        import onnxruntime
        from transformers import MarianTokenizer

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = lambda name: onnxruntime.InferenceSession(str(work / "onnx" / f"{name}.onnx"), options, providers=["CPUExecutionProvider"])
        self.encoder, self.first, self.later = (session(name) for name in ("encoder_model", "decoder_model", "decoder_with_past_model"))
        self.names = [[output.name for output in graph.get_outputs()] for graph in (self.first, self.later)]
        self.tokenizer = MarianTokenizer.from_pretrained(work / "onnx")

    def run(self, texts, beams):
        import numpy as np

        assert beams == 1
        batch = self.tokenizer(texts, return_tensors="np", padding=True)
        ids, mask = batch["input_ids"].astype(np.int64), batch["attention_mask"].astype(np.int64)
        hidden = self.encoder.run(None, {"input_ids": ids, "attention_mask": mask})[0]
        pad = VOCABULARY - 1
        tokens, written = np.full((len(texts), 1), pad, np.int64), []
        feeds = {"input_ids": tokens, "encoder_attention_mask": mask, "encoder_hidden_states": hidden}
        results = dict(zip(self.names[0], self.first.run(None, feeds)))
        cache = {name.replace("present", "past_key_values"): value for name, value in results.items() if name != "logits"}
        for step in range(TARGET_TOKENS):
            logits = results["logits"][:, -1]
            logits[:, pad] = -np.inf
            if step < TARGET_TOKENS - 1:
                logits[:, 0] = -np.inf
                tokens = logits.argmax(-1)[:, None]
            else:
                tokens = np.zeros((len(texts), 1), np.int64)
            written.append(tokens)
            if step == TARGET_TOKENS - 1:
                break
            results = dict(zip(self.names[1], self.later.run(None, {"input_ids": tokens, "encoder_attention_mask": mask, **cache})))
            cache.update({name.replace("present", "past_key_values"): value for name, value in results.items() if name != "logits"})
        return self.tokenizer.batch_decode(np.concatenate(written, 1), skip_special_tokens=True)


class CTranslate2:
    """Its Translator on one thread."""

    def __init__(self, work, int8):
        import ctranslate2
        from transformers import MarianTokenizer

        name, kind = ("ct2-int8", "int8") if int8 else ("ct2", "float32")
        self.model = ctranslate2.Translator(str(work / name), device="cpu", compute_type=kind, inter_threads=1, intra_threads=1)
        self.tokenizer = MarianTokenizer.from_pretrained(work / "onnx")

    def run(self, texts, beams):
        tokens = [self.tokenizer.convert_ids_to_tokens(self.tokenizer(text)["input_ids"]) for text in texts]
        results = self.model.translate_batch(tokens, beam_size=beams, min_decoding_length=TARGET_TOKENS, max_decoding_length=TARGET_TOKENS)
        ids = [self.tokenizer.convert_tokens_to_ids(result.hypotheses[0]) for result in results]
        return self.tokenizer.batch_decode(ids, skip_special_tokens=True)


def contestant(name, work):
    if name.startswith("ortmodel"):
        return OrtModel(work, name.endswith("merged"))
    return Bare(work) if name == "bare" else CTranslate2(work, name.endswith("int8"))


def child(name, work, texts, beams):
    """One process of a contestant in Python: loads, warms up, measures one call."""
    model = contestant(name, work)
    lines = (work / "texts.txt").read_text().splitlines()[:texts]
    model.run(lines, beams)
    begin, clock = time.process_time(), time.perf_counter()
    outputs = model.run(lines, beams)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"cpu": time.process_time() - begin, "wall": time.perf_counter() - clock, "peak": peak, "outputs": outputs}))


def s2s(program, engine, work, texts, beams):
    """The difference between a short and a long file, of so many more calls that the opening's own differences hardly count."""
    folder = work / "onnx"
    if engine.endswith("-int8"):
        engine, folder = engine.removesuffix("-int8"), work / "s2s-int8"
        if not (folder / "s2s.yaml").exists():
            subprocess.run([program, "import", "optimum", work / "onnx", "-o", folder, "--dtype", "int8"], check=True, stdout=subprocess.DEVNULL)
    decoding = work / f"decoding-{beams}.yaml"
    decoding.write_text(f"num_beams: {beams}\nmin_new_tokens: {TARGET_TOKENS}\nmax_new_tokens: {TARGET_TOKENS}\n")
    lines = (work / "texts.txt").read_text().splitlines()[:texts]
    more = 48 if texts == 1 else 8
    measured = []
    for repeats in (1, 1 + more):
        command = [program, "translate", folder, "--engine", engine, "--workers", "1", "--max-batch-size", str(texts * beams)]
        begin, clock = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        run = subprocess.run([*command, "--decoding", decoding, "-q"], input="\n".join(lines * repeats), stdout=subprocess.PIPE, check=True, text=True)
        wall, end = time.perf_counter() - clock, resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = end.ru_utime + end.ru_stime - begin.ru_utime - begin.ru_stime
        # The largest of all children so far: this parent starts no other kind in this process.
        measured.append({"cpu": cpu, "wall": wall, "peak": end.ru_maxrss / 1024, "outputs": run.stdout.splitlines()[:texts]})
    short, long = measured
    return {**long, "cpu": (long["cpu"] - short["cpu"]) / more, "wall": (long["wall"] - short["wall"]) / more}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("s2s")
    parser.add_argument("work", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cases", default="1x1,1x4,32x1,32x4")
    parser.add_argument("--contestants", default=",".join(CONTESTANTS))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    if args.one:
        name, case = args.one.split(",")
        texts, beams = map(int, case.split("x"))
        if name.startswith("s2s-"):
            print(json.dumps(s2s(args.s2s, name[4:], args.work, texts, beams)))
        else:
            child(name, args.work, texts, beams)
        return
    make(args.work)
    cases = args.cases.split(",")
    found = {}
    for _ in range(args.rounds):
        for case in cases:
            for name in args.contestants.split(","):
                if name == "bare" and not case.endswith("x1"):
                    continue
                command = [sys.executable, __file__, args.s2s, args.work, "--one", f"{name},{case}"]
                run = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
                found.setdefault((case, name), []).append(json.loads(run.stdout.splitlines()[-1]))
                print(case, name, f"{1000 * found[case, name][-1]['cpu']:.0f} ms", file=sys.stderr, flush=True)
    print("| texts x beams | | processor ms | wall ms | peak MiB | times ORTModel | texts that differ |\n|---|---|---:|---:|---:|---:|---:|")
    for (case, name), rounds in found.items():
        median = lambda key: statistics.median(round[key] for round in rounds)
        base = found.get((case, "ortmodel"))
        times = f"{statistics.median(r['cpu'] for r in base) / median('cpu'):.2f}" if base else ""
        differ = sum(a.split() != b.split() for a, b in zip(rounds[0]["outputs"], base[0]["outputs"])) if base else ""
        print(f"| {case} | {name} | {1000 * median('cpu'):.0f} | {1000 * median('wall'):.0f} | {median('peak'):.0f} | {times} | {differ} |")


if __name__ == "__main__":
    main()
