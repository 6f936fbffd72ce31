"""Writes scores.json: chrF and BLEU of small corpora, and words of texts, as sacreBLEU computes them."""

import logging
import random
import sys

from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.version import __version__

from golden_file import main

logging.getLogger("sacrebleu").setLevel(logging.ERROR)

TOKENISATIONS = ["13a", "zh", "char", "none"]

# One sentence each: a prediction and its references.
CASES = {
    "english": [
        ("The cat sat on the mat.", ["The cat is sitting on the mat.", "There is a cat on the mat."]),
        ("He didn't pay 1,000.50 dollars - only 3-4.", ["He did not pay $1,000.50, only 3-4."]),
        ("Nothing here is right", ["What one expects differs wholly"]),
        ("I'd like to see it, wouldn't you?", ["I would like to see it; would you not?", "I'd like to see that, wouldn't you?"]),
    ],
    "perfect": [("the same text twice", ["the same text twice"]), ("and once more again", ["and once more again"])],
    "chinese": [
        ("我在图书馆看书。", ["我正在图书馆里看书。", "我在圖書館看書。"]),
        ("他說:「你好!」", ["他说:“你好!”"]),
        ("3.5公里,不是4-5公里…", ["是3.5公里,而不是4-5公里……"]),
    ],
    "pronunciation": [("AH0 B AE1 K", ["AE1 B AH0 K"]), ("T EH1 S T", ["T EH1 S T", "T EH1 S T S"]), ("Z", ["Z IY1"])],
    "short": [("a", ["a"]), ("ab", ["ab cd"])],
    "empty predictions": [("", ["something", "else"]), ("a word or two of it", ["a word or two of that"])],
    "nothing right": [("abc def ghi jkl mno", ["pqr stu vwx yz0 123"])],
    "no prediction at all": [("", ["a"]), (" ", ["b"])],
    "longer than a reference": [("one two three four five six", ["one two"]), ("ab", ["abcdefgh"])],
}

TEXTS = [
    "", " ", "a", "Hello, world!", "1,000.5 and 1,000,5", "...", "a.b,c", ",,.,a", "5-4 a-b 5--4", "(a) [b] {c} <d> \"e\" 'f'",
    "don't", "a&amp;b &quot;c&quot; &lt;skipped&gt; <skipped>", "tabs\tand\u00a0spaces\u3000here \x1c now", "x.", ".x", "5.", ".5",
    "价格是3.50元,对吗?", "全角ABC123", "“引号”—破折号…", "日本語のテキスト、です。", "한국어 문장", "€5 £6 ½ ∑ → 𠀀 𝒳", "é è ñ ü",
    "line one\nline two-\njoined", "~!@#$%^&*()_+`-=[]\\{}|;':\",./<>?", "a , b . c", "-5 - 5- -", "⺀ ⼀ ⿰ 〇 ㄅ ㆠ ㈠ ㌀ ︐ ︰ ﾊ 豈",
]


def random_corpus(seed: int) -> list[tuple[str, list[str]]]:
    """Sentences of few words, so that n-grams meet; references are noisy copies."""
    draw = random.Random(seed)
    words = ["ba", "da,", "gu.", "3.5", "x-y", "la", "(mi)", "so!"]

    def noisy(sentence: list[str]) -> str:
        return " ".join(draw.choice(words) if draw.random() < 0.3 else w for w in sentence if draw.random() < 0.9)

    sentences = [[draw.choice(words) for _ in range(draw.randint(1, 12))] for _ in range(40)]
    return [(" ".join(s), [noisy(s) for _ in range(draw.randint(1, 4))]) for s in sentences]


def corpus(name: str, sentences: list[tuple[str, list[str]]]) -> dict:
    most = max(len(references) for _, references in sentences)
    # sacreBLEU wants a list of first references, one of second ones, and so on; None stands for one that is missing.
    streams = [[r[i] if i < len(r) else None for _, r in sentences] for i in range(most)]
    predictions = [p for p, _ in sentences]
    return {
        "name": name,
        "sentences": [{"prediction": p, "references": r} for p, r in sentences],
        "chrf": CHRF().corpus_score(predictions, streams).score,
        "bleu": {t: BLEU(tokenize=t).corpus_score(predictions, streams).score for t in TOKENISATIONS},
    }


def words(text: str) -> dict:
    found = {t: BLEU(tokenize=t)._preprocess_segment(text).split() for t in TOKENISATIONS}
    return {"text": text, **found}


def goldens() -> dict:
    cases = {**CASES, **{f"random {seed}": random_corpus(seed) for seed in range(3)}}
    return {"sacrebleu": __version__, "cases": [corpus(*case) for case in cases.items()], "words": [words(t) for t in TEXTS]}


if __name__ == "__main__":
    sys.exit(main("scores.json", goldens(), separators=(",", ":")))
