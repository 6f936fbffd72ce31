"""Makes tests/optimum/*.zip: one tiny model of each family as Optimum exports it, with what transformers generates from it.

    python tests/optimum/make.py [--out tests/optimum] [--keep WORK]

Wants torch 2.8.0, transformers 4.57.6, optimum-onnx 0.1.0, onnx 1.23, onnxruntime 1.32, sentencepiece 0.2. Nothing is fetched:
models are made from config objects and trained for seconds, tokenizers too, all on sentences that this file makes: enough for
outputs that differ and end, no more.

Each zip holds the exported graphs, config.json, generation_config.json, the tokenizer's files and `expected.json`:

    sources     texts
    source_ids  what the tokenizer makes of them
    settings    a name and the arguments of generate() for it
    generated   for each name and each source {"ids", "text"}, decoded alone
"""
import argparse, json, os, random, shutil, subprocess, sys, tempfile, zipfile
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
import onnx
import sentencepiece
import torch
import transformers as tf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

torch.set_num_threads(1)
LONGEST = 20
SETTINGS = {
    "greedy": dict(num_beams=1),
    "beam4": dict(num_beams=4),
    "beam4_lp0.6_early": dict(num_beams=4, length_penalty=0.6, early_stopping=True),
    "beam3_lp2_never": dict(num_beams=3, length_penalty=2.0, early_stopping="never"),
    "greedy_no_repeat_2": dict(num_beams=1, no_repeat_ngram_size=2),
    "beam4_no_repeat_2_min_8": dict(num_beams=4, no_repeat_ngram_size=2, min_new_tokens=8),
    "greedy_repetition_1.5": dict(num_beams=1, repetition_penalty=1.5),
}

WORDS = ("the a small large old new river house morning train bread letter music window garden stone winter north city"
         " road quiet open slow bright cold reads walks sees builds carries finds under over beside behind before after").split()
MORE = ["今天天氣很好。", "我們明天去市場買水果。", "это короткое предложение.", "une phrase courte, n'est-ce pas ?", "٣ كتب على الطاولة", "naïve café — “quoted”", "😀 fine"]


def sentences(count, seed=0):
    rng = random.Random(seed)
    lines = [" ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 12))) for _ in range(count)]
    return [line.capitalize() + rng.choice([".", "!", "?", ""]) for line in lines]


TRAIN = sentences(2000) + MORE * 40
TEXTS = sentences(9, seed=7) + ["Music", MORE[0], MORE[3], "  two  spaces ", "Unseen: zebra & 42"]


def spm(folder, name, size, **kw):
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TRAIN), model_prefix=str(folder / name), vocab_size=size, model_type=kw.pop("model_type", "unigram"),
        character_coverage=1.0, hard_vocab_limit=False, minloglevel=2, num_threads=1,
        normalization_rule_name=kw.pop("normalization_rule_name", "identity"), **kw)
    return folder / f"{name}.model"


def pieces_of(model):
    processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
    return [processor.id_to_piece(i) for i in range(processor.get_piece_size())]


BARTLIKE = dict(d_model=16, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2,
                encoder_ffn_dim=24, decoder_ffn_dim=24, max_position_embeddings=64, dropout=0.0)
T5LIKE = dict(d_model=16, d_kv=6, d_ff=24, num_layers=2, num_decoder_layers=2, num_heads=2, relative_attention_num_buckets=8,
              relative_attention_max_distance=32, dropout_rate=0.0, feed_forward_proj="gated-gelu")


def marian(work):
    source, target = spm(work, "source", 150, normalization_rule_name="nmt_nfkc"), spm(work, "target", 130)
    pieces = ["</s>", "<unk>"] + list(dict.fromkeys(pieces_of(source)[3:] + pieces_of(target)[3:])) + ["<pad>"]
    (work / "vocab.json").write_text(json.dumps({piece: at for at, piece in enumerate(pieces)}, ensure_ascii=False))
    for path in (source, target):
        shutil.copy(path, path.with_suffix(".spm"))
    tok = tf.MarianTokenizer(str(work / "source.spm"), str(work / "target.spm"), str(work / "vocab.json"),
                             source_lang="eng", target_lang="eng", model_max_length=64)
    pad = len(pieces) - 1
    cfg = tf.MarianConfig(vocab_size=len(pieces), pad_token_id=pad, eos_token_id=0, bos_token_id=0, forced_eos_token_id=0,
                          decoder_start_token_id=pad, scale_embedding=True, static_position_embeddings=True,
                          activation_function="swish", share_encoder_decoder_embeddings=True, **BARTLIKE)
    return tf.MarianMTModel(cfg), tok, dict(bad_words_ids=[[pad]], forced_eos_token_id=0)


def t5(work):
    tok = tf.T5TokenizerFast(str(spm(work, "spiece", 160, pad_id=0, eos_id=1, unk_id=2, bos_id=-1)), extra_ids=4, model_max_length=64)
    cfg = tf.T5Config(vocab_size=len(tok) + 9, tie_word_embeddings=False, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0, **T5LIKE)
    return tf.T5ForConditionalGeneration(cfg), tok, {}


