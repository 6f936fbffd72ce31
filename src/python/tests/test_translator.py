"""Texts in, translations out."""

import asyncio
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context

import pytest
import s2s

_opened = None


def test_a_text_gives_a_text_and_a_list_gives_a_list_in_its_order(translator):
    assert translator.translate("April 3, 1999") == "1999-04-03"
    assert translator.translate(["April 3, 1999", "5 May 2001"]) == ["1999-04-03", "2001-05-05"]
    assert translator.translate(text for text in ("5 May 2001",)) == ["2001-05-05"]
    assert translator.translate([]) == []


def test_two_thousand_texts_are_what_the_program_says_batched_or_not(translator, texts, dates, program):
    together = translator.translate(texts)
    assert together == [translator.translate(text) for text in texts[:200]] + together[200:]
    said = program("translate", dates, given="\n".join(texts))
    assert said.stdout.splitlines() == together
    one = s2s.Translator.open(dates, workers=1, max_batch_size=7)
    assert one.translate(texts) == together
    assert list(translator.translate_iter(iter(texts), block=300)) == together


@pytest.mark.parametrize("engine", ["tract", "ort"])
def test_both_engines_say_the_same_and_onnxruntime_is_found_where_this_python_has_it(engine, dates, texts, translator):
    other = s2s.Translator.open(dates, engine=engine)
    assert other.engine == engine
    assert other.translate(texts[:300]) == translator.translate(texts[:300])


def test_n_best_are_the_best_first_and_what_the_program_gives(translator, dates, program):
    best = translator.n_best("April 3, 1999", 3)
    assert [one.score for one in best] == sorted((one.score for one in best), reverse=True)
    said = program("translate", dates, "April 3, 1999", "--num-return-sequences", 3).stdout.splitlines()
    assert [line.split("\t")[2] for line in said] == [one.text for one in best]
    assert [len(all) for all in translator.n_best(["5 May 2001", "6 June 2002"], 2)] == [2, 2]
    drawn = translator.n_best("5 May 2001", 4, do_sample=True, seed=3, temperature=5.0)
    assert len({one.text for one in drawn}) > 1


def test_a_score_is_what_decoding_reports_and_another_text_is_less_probable(translator, texts):
    some = texts[:100]
    found = translator.details(some, output={"token_scores": True, "scores": True})
    scores = translator.score(some, [one.text for one in found])
    for score, translation in zip(scores, found, strict=True):
        best = translation.hypotheses[0]
        if best.finish == "eos":
            assert score.token_scores == best.token_scores
            assert score.tokens == best.tokens
            assert score.log_p == pytest.approx(sum(best.token_scores), abs=1e-5)
    right, wrong = (translator.score("April 3, 1999", day) for day in ("1999-04-03", "1999-04-13"))
    assert float(right) == right.log_p > wrong.log_p
    alone = [translator.score(source, one.text).log_p for source, one in zip(some[:20], found, strict=False)]
    assert alone == [score.log_p for score in scores[:20]]


def test_attention_is_an_array_of_target_by_source_whose_rows_sum_to_one(attention):
    translator = s2s.Translator.open(attention.path)
    found = translator.details("5 may 2001", output={"attention": True}).hypotheses[0]
    assert found.attention.shape == (len(found.tokens), len("5 may 2001"))
    assert found.attention.dtype == "float32"
    assert abs(found.attention.sum(axis=1) - 1).max() < 1e-5
    assert translator.details("5 may 2001").hypotheses[0].attention is None
    forced = translator.score("5 may 2001", found.text, output={"attention": True})
    assert (forced.attention == found.attention).all()


def test_the_pieces_of_a_stream_are_the_translation(translator, attention):
    stream = translator.stream("April 3, 1999")
    pieces = list(stream)
    assert len(pieces) > 3 and "".join(pieces) == stream.result.text == "1999-04-03"

    async def gather(text):
        stream = translator.stream(text)
        return "".join([piece async for piece in stream])

    async def several():
        return await asyncio.gather(gather("5 May 2001"), gather("April 3, 1999"))

    assert asyncio.run(several()) == ["2001-05-05", "1999-04-03"]
    stream = translator.stream("April 3, 1999")
    first = next(stream)
    stream.cancel()
    assert "".join([first, *stream]) == stream.result.text != "1999-04-03"
    assert stream.result.hypotheses[0].finish == "cancelled"


