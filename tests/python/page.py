"""The page of `s2s serve-local` as people use it, in a headless Chromium that is spoken to over a pipe.

    python page.py CHROMIUM OPEN KEYED [--pictures FOLDER]

OPEN is the address of a server of exported/dates and of a model called `hebrew`, which has attention and writes Hebrew letters;
KEYED that of a server of exported/dates whose key is `secret`. Prints a line for each sentence that holds or does not.
"""

import argparse
import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

LIMIT = 20  # Seconds that anything may take.
# What quoting gets wrong, if it gets anything wrong.
AWKWARD = ["it's \"quoted\" $HOME `id` \\n %41 !! #", "\u202e\u05d0\u05d1 \u0007\u2028\ufeff \U0001f600 caf\u00e9 \u6625", "--help & @file | <tag> * ? ~ ; {a,b} \\"]


class Browser:
    """Chromium with its debugging protocol on the file descriptors 3 and 4: messages of JSON that end with a zero byte."""

    def __init__(self, program, profile):
        pipes = [*os.pipe(), *os.pipe()]
        # Out of the way of the numbers that the browser wants.
        theirs, self.to, self.back, their_back = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in pipes)
        for end in pipes:
            os.close(end)
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-extensions", "--disable-background-networking"]
        flags += ["--disable-component-update", "--disable-sync", "--hide-scrollbars", "--remote-debugging-pipe", f"--user-data-dir={profile}"]

        def connect():
            os.dup2(theirs, 3)
            os.dup2(their_back, 4)

        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen([program, *flags], preexec_fn=connect, close_fds=False, stdin=quiet, stdout=quiet, stderr=quiet)
        os.close(theirs)
        os.close(their_back)
        self.count, self.waiting, self.events = 0, b"", []

    def message(self, until):
        while b"\0" not in self.waiting:
            ready, _, _ = select.select([self.back], [], [], max(until - time.monotonic(), 0))
            if not ready:
                raise TimeoutError("the browser does not answer")
            got = os.read(self.back, 1 << 16)
            if not got:
                raise ConnectionError("the browser has ended")
            self.waiting += got
        one, self.waiting = self.waiting.split(b"\0", 1)
        return json.loads(one)

    def send(self, method, session=None, **parameters):
        self.count += 1
        message = {"id": self.count, "method": method, "params": parameters, **({"sessionId": session} if session else {})}
        left = json.dumps(message).encode() + b"\0"
        while left:
            left = left[os.write(self.to, left) :]
        until = time.monotonic() + LIMIT
        while True:
            answer = self.message(until)
            if answer.get("id") == self.count:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def end(self):
        self.process.kill()
        self.process.wait()