def mt5(work):
    tok = tf.T5Tokenizer(str(spm(work, "spiece", 160, pad_id=0, eos_id=1, unk_id=2, bos_id=-1)), extra_ids=0, legacy=False,
                         model_max_length=64)
    cfg = tf.MT5Config(vocab_size=len(tok), pad_token_id=0, eos_token_id=1, decoder_start_token_id=0, **T5LIKE)
    return tf.MT5ForConditionalGeneration(cfg), tok, {}


def byt5(work):
    tok = tf.ByT5Tokenizer(extra_ids=5, model_max_length=128)
    cfg = tf.T5Config(vocab_size=264, tie_word_embeddings=True, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0,
                      tokenizer_class="ByT5Tokenizer", **T5LIKE)
    return tf.T5ForConditionalGeneration(cfg), tok, {}


def bart(work):
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    bpe.train_from_iterator(TRAIN, trainers.BpeTrainer(vocab_size=340, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
                                                       initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    bpe.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    tok = tf.PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>",
                                     mask_token="<mask>", model_max_length=64)
    cfg = tf.BartConfig(vocab_size=bpe.get_vocab_size(), pad_token_id=1, bos_token_id=0, eos_token_id=2, decoder_start_token_id=2,
                        forced_bos_token_id=0, forced_eos_token_id=2, **BARTLIKE)
    return tf.BartForConditionalGeneration(cfg), tok, dict(num_beams=4, early_stopping=True, no_repeat_ngram_size=3, forced_bos_token_id=0)


def mbart(work):
    tok = tf.MBart50Tokenizer(str(spm(work, "sentencepiece", 150)), src_lang="en_XX", tgt_lang="zh_CN", model_max_length=64)
    cfg = tf.MBartConfig(vocab_size=len(tok), pad_token_id=1, bos_token_id=0, eos_token_id=2, decoder_start_token_id=2,
                         forced_eos_token_id=2, scale_embedding=True, **BARTLIKE)
    return tf.MBartForConditionalGeneration(cfg), tok, dict(forced_bos_token_id=tok.lang_code_to_id["zh_CN"])


def pegasus(work):
    tok = tf.PegasusTokenizer(str(spm(work, "spiece", 150, pad_id=0, eos_id=1, unk_id=2, bos_id=-1)), offset=103, model_max_length=64)
    cfg = tf.PegasusConfig(vocab_size=len(tok), pad_token_id=0, eos_token_id=1, bos_token_id=1, decoder_start_token_id=0,
                           forced_eos_token_id=1, scale_embedding=True, static_position_embeddings=True, **BARTLIKE)
    return tf.PegasusForConditionalGeneration(cfg), tok, dict(num_beams=4, length_penalty=0.8)


def m2m100(work):
    model = spm(work, "sentencepiece", 150)
    vocabulary = ["<s>", "<pad>", "</s>", "<unk>"] + pieces_of(model)[3:]
    (work / "vocab.json").write_text(json.dumps({piece: at for at, piece in enumerate(vocabulary)}, ensure_ascii=False))
    from transformers.models.m2m_100.tokenization_m2m_100 import FAIRSEQ_LANGUAGE_CODES
    languages = [f"__{code}__" for code in FAIRSEQ_LANGUAGE_CODES["m2m100"]]  # As the published models' special_tokens_map.json.
    tok = tf.M2M100Tokenizer(str(work / "vocab.json"), str(model), src_lang="en", tgt_lang="zh", additional_special_tokens=languages,
                             model_max_length=64)
    size = max(tok.lang_token_to_id.values()) + 9
    cfg = tf.M2M100Config(vocab_size=size, pad_token_id=1, bos_token_id=0, eos_token_id=2, decoder_start_token_id=2,
                          attention_dropout=0.0, encoder_layerdrop=0.0, decoder_layerdrop=0.0, scale_embedding=True, **BARTLIKE)
    return tf.M2M100ForConditionalGeneration(cfg), tok, dict(forced_bos_token_id=tok.get_lang_id("zh"), num_beams=5)


def nllb(work):
    tok = tf.NllbTokenizer(str(spm(work, "sentencepiece", 150)), src_lang="eng_Latn", tgt_lang="zho_Hant", model_max_length=64)
    cfg = tf.M2M100Config(vocab_size=len(tok), pad_token_id=1, bos_token_id=0, eos_token_id=2, decoder_start_token_id=2,
                          attention_dropout=0.0, encoder_layerdrop=0.0, decoder_layerdrop=0.0, scale_embedding=True, **BARTLIKE)
    return tf.M2M100ForConditionalGeneration(cfg), tok, dict(forced_bos_token_id=tok.convert_tokens_to_ids("zho_Hant"))


GRAPHS = {"unmerged": ["decoder_model", "decoder_with_past_model"], "merged": ["decoder_model_merged"], "without_past": ["decoder_model"],
          "all": ["decoder_model", "decoder_with_past_model", "decoder_model_merged"]}
# Which graphs of each are kept, so that every kind of folder is there once.
CASES = {"marian": (marian, "all", ""), "t5": (t5, "merged", ""), "mt5": (mt5, "unmerged", ""), "byt5": (byt5, "without_past", ""),
         "bart": (bart, "unmerged", "external"), "mbart": (mbart, "merged", ""), "pegasus": (pegasus, "unmerged", "int8"),
         "m2m100": (m2m100, "unmerged", ""), "nllb": (nllb, "unmerged", "float16")}


def fit(model, tok, steps=160, batch=32):
    """A short training on the task "every second word": enough for outputs that end, and differ."""
    rng = random.Random(1)
    pairs = [(line, " ".join(line.split()[::2]) or line) for line in TRAIN]
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-2)
    model.train()
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = 2e-2 * min(1, (step + 1) / 20) * (1 - step / steps)
        rows = rng.sample(pairs, batch)
        source = tok([row[0] for row in rows], return_tensors="pt", padding=True)
        target = tok(text_target=[row[1] for row in rows], return_tensors="pt", padding=True)["input_ids"]
        loss = model(input_ids=source["input_ids"], attention_mask=source["attention_mask"],
                     labels=target.masked_fill(target == tok.pad_token_id, -100)).loss
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    model.eval()


