"""Makes the folders beside it: small tokenizers of every kind, and what transformers makes of hard lines.

    python make.py [OUT [LINES]]

Needs transformers 4.57, tokenizers, sentencepiece. Without arguments it writes the committed folders, whose models
have some 200 pieces and few rules. With a folder OUT it writes larger ones there (`nmt_nfkc`, 4,000 pieces), and
LINES lines (2,000) of each script, taken from the sentence pairs in $S2S_DATA/manythings; the test
`ids_and_texts_equal_those_of_transformers` reads them where S2S_TOKENISERS names OUT.
"""

import io, json, os, random, shutil, sys, tempfile, time
from pathlib import Path

import sentencepiece as spm
import tokenizers as tk
import transformers as tf
from sentencepiece import sentencepiece_model_pb2
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = Path(__file__).resolve().parent
LARGE = len(sys.argv) > 1
OUT = Path(sys.argv[1]) if LARGE else HERE
COUNT = int(sys.argv[2]) if len(sys.argv) > 2 else 2000
draw = random.Random(7)

ARABIC = "السلام عليكم ورحمة الله في البيت الكبير مدرسة كتاب قلم مُحَمَّد شُكرًا أهلاً ٣٤٥ لا إله؟ يوم جديد، نعم".split()
EMOJI = list("😀😂🥰👍🏽🎉🔥🚀") + ["👨‍👩‍👧‍👦", "🇫🇷", "❤️", "🏳️‍🌈", "1️⃣", "☎︎", "👩🏿‍🚀"]
SPACES = [
    " ",
    "  ",
    "\t",
    "\u00a0",
    "\u3000",
    "\u2009",
    "\u200b",
    "\u2028",
    "\r\n",
    "\u200d",
    "\ufeff",
    "\u00ad",
    "   ",
]
LATIN = "The cat isn't here , is it ? Où est l'été ? Ça va ! I 'm sure they 've done it . straße naïve coöperate ﬁne Ⅷ ½".split()
CJK = list("我們今天不去學校因為下雨。你好，世界！東京ｶﾀｶﾅＡＢＣ한국어")
HARD = [
    "",
    " ",
    "  ",
    "a",
    " a",
    "a ",
    "  a  b  ",
    "▁",
    "▁a",
    "a▁b",
    "</s>",
    "a </s> b",
    "<unk>",
    "<s>a",
    "\u0000",
    "e\u0301",
    "é",
    "ﷺ",
    "İ",
    "ß",
    "™x",
    "①",
    "¼",
    "don't",
    "do n't .",
    " ' ' s ",
    "a . b , c ! d ?",
    "<0x41>",
    "<0xE2>",
    "\U0010ffff",
    "\u0301",
    "<extra_id_0> x",
    ">>fra<< Hello",
    ">>fra<<Hello",
    ">>zzz<< x",
    "a >>fra<< b",
    "__en__ x",
    "en_XX x",
    "eng_Latn x",
    "x <mask> y",
    "<mask_1>",
    "Hello <extra_id_1>",
    "aaaaaaaaaaaaaaaaaaaaaaaa",
    "......",
    "1234567890",
    "日本語",
    "日本 語",
    "한국",
    "ก็",
    "नमस्ते",
    "x\u2581y",
    "\u2581\u2581",
    "\n",
    "a\nb",
    "a\tb",
    "<pad>x</s>",
    "##a",
    "[UNK]",
    "[CLS] a",
    "</s></s>",
    "x</s>",
]


def pairs():
    root = os.environ.get("S2S_DATA")
    if not root:
        return [], []
    latin, cjk = [], []
    for line in (Path(root) / "manythings/fra.txt").read_text(encoding="utf-8").splitlines():
        latin += line.split("\t")[:2]
    for line in (Path(root) / "manythings/cmn-tw.txt").read_text(encoding="utf-8").splitlines():
        cjk.append(line.split("\t")[1])
    return latin, cjk


def some(words, joints, most):
    return "".join(w + draw.choice(joints) for w in draw.choices(words, k=draw.randint(1, most))).strip("\n")