class Page:
    """A tab with a profile of its own."""

    def __init__(self, browser, url, languages="en-US,en", dark=False, size=(1280, 900), phone=False):
        self.browser = browser
        self.context = browser.send("Target.createBrowserContext")["browserContextId"]
        origin = url.split("#")[0].rstrip("/")
        browser.send("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"], origin=origin, browserContextId=self.context)
        target = browser.send("Target.createTarget", url="about:blank", browserContextId=self.context)["targetId"]
        self.session = browser.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log", "Accessibility"):
            self.send(f"{domain}.enable")
        agent = browser.send("Browser.getVersion")["userAgent"]
        self.send("Emulation.setUserAgentOverride", userAgent=agent, acceptLanguage=languages)
        self.send("Emulation.setFocusEmulationEnabled", enabled=True)
        self.send("Emulation.setDeviceMetricsOverride", width=size[0], height=size[1], deviceScaleFactor=2 if phone else 1, mobile=phone)
        if phone:
            self.send("Emulation.setTouchEmulationEnabled", enabled=True)
        self.dark(dark)
        self.go(url)

    def send(self, method, **parameters):
        return self.browser.send(method, self.session, **parameters)

    def go(self, url):
        self.send("Page.navigate", url=url)
        self.until("document.readyState === 'complete' && document.getElementById('run') !== null && (models.length > 0 || problem[0] !== null)")

    def reload(self):
        self.js("window.old = true")
        self.send("Page.reload")
        self.until("window.old === undefined && document.readyState === 'complete' && (models.length > 0 || problem[0] !== null)")

    def dark(self, on):
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if on else "light"}])

    def js(self, expression):
        found = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True, userGesture=True)
        if "exceptionDetails" in found:
            raise RuntimeError(f"{expression}: {found['exceptionDetails'].get('exception', {}).get('description')}")
        return found["result"].get("value")

    def until(self, expression, what=None):
        """Waits until the expression is true; gives its value."""
        end = time.monotonic() + LIMIT
        while True:
            try:
                value = self.js(expression)
            except RuntimeError:
                value = None  # Between two documents there is nothing to ask.
            if value:
                return value
            if time.monotonic() > end:
                raise AssertionError(f"never: {what or expression}; the page says {self.js('document.body.innerText')[:600]!r}")
            time.sleep(0.02)

    def click(self, selector):
        box = self.js(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.scrollIntoView({{ block: 'center' }});"
            " const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def type(self, text):
        self.send("Input.insertText", text=text)

    def press(self, key, code=0, text=None, modifiers=0):
        more = {"text": text} if text else {}
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, modifiers=modifiers, **(more if kind == "keyDown" else {}))

    def write(self, text):
        """Puts a text in the place of the one that is there, by the keyboard."""
        self.click("#input")
        self.press("a", 65, modifiers=2)
        self.press("Backspace", 8)
        for number, line in enumerate(text.split("\n")):
            if number:
                self.press("Enter", 13, "\r")
            if line:
                self.type(line)

    def lines(self):
        """The lines of the output once they are all there."""
        self.until("job && job.took !== null && !document.querySelector('#output .busy')", "the output is complete")
        return self.js("[...document.querySelectorAll('#output p')].map((line) => line.textContent)")

    def sent(self):
        """Texts that went to the server so far."""
        self.js("1")  # Events that have happened come before the answer.
        requests = [event["params"]["request"] for event in self.browser.events if event.get("sessionId") == self.session and event["method"] == "Network.requestWillBeSent"]
        return [json.loads(request["postData"])["text_input"] for request in requests if request["url"].endswith("/generate_stream")]

    def text(self, selector):
        return self.js(f"document.querySelector({json.dumps(selector)}).innerText")

    def shown(self, selector):
        return self.js(f"document.querySelector({json.dumps(selector)}).checkVisibility()")

    def picture(self, file, clip=None):
        made = self.send("Page.captureScreenshot", format="png", **({"clip": {**clip, "scale": 1}} if clip else {}))
        Path(file).write_bytes(base64.b64decode(made["data"]))

    def close(self):
        self.browser.send("Target.disposeBrowserContext", browserContextId=self.context)


# ---- what holds


def every_line_is_translated_by_itself_and_line_breaks_stay(browser, open_, _):
    page = Page(browser, open_)
    page.write("Sunday, May the 3rd, 1998\n\n29 feb 2024")
    page.until("job?.lines.length === 3")
    assert page.lines() == ["1998-05-03", "", "2024-02-29"], page.lines()
    page.until("!document.getElementById('copy').disabled")
    page.click("#copy")
    assert page.until("navigator.clipboard.readText()").replace("\r\n", "\n") == "1998-05-03\n\n2024-02-29"
    # Lines that stay are not sent again.
    before = len(page.sent())
    page.type(" ")
    page.until("job?.lines[2].endsWith('4 ')")
    page.lines()
    assert page.sent()[before:] == ["29 feb 2024 "], page.sent()[before:]
    # A line that is refused takes no other with it.
    page.js("document.getElementById('options').elements.unknown.value = 'error'")
    page.write("2001.9.11\n\u6625\u306e\u65e5\n29 feb 2024")
    page.until("job?.lines.length === 3 && job.took !== null && problem[0] !== null")
    assert page.lines() == ["2001-09-11", "", "2024-02-29"], page.lines()
    assert page.text("#error-text").startswith("Line 2: "), page.text("#error-text")
    return page