def test_errors_say_what_would_be_right(translator, tmp_path):
    with pytest.raises(s2s.ConfigError, match="unknown key `num_beam`") as found:
        translator.translate("x", num_beam=3)
    assert "num_beams" in found.value.help
    with pytest.raises(ValueError, match="`num_beams`: 0 is not between 1 and 1024"):
        translator.translate("x", num_beams=0)
    with pytest.raises(s2s.InputError, match="日"):
        translator.translate(["5 May 2001", "日"], unknown="error")
    with pytest.raises(s2s.TooLongError):
        translator.translate("5 May 2001" * 1000)
    with pytest.raises(s2s.BundleError) as found:
        s2s.Translator.open(tmp_path)
    assert found.value.file == str(tmp_path) and "s2s export" in found.value.help
    with pytest.raises(OSError, match="no such file"):
        s2s.Translator.open(tmp_path / "nothing")
    with pytest.raises(s2s.UsageError):
        s2s.Translator.open(tmp_path, engine="torch")
    with pytest.raises(TypeError, match="text 1 is no str"):
        translator.translate(["a", 3])
    with pytest.raises(s2s.UsageError):
        translator.score(["a", "b"], ["a"])
    again = pickle.loads(pickle.dumps(found.value))
    assert (type(again), str(again), again.file) == (s2s.BundleError, str(found.value), found.value.file)


def test_one_bad_text_does_not_fail_the_others_where_errors_are_returned(translator):
    found = translator.translate(["5 May 2001", "\ud800", "日", "6 June 2002"], errors="return", unknown="error")
    assert found[0] == "2001-05-05" and found[3] == "2002-06-06"
    assert all(isinstance(error, s2s.InputError) for error in found[1:3])
    with pytest.raises(s2s.UsageError):
        translator.translate(["5 May 2001"], errors="ignore")


def test_threads_share_a_translator_and_others_run_meanwhile(translator, texts):
    expected = translator.translate(texts)
    with ThreadPoolExecutor(8) as pool:
        parts = [texts[i::8] for i in range(8)]
        for i, part in enumerate(pool.map(translator.translate, parts)):
            assert part == expected[i::8]
        assert list(pool.map(translator.translate, texts[:200])) == expected[:200]
    counted, stop = [0], threading.Event()

    def count():
        while not stop.wait(0.001):
            counted[0] += 1

    counter = threading.Thread(target=count)
    counter.start()
    translator.translate(texts * 5)
    stop.set()
    counter.join()
    assert counted[0] > 5, "another thread of Python stood still while the engine worked"


def _translate_here(text):
    return _opened.translate(text), os.getpid()


def test_a_forked_process_opens_the_bundle_anew(translator, texts):
    global _opened
    expected = translator.translate(texts[:40])
    _opened = translator
    with get_context("fork").Pool(2) as pool:
        found = pool.map(_translate_here, texts[:40])
    assert [text for text, _ in found] == expected
    assert os.getpid() not in {process for _, process in found}
    # The parent's engines are as they were.
    assert translator.translate(texts[:40]) == expected


def test_a_pickled_translator_is_its_path_and_options(dates, texts):
    translator = s2s.Translator.open(os.path.relpath(dates), engine="tract", workers=1, max_batch_size=3)
    again = pickle.loads(pickle.dumps(translator))
    assert repr(again) == repr(translator) and again.workers == 1
    with get_context("spawn").Pool(1) as pool:
        assert pool.map(translator.translate, texts[:3]) == translator.translate(texts[:3])


def test_control_c_stops_many_texts(dates):
    script = (
        "import sys, s2s\n"
        "translator = s2s.Translator.open(sys.argv[1])\n"
        "texts = ['April 3, 1999'] * 3_000_000\n"
        "print('begun', flush=True)\n"
        "translator.translate(texts)\n"
    )
    # Whoever runs the tests in the background may have it ignored.
    process = subprocess.Popen(
        [sys.executable, "-c", script, dates],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert said.rstrip().endswith("KeyboardInterrupt") and process.returncode != 0


def test_folders_of_optimum_are_opened_too(program):
    from conftest import ROOT

    folder = ROOT / "tests" / "optimum" / "marian.zip"
    translator = s2s.Translator.open(folder)
    sources = ["hello", "good morning"]
    found = translator.translate(sources, num_beams=2)
    said = program("translate", folder, *sources, "--num-beams", 2, "--json").stdout.splitlines()
    assert found == [json.loads(line)["text"] for line in said]
    assert translator.bundle.graphs.keys() >= {"encoder", "decoder"}