def lines():
    """Lines by script."""
    latin, cjk = pairs() if LARGE else ([], [])
    count = COUNT if LARGE else 12
    pick = lambda texts, words, joint: draw.sample(texts, min(count, len(texts))) + [
        some(words, joint, 6) for _ in range(max(0, count - len(texts)))
    ]
    mixed = LATIN + CJK[:12] + ARABIC + EMOJI
    return {
        "latin": pick(latin, LATIN, [" "]),
        "cjk": pick(cjk, CJK, [""]),
        "arabic": [some(ARABIC, [" ", " ", "، "], 8) for _ in range(count)],
        "emoji": [some(EMOJI + LATIN[:6], ["", " "], 8) for _ in range(count)],
        "spaces": [draw.choice(SPACES) * draw.randint(0, 1) + some(mixed, SPACES, 6) for _ in range(count)],
        "hard": HARD,
    }


LINES = lines()
ALL = [line for group in LINES.values() for line in group]
CORPUS = [
    x
    for x in ([w for _ in range(4) for g in LINES.values() for w in g])
    if x.strip() and "\0" not in x and "\U0010ffff" not in x
]
PIECES = 4000 if LARGE else 220
RULES = "FB01\t66 69\n2167\t56 49 49 49\n3000\t20\nA0\t20\n9\t20\nA\t20\nFF21\t41\nFF22\t42\n2122\t54 4D\n65 301\tE9\nAD\t\n200B\t20\nFDFA\t635 644 649 20 627 644 644 647\n"


def train(name, **options):
    with tempfile.TemporaryDirectory() as folder:
        rules = Path(folder) / "rules.tsv"
        rules.write_text(RULES)
        norm = {} if LARGE else {"normalization_rule_tsv": str(rules)}
        model = io.BytesIO()
        corpus = [line.replace("\r", " ").replace("\n", " ") for line in CORPUS]
        options = {
            "vocab_size": PIECES,
            "hard_vocab_limit": False,
            "character_coverage": 0.98,
            **norm,
            **options,
        }
        spm.SentencePieceTrainer.train(
            sentence_iterator=iter(corpus), model_writer=model, minloglevel=2, num_threads=1, **options
        )
        path = Path(tempfile.mkdtemp()) / f"{name}.model"
        proto = sentencepiece_model_pb2.ModelProto.FromString(model.getvalue())
        # Where the rules lay while they were compiled.
        proto.normalizer_spec.ClearField("normalization_rule_tsv")
        path.write_bytes(proto.SerializeToString())
        return str(path)


def write(name, folder, cases, config, **more):
    folder = OUT / name
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "case.json").write_text(
        json.dumps({**more, **cases}, ensure_ascii=True, separators=(",", ":")) + "\n"
    )
    for path in folder.glob("*.json"):
        if path.name != "case.json":
            path.write_text(
                json.dumps(
                    json.loads(path.read_text(encoding="utf-8")), ensure_ascii=False, separators=(",", ":")
                )
                + "\n",
                encoding="utf-8",
            )
    for extra in ("special_tokens_map.json", "merges.txt", "vocab.txt"):
        (folder / extra).unlink(missing_ok=True)


def outcome(size, seconds, ids, wild, decode):
    """What a tokenizer made of all lines, and of ids that no text has."""
    return {
        "size": size,
        **({"seconds": round(seconds, 3)} if LARGE else {}),
        "texts": ALL,
        "ids": ids,
        "decoded": decode(ids),
        "wild": wild,
        "wild_decoded": decode(wild),
    }


def case(name, tokenizer, model_type, size=None, keep=None, drop_added=False, files_only=None, **config):
    """Writes a folder of a tokenizer of transformers."""
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    tokenizer.save_pretrained(folder)
    settings = folder / "tokenizer_config.json"
    values = json.loads(settings.read_text())
    values.update(config)
    if drop_added:
        values.pop("added_tokens_decoder", None)
        values.pop("additional_special_tokens", None)
    settings.write_text(json.dumps(values))
    for unwanted in files_only or []:
        (folder / unwanted).unlink(missing_ok=True)
    kind = type(tokenizer)
    tokenizer = kind.from_pretrained(folder)
    size = size or max(tokenizer.get_vocab().values()) + 1
    begin = time.perf_counter()
    ids = [tokenizer(line)["input_ids"] for line in ALL]
    seconds = time.perf_counter() - begin
    known = [
        i
        for i in range(size)
        if not (
            not tokenizer.is_fast and i not in tokenizer.added_tokens_decoder and i >= tokenizer.vocab_size
        )
    ]
    if name == "pegasus":
        known = [i for i in known if i not in range(105 - 2, 105)]
    wild = [draw.choices(known, k=draw.randint(0, 12)) for _ in range(len(ALL) if LARGE else 40)]
    decode = lambda rows: [tokenizer.decode(row, skip_special_tokens=True) for row in rows]
    cases = outcome(size, seconds, ids, wild, decode)
    write(name, folder, cases, {"model_type": model_type, "vocab_size": size})