def nothing_is_sent_while_an_input_method_composes(browser, open_, _):
    page = Page(browser, open_)
    page.click("#input")
    page.type("12 ")
    page.lines()
    before = page.sent()
    for part in ("m", "ma", "may"):
        page.send("Input.imeSetComposition", text=part, selectionStart=len(part), selectionEnd=len(part))
        page.press("Process", 229)
        page.press("Enter", 229, modifiers=2)
        time.sleep(0.3)  # Longer than the page waits after a key.
    assert page.js("document.getElementById('input').value") == "12 may"
    assert page.sent() == before, page.sent()
    page.type("May 2031")
    page.until("job?.lines[0] === '12 May 2031'")
    assert page.lines() == ["2031-05-12"], page.lines()
    assert page.sent()[len(before) :] == ["12 May 2031"], page.sent()
    return page


def every_line_runs_in_the_direction_of_its_script(browser, open_, _):
    page = Page(browser, open_ + "#model=hebrew")
    assert page.js("model().name") == "hebrew"
    page.write("abc def\n\u05e9\u05dc\u05d5\u05dd")
    page.until("job?.lines.length === 2")
    outputs = page.lines()
    assert all("\u05d0" <= letter <= "\u05ea" for letter in outputs[0].replace(" ", "")) and outputs[0].strip(), outputs
    assert page.js("[...document.querySelectorAll('#output p')].map((line) => getComputedStyle(line).direction)")[0] == "rtl"
    page.write("\u05e9\u05dc\u05d5\u05dd")
    assert page.js("getComputedStyle(document.getElementById('input')).direction") == "rtl"
    page.write("abc")
    assert page.js("getComputedStyle(document.getElementById('input')).direction") == "ltr"
    assert page.js("document.getElementById('input').lang + document.getElementById('output').lang") == "enhe"
    return page


def the_legend_of_the_attention_is_right_in_the_light_and_in_the_dark(browser, open_, _):
    page = Page(browser, open_ + "#model=hebrew&text=hello%20there")
    page.until("document.querySelector('#heat td[title]') !== null")
    for dark in (False, True):
        page.dark(dark)
        look = """(() => {
          const parts = (text) => text.match(/[\\d.]+/g).map(Number), style = (s) => getComputedStyle(document.querySelector(s));
          const cells = [...document.querySelectorAll('#heat td[title]')].map((td) => [Number(td.title), parts(getComputedStyle(td).backgroundColor)]);
          const ends = style('#scale').backgroundImage.match(/rgba?\\([^)]*\\)/g).map(parts);
          return { cells, ends, panel: parts(style('#attention').backgroundColor), words: document.querySelector('#attention .top').innerText };
        })()"""
        found = page.js(look)
        empty, full = found["ends"]
        assert empty[3] == 0 and full[:3] == empty[:3], found["ends"]
        assert all(cell[:3] == full[:3] for _, cell in found["cells"] if len(cell) > 3 and cell[3] > 0), "cells and legend have one colour"
        assert all(abs((cell[3] if len(cell) > 3 else 1) - weight) < 0.01 for weight, cell in found["cells"]), "a cell is as full as its weight"
        distance = sum(abs(a - b) for a, b in zip(full, found["panel"]))
        assert distance > 200, f"a full cell is hard to see: {found}"
        assert (sum(found["panel"][:3]) < 150) == dark and "darker" not in found["words"], found
    return page


def the_key_dialog_stays_until_the_key_is_right_and_the_key_until_the_tab_is_closed(browser, _, keyed):
    page = Page(browser, keyed)
    page.until("document.getElementById('key-dialog').open")
    page.type("wrong")
    page.press("Enter", 13, "\r")
    page.until("!document.getElementById('key-problem').hidden")
    assert page.js("document.getElementById('key-dialog').open") and "not this server's key" in page.text("#key-problem")
    # What was typed is selected, so that the right one takes its place.
    page.type("\u5bc6\u94a5")
    page.press("Enter", 13, "\r")
    page.until("document.getElementById('key-problem').innerText.includes('ASCII')")
    page.js("document.getElementById('key').select()")
    page.type("secret")
    page.press("Enter", 13, "\r")
    page.until("!document.getElementById('key-dialog').open && models.length")
    page.write("29 feb 2024")
    assert page.lines() == ["2024-02-29"]
    page.reload()
    assert not page.js("document.getElementById('key-dialog').open") and page.js("models.length") == 1
    # A key that is no longer right is asked for again, and can be put off.
    page.js("key = 'old'; sessionStorage['s2s.key'] = 'old'")
    page.write("29 feb 2023")
    page.until("document.getElementById('key-dialog').open && !document.getElementById('key-problem').hidden")
    page.press("Escape", 27)
    page.until("!document.getElementById('key-dialog').open")
    assert page.shown("#error-key") and page.text("#error-text") == "The key is not this server's."
    page.click("#error-key")
    page.until("document.getElementById('key-dialog').open")
    page.type("secret")
    page.press("Enter", 13, "\r")
    page.until("!document.getElementById('key-dialog').open")
    assert page.lines() == ["2023-03-01"] or page.lines()[0].startswith("2023-"), page.lines()
    return page