def generated(model, tok, texts):
    found = {}
    for label, options in SETTINGS.items():
        rows = []
        for text in texts:
            x = tok([text], return_tensors="pt")
            ids = model.generate(input_ids=x["input_ids"], attention_mask=x["attention_mask"], max_new_tokens=LONGEST, do_sample=False, **options)[0]
            rows.append({"ids": ids.tolist(), "text": tok.decode(ids, skip_special_tokens=True)})
        found[label] = rows
    return found


def external(path):
    model = onnx.load(path)
    path.unlink()
    onnx.save_model(model, path, save_as_external_data=True, all_tensors_to_one_file=True, location=path.name + "_data", size_threshold=64)


def smaller(path, how):
    if how == "external":
        external(path)
    elif how == "int8":
        from onnxruntime.quantization import QuantType, quantize_dynamic
        quantize_dynamic(path, path, weight_type=QuantType.QInt8)
    elif how == "float16":
        from onnxruntime.transformers.float16 import convert_float_to_float16
        onnx.save(convert_float_to_float16(onnx.load(path), keep_io_types=False), path)


def make(name, out, work):
    torch.manual_seed(sum(name.encode()))
    build, kept, how = CASES[name]
    work.mkdir(parents=True, exist_ok=True)
    model, tok, generation = build(work)
    for key, value in dict(generation, max_length=64).items():
        setattr(model.generation_config, key, value)
    fit(model, tok)
    saved, exported = work / "saved", work / "exported"
    model.save_pretrained(saved)
    tok.save_pretrained(saved)
    task = "text2text-generation" if kept == "without_past" else "text2text-generation-with-past"
    run = [str(Path(sys.executable).parent / "optimum-cli"), "export", "onnx", "--model", str(saved), "--task", task, "--opset", "17",
           "--framework", "pt", str(exported)]
    subprocess.run(run, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for graph in ["decoder_model", "decoder_with_past_model", "decoder_model_merged"]:
        if graph not in GRAPHS[kept]:
            (exported / f"{graph}.onnx").unlink(missing_ok=True)
    for path in exported.glob("*.onnx"):
        smaller(path, how)
    # What whoever loads the folder gets: exports of some slow tokenizers carry a fast one, which differs from it in places.
    tok = tf.AutoTokenizer.from_pretrained(exported)
    expected = {"sources": TEXTS, "source_ids": [tok(text)["input_ids"] for text in TEXTS], "settings": SETTINGS,
                "max_new_tokens": LONGEST, "generated": generated(model, tok, TEXTS)}
    if how in ("int8", "float16"):
        expected["approximate"] = f"the graphs are {how}, and this is what the float32 model generates"
    (exported / "expected.json").write_text(json.dumps(expected, ensure_ascii=False, indent=1))
    with zipfile.ZipFile(out / f"{name}.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sorted(exported.iterdir()):
            entry = zipfile.ZipInfo(path.name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, path.read_bytes())
    lengths = sorted({len(row["ids"]) for row in expected["generated"]["greedy"]})
    print(f"{name}: {(out / f'{name}.zip').stat().st_size // 1024} KiB, lengths {lengths},",
          expected["generated"]["beam4"][0]["text"][:60], flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--only", nargs="*", default=list(CASES))
    arguments = parser.parse_args()
    root = arguments.keep or Path(tempfile.mkdtemp())
    for case in arguments.only:
        make(case, arguments.out, root / case)