def plain(name, model):
    """Writes a model of SentencePiece alone."""
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copy(model, folder / "plain.model")
    processor = spm.SentencePieceProcessor(model_file=model)
    begin = time.perf_counter()
    ids = [processor.encode(line) for line in ALL]
    seconds = time.perf_counter() - begin
    size = processor.get_piece_size()
    ordinary = [i for i in range(size) if not processor.is_unknown(i)]
    wild = [draw.choices(ordinary, k=draw.randint(0, 12)) for _ in range(40)]
    decode = lambda rows: [processor.decode(row).replace(" \u2047 ", "\ufffd") for row in rows]
    cases = outcome(size, seconds, ids, wild, decode)
    write(name, folder, cases, {}, kind="sentencepiece", model="plain.model")


def fast(model, trainer, normalizer=None, cutter=None, decoder=None, around=None, **special):
    tokenizer = tk.Tokenizer(model)
    tokenizer.normalizer, tokenizer.pre_tokenizer, tokenizer.decoder = normalizer, cutter, decoder
    tokenizer.train_from_iterator(CORPUS, trainer)
    if around:
        tokens = [t for t in around.split() if t != "$A"]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=around, special_tokens=[(t, tokenizer.token_to_id(t)) for t in set(tokens)]
        )
    return tf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