def examples_of_the_bundle_are_a_click_away(browser, open_, _):
    page = Page(browser, open_)
    examples = page.js("[...document.querySelectorAll('#examples button')].map((button) => button.textContent)")
    assert 0 < len(examples) <= 5, examples
    page.click("#examples button:nth-child(2)")
    page.until(f"document.getElementById('input').value === {json.dumps(examples[1])}")
    assert len(page.lines()[0]) == len("1998-05-03"), page.lines()
    assert page.js("document.activeElement.id") == "input", page.js("document.activeElement.outerHTML")
    # What was there before is not lost.
    page.js("document.execCommand('undo')")
    assert page.js("document.getElementById('input').value") == "", "an example can be undone"
    page.js("document.getElementById('model').value = 'hebrew'; document.getElementById('model').dispatchEvent(new Event('change'))")
    assert not page.shown("#examples"), "this model has none"
    return page


def the_page_speaks_the_browsers_language_and_another_where_asked(browser, open_, _):
    for languages, expected in [("zh-CN,zh", "zh-Hans"), ("en-US,en", "en"), ("fr,zh-TW,en", "zh-Hans"), ("fr,de", "en")]:
        page = Page(browser, open_, languages)
        assert page.js("document.documentElement.lang") == expected, (languages, page.js("navigator.languages"))
        page.close()
    keys = "JSON.stringify(Object.entries(STRINGS).map(([, s]) => [s, s.errors, s.cards, s.reasons].map(Object.keys)))"
    page = Page(browser, open_, "zh-CN,zh")
    english, chinese = json.loads(page.js(keys))
    assert english == chinese, "a word is missing in one language"
    assert page.text("#run") == "\u7ffb\u8bd1"
    missing = "[...document.querySelectorAll('[data-text],[data-label],[data-placeholder]')].flatMap((e) => Object.values(e.dataset)).filter((w) => !(w in words) && !/^(beam|sample|beam sample)$/.test(w))"
    assert page.js(missing) == [], page.js(missing)
    page.js("document.getElementById('language').value = 'en'; document.getElementById('language').dispatchEvent(new Event('change'))")
    assert page.text("#run") == "Translate"
    page.reload()
    assert page.text("#run") == "Translate", "the choice is remembered"
    return page


def the_copied_request_does_the_same_outside_of_the_page(browser, open_, keyed):
    for url, key in [(open_, None), (keyed, "secret")]:
        page = Page(browser, url + "#code&method=beam")
        if key:
            page.until("document.getElementById('key-dialog').open")
            page.type(key)
            page.press("Enter", 13, "\r")
            page.until("!document.getElementById('key-dialog').open && models.length")
        for text in [*AWKWARD, "3rd of April, 1999\n\n29 feb 2024"] if not key else ["29 feb 2024"]:
            page.js(f"document.getElementById('input').value = {json.dumps(text)}; document.getElementById('input').dispatchEvent(new Event('input'))")
            page.until(f"job?.lines.join('\\n') === {json.dumps(text)}")
            expected = [line for line, source in zip(page.lines(), text.split("\n")) if source.strip()]
            commands = {"curl": ["sh"], "python": [sys.executable, "-"], "javascript": [shutil.which("node"), "--input-type=module", "-"]}
            for kind, command in commands.items():
                page.js(f"document.querySelector('input[value={kind}]').click()")
                page.click("#copy-code")
                code = page.until("navigator.clipboard.readText()")
                assert key is None or key not in code, "a key does not belong into what is copied"
                if kind == "javascript" and not (command[0] and has_fetch(command[0])):
                    continue
                environment = {**os.environ, "S2S_API_KEY": key or ""}
                done = subprocess.run(command, input=code.replace("YOUR_KEY", key or ""), capture_output=True, text=True, encoding="utf-8", env=environment, timeout=LIMIT)
                assert done.returncode == 0, f"{kind}: {done.stderr}\n{code}"
                if kind == "curl":
                    answers, rest = [], done.stdout.strip()
                    while rest:
                        answer, end = json.JSONDecoder().raw_decode(rest)
                        answers.append(answer["text_output"])
                        rest = rest[end:].lstrip()
                else:
                    answers = done.stdout.split("\n")[:-1]
                assert answers == expected, f"{kind}: {answers} instead of {expected}\n{code}"
        page.close()


def has_fetch(node):
    return subprocess.run([node, "-e", "fetch"], capture_output=True).returncode == 0


def errors_say_in_plain_words_what_to_do(browser, open_, _):
    page = Page(browser, open_)
    page.js("document.getElementById('input').value = 'a'.repeat(70000); document.getElementById('input').dispatchEvent(new Event('input'))")
    page.until("problem[0] !== null")
    assert page.text("#error-text") == "This text is longer than the server allows. Shorten it, or break it into several lines.", page.text("#error")
    page.send("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0)
    page.write("29 feb 2024")
    page.until("problem[0]?.type === 'offline'")
    assert "Is `s2s serve-local` still running?" in page.text("#error-text") and not any(c.isdigit() for c in page.text("#error").replace("s2s", ""))
    page.send("Network.emulateNetworkConditions", offline=False, latency=0, downloadThroughput=-1, uploadThroughput=-1)
    # It goes on by itself.
    page.until("problem[0] === null && models.length && job")
    assert page.lines() == ["2024-02-29"]
    page.write("\u6625 29 feb 2024")
    page.until("!document.getElementById('notice').hidden")
    assert "\u201c\u6625\u201d" in page.text("#notice"), page.text("#notice")
    browser.events.clear()
    return page


def whoever_uses_a_keyboard_or_a_screen_reader_finds_everything(browser, open_, _):
    for languages in ("en", "zh-CN"):
        page = Page(browser, open_, languages)
        page.js("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        roles = {"button", "textbox", "combobox", "checkbox", "radio", "spinbutton", "link", "searchbox"}
        nodes = [n for n in page.send("Accessibility.getFullAXTree")["nodes"] if not n.get("ignored") and n.get("role", {}).get("value") in roles]
        nameless = [n for n in nodes if not n.get("name", {}).get("value", "").strip()]
        assert len(nodes) > 20 and not nameless, nameless
        page.js("document.getElementById('live').checked = false")
        page.write("29 feb 2024")
        time.sleep(0.3)
        assert page.sent() == []
        page.press("Enter", 13, modifiers=2)
        assert page.lines() == ["2024-02-29"] and page.js("document.getElementById('input').value") == "29 feb 2024"
        page.until("document.getElementById('said').textContent === '2024-02-29'", "the output is announced")
        # From the text, Tab goes to the examples and on to the button.
        page.click("#input")
        reached = []
        for _ in range(12):
            page.press("Tab", 9)
            reached.append(page.js("document.activeElement.id || document.activeElement.parentElement.id"))
        assert {"examples", "run", "copy", "live"} <= set(reached), reached
        page.close()


def the_page_fits_a_phone_in_both_languages(browser, open_, _):
    for languages in ("en", "zh-CN"):
        page = Page(browser, open_ + "#model=hebrew&code&method=beam&text=" + "abc%20" * 20, languages, size=(360, 740), phone=True)
        page.lines()
        page.js("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        time.sleep(0.1)
        assert page.js("document.documentElement.scrollWidth") <= 360, page.js("document.documentElement.scrollWidth")
        small = "[...document.querySelectorAll('button, select')].filter((b) => b.checkVisibility() && b.getBoundingClientRect().height < 36).map((b) => b.id)"
        assert page.js(small) == [], page.js(small)
        page.close()


CHECKS = [
    every_line_is_translated_by_itself_and_line_breaks_stay,
    nothing_is_sent_while_an_input_method_composes,
    every_line_runs_in_the_direction_of_its_script,
    the_legend_of_the_attention_is_right_in_the_light_and_in_the_dark,
    the_key_dialog_stays_until_the_key_is_right_and_the_key_until_the_tab_is_closed,
    examples_of_the_bundle_are_a_click_away,
    the_page_speaks_the_browsers_language_and_another_where_asked,
    the_copied_request_does_the_same_outside_of_the_page,
    errors_say_in_plain_words_what_to_do,
    whoever_uses_a_keyboard_or_a_screen_reader_finds_everything,
    the_page_fits_a_phone_in_both_languages,
]


def complaints(browser, addresses):
    """What the browser's console says of the page itself, and what went elsewhere."""
    found = []
    for event in browser.events:
        parameters = event.get("params", {})
        entry = parameters.get("entry", {})
        # That a request was refused is logged as an error too; those are provoked here.
        if event["method"] == "Runtime.exceptionThrown" or (event["method"] == "Log.entryAdded" and entry["level"] == "error" and entry["source"] != "network"):
            found.append(json.dumps(parameters)[:500])
        if event["method"] == "Network.requestWillBeSent":
            url = parameters["request"]["url"]
            if not url.startswith((*addresses, "data:", "blob:", "about:")):
                found.append(f"a request to {url}")
    return found


def pictures(browser, open_, keyed, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for language in ("en", "zh-CN"):
        for dark in (False, True):
            for name, size in (("desktop", (1200, 900)), ("phone", (390, 844))):
                label = f"{name}-{language[:2]}-{'dark' if dark else 'light'}"
                page = Page(browser, open_, language, dark, size, name == "phone")
                page.picture(folder / f"{label}-empty.png")
                page.write("Sunday, May the 3rd, 1998\n29 feb 2024\n7.12.1987")
                page.until("job?.lines.length === 3")
                page.lines()
                time.sleep(0.2)
                page.picture(folder / f"{label}.png")
                page.close()
                page = Page(browser, open_ + "#model=hebrew&code&graphs&method=beam&text=hello%20there", language, dark, size, name == "phone")
                page.lines()
                page.until("document.getElementById('picture').complete && document.getElementById('picture').naturalWidth > 0")
                height = page.js("document.documentElement.scrollHeight")
                page.send("Emulation.setDeviceMetricsOverride", width=size[0], height=height, deviceScaleFactor=1, mobile=name == "phone")
                time.sleep(0.2)
                page.picture(folder / f"{label}-all.png")
                page.close()
                page = Page(browser, keyed, language, dark, size, name == "phone")
                page.type("wrong")
                page.press("Enter", 13, "\r")
                page.until("!document.getElementById('key-problem').hidden")
                page.picture(folder / f"{label}-key.png")
                page.press("Escape", 27)
                page.until("!document.getElementById('key-dialog').open")
                page.picture(folder / f"{label}-error.png")
                page.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chromium")
    parser.add_argument("open")
    parser.add_argument("keyed")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER")
    parser.add_argument("--only", default="", metavar="PART", help="sentences whose name has this part")
    args = parser.parse_args()
    open_, keyed = args.open.rstrip("/") + "/", args.keyed.rstrip("/") + "/"
    failed = 0
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(args.chromium, profile)
        try:
            for check in CHECKS if not args.pictures else []:
                if args.only not in check.__name__:
                    continue
                begin, browser.events = time.monotonic(), []
                try:
                    page = check(browser, open_, keyed)
                    found = complaints(browser, (open_, keyed))
                    assert not found, f"the browser complains: {found}"
                    if page:
                        page.close()
                    print(f"ok    {check.__name__}: {time.monotonic() - begin:.1f} s", flush=True)
                except (AssertionError, RuntimeError, OSError, subprocess.SubprocessError) as error:
                    failed += 1
                    where = traceback.extract_tb(error.__traceback__)[1 if len(traceback.extract_tb(error.__traceback__)) > 1 else 0]
                    print(f"FAIL  {check.__name__}, line {where.lineno}: {error}", flush=True)
            if args.pictures:
                pictures(browser, open_, keyed, args.pictures)
        finally:
            browser.end()
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