NAMES = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    meta = lambda: (pre_tokenizers.Metaspace(), decoders.Metaspace())
    cutter, decoder = meta()
    case(
        "json_unigram",
        fast(
            models.Unigram(),
            trainers.UnigramTrainer(
                vocab_size=PIECES,
                special_tokens=["<pad>", "</s>", "<unk>"],
                unk_token="<unk>",
                show_progress=False,
            ),
            normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(tk.Regex(" {2,}"), " ")]),
            cutter,
            decoder,
            "$A </s>",
            eos_token="</s>",
            unk_token="<unk>",
            pad_token="<pad>",
            model_max_length=64,
            clean_up_tokenization_spaces=True,
        ),
        "t5",
    )
    case(
        "json_byte_level",
        fast(
            models.BPE(),
            trainers.BpeTrainer(
                vocab_size=256 + PIECES,
                special_tokens=SPECIAL,
                initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                show_progress=False,
            ),
            None,
            pre_tokenizers.ByteLevel(add_prefix_space=False),
            decoders.ByteLevel(),
            "<s> $A </s>",
            mask_token="<mask>",
            **NAMES,
        ),
        "bart",
    )
    byte_pieces = [f"<0x{b:02X}>" for b in range(256)]
    bpe = fast(
        models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True),
        trainers.BpeTrainer(
            vocab_size=300 + PIECES,
            special_tokens=SPECIAL + byte_pieces,
            show_progress=False,
            limit_alphabet=80,
        ),
        normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]),
        None,
        decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        ),
        "<s> $A </s>",
        **NAMES,
    )
    raw = json.loads(bpe.backend_tokenizer.to_str())
    raw["added_tokens"] = [t for t in raw["added_tokens"] if not t["content"].startswith("<0x")]
    case(
        "json_byte_fallback",
        tf.PreTrainedTokenizerFast(tokenizer_object=tk.Tokenizer.from_str(json.dumps(raw)), **NAMES),
        "m2m_100",
    )
    case(
        "json_word_piece",
        fast(
            models.WordPiece(unk_token="[UNK]"),
            trainers.WordPieceTrainer(
                vocab_size=PIECES + 200,
                special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]"],
                show_progress=False,
            ),
            normalizers.BertNormalizer(),
            pre_tokenizers.BertPreTokenizer(),
            decoders.WordPiece(),
            "[CLS] $A [SEP]",
            unk_token="[UNK]",
            pad_token="[PAD]",
            cls_token="[CLS]",
            sep_token="[SEP]",
            clean_up_tokenization_spaces=True,
        ),
        "bert",
    )

    unigram = train("unigram", user_defined_symbols=["<sep>", "日本"])
    plain("plain_unigram", unigram)
    bpe = train(
        "bpe", model_type="bpe", byte_fallback=True, vocab_size=PIECES + 300, user_defined_symbols=["<sep>"]
    )
    plain("plain_bpe", bpe)
    plain(
        "plain_kept_spaces",
        train("kept", model_type="bpe", remove_extra_whitespaces=False, add_dummy_prefix=False),
    )

    t5 = train("t5", pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    case("t5", tf.T5Tokenizer(t5, extra_ids=5, legacy=True), "t5")
    case("t5_new", tf.T5Tokenizer(t5, extra_ids=5, legacy=False, clean_up_tokenization_spaces=True), "t5")
    case("t5_fast", tf.T5TokenizerFast(t5, extra_ids=5), "t5", files_only=["spiece.model"])
    case(
        "t5_bpe",
        tf.T5Tokenizer(
            train(
                "t5b",
                model_type="bpe",
                byte_fallback=True,
                vocab_size=PIECES + 300,
                pad_id=0,
                eos_id=1,
                unk_id=2,
                bos_id=-1,
            ),
            extra_ids=3,
            legacy=True,
        ),
        "t5",
    )
    case("byt5", tf.ByT5Tokenizer(), "t5")
    case("byt5_few", tf.ByT5Tokenizer(extra_ids=0), "t5", size=384)

    folder = Path(tempfile.mkdtemp())

    def vocab(path, models, codes):
        tokens = ["</s>", "<unk>"]
        for model in models:
            processor = spm.SentencePieceProcessor(model_file=model)
            tokens += [processor.id_to_piece(i) for i in range(processor.get_piece_size())]
        tokens = list(dict.fromkeys(tokens + codes)) + ["<pad>"]
        (folder / path).write_text(json.dumps({t: i for i, t in enumerate(tokens)}))
        return str(folder / path)

    target = train("target", vocab_size=PIECES - 40)
    both = vocab("vocab.json", [unigram, target], [">>fra<<", ">>deu<<"])
    case(
        "marian",
        tf.MarianTokenizer(unigram, target, both, source_lang="en", target_lang="fr"),
        "marian",
        size=len(json.loads(Path(both).read_text())),
    )
    case(
        "marian_separate",
        tf.MarianTokenizer(
            unigram,
            target,
            vocab("s.json", [unigram], []),
            vocab("t.json", [target], []),
            separate_vocabs=True,
        ),
        "marian",
    )
    m2m = folder / "m2m.json"
    processor = spm.SentencePieceProcessor(model_file=target)
    tokens = dict.fromkeys(
        ["<s>", "<pad>", "</s>", "<unk>"]
        + [processor.id_to_piece(i) for i in range(processor.get_piece_size())]
    )
    m2m.write_text(json.dumps({t: i for i, t in enumerate(tokens)}))
    m2m100 = tf.M2M100Tokenizer(str(m2m), target, src_lang="fr", tgt_lang="en")
    case("m2m100", m2m100, "m2m_100", size=len(tokens) + 108)
    langs = ["eng_Latn", "fra_Latn", "arb_Arab"]
    case("nllb", tf.NllbTokenizer(target, src_lang="fra_Latn", additional_special_tokens=langs), "m2m_100")
    case(
        "nllb_legacy",
        tf.NllbTokenizer(target, additional_special_tokens=langs, legacy_behaviour=True),
        "m2m_100",
    )
    case(
        "nllb_fast",
        tf.NllbTokenizerFast(target, src_lang="fra_Latn", additional_special_tokens=langs),
        "m2m_100",
        files_only=["sentencepiece.bpe.model"],
    )
    case("mbart", tf.MBartTokenizer(target, src_lang="ro_RO"), "mbart")
    case("mbart50", tf.MBart50Tokenizer(target, src_lang="fr_XX"), "mbart")
    peg = train("peg", pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    case("pegasus", tf.PegasusTokenizer(peg), "pegasus", drop_added=not LARGE)


main()
