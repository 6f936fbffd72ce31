
"use strict";
const $ = (id) => document.getElementById(id);
// Lines that are translated at once; weights of attention that are drawn; letters of code that are shown.
const AT_ONCE = 4, MOST_WEIGHTS = 20000, MOST_CODE = 200000, MOST_KEPT = 500, KEPT_FOR = 60000;
// What is wrong with one line says nothing about the others.
const OF_A_LINE = ["too_long", "invalid_utf8", "invalid_parameter", "internal", "deadline"];
const given = new URLSearchParams(location.hash.slice(1));
// A browser may refuse its stores; without them the page works until it is left.
const remembered = (store, name) => { try { return window[store].getItem(name) ?? ""; } catch { return ""; } };
const remember = (store, name, value) => { try { window[store].setItem(name, value); } catch { /* As above. */ } };
const element = (tag, text, name) => { const made = document.createElement(tag); if (text != null) made.textContent = text; if (name) made.className = name; return made; };

let words = STRINGS.en, models = [], key = remembered("sessionStorage", "s2s.key"), wantsKey = false, ready = false;
let job = null, timer = 0, again = 0, composing = false, problem = [null, 0], drawn = [];
const kept = new Map();

class Refusal extends Error {
  constructor(type, detail) { super(detail ?? type); this.type = type; this.detail = detail; }
}

// ---- language

function speak(tag) {
  words = STRINGS[tag];
  document.documentElement.lang = tag === "zh" ? "zh-Hans" : tag;
  $("language").value = tag;
  for (const [attribute, set] of Object.entries({
    text: (at, said) => { at.textContent = said; }, label: (at, said) => at.setAttribute("aria-label", said), placeholder: (at, said) => { at.placeholder = said; },
  })) {
    for (const at of document.querySelectorAll(`[data-${attribute}]`)) set(at, words[at.dataset[attribute]]);
  }
  if (model()) show();
  if (!job) clear(); else report();
  fail(...problem);
  count();
  code();
}

// ---- errors, in plain words

function fail(refusal, line = 0) {
  problem = [refusal, line];
  $("error").hidden = !refusal;
  if (!refusal) return;
  const plain = Object.hasOwn(words.errors, refusal.type) ? words.errors[refusal.type] : words.otherError;
  const text = line ? words.line(line, plain) : plain;
  // What is said already is not said again.
  if ($("error-text").textContent !== text) $("error-text").textContent = text;
  $("error-detail").textContent = refusal.detail ?? "";
  $("error-detail").hidden = !refusal.detail || ["missing_key", "wrong_key", "loading"].includes(refusal.type);
  $("error-key").hidden = !["missing_key", "wrong_key"].includes(refusal.type);
}

async function ask(path, options = {}, using = key) {
  const headers = { ...options.headers, ...(using ? { authorization: "Bearer " + using } : {}) };
  let answer;
  try { answer = await fetch(path, { ...options, headers }); } catch (error) {
    throw error.name === "AbortError" ? error : new Refusal("offline");
  }
  if (answer.ok) return answer;
  let body;
  try { body = await answer.json(); } catch { body = null; }
  throw typeof body?.error_type === "string" ? new Refusal(body.error_type, body.message) : new Refusal("strange", `${answer.status} ${answer.statusText}`);
}

function say(text) { $("said").textContent = text; }

// ---- the key

const isKeyFault = (error) => error.type === "missing_key" || error.type === "wrong_key";

function askForKey(why) {
  wantsKey = true;
  $("key-button").hidden = false;
  const dialog = $("key-dialog");
  if (dialog.open) return;
  $("key").value = key;
  keyProblem(why === "wrong_key" ? words.keyWrong : "");
  dialog.showModal();
  $("key").select();
}

function keyProblem(text) {
  $("key-problem").textContent = text;
  $("key-problem").hidden = !text;
  $("key").setAttribute("aria-invalid", String(Boolean(text)));
}

// The dialog stays until the server has taken the key.
async function useKey() {
  const typed = $("key").value.trim();
  if (!/^[\x20-\x7e]+$/.test(typed)) { keyProblem(words.keyCharacters); return; }
  $("key-use").disabled = true;
  try {
    await ask("info", {}, typed);
  } catch (error) {
    if (isKeyFault(error)) { keyProblem(words.keyWrong); $("key").select(); return; }
    // That the model still loads, or that the server is away, says nothing about the key.
  } finally { $("key-use").disabled = false; }
  key = typed;
  remember("sessionStorage", "s2s.key", key);
  $("key-dialog").close();
  if (await load()) translate();
}

// ---- models

function model() { return models[$("model").selectedIndex]; }

async function load() {
  clearTimeout(again);
  try {
    const info = await (await ask("info")).json();
    const chosen = model()?.name ?? given.get("model");
    models = info.models;
    if (!models.length) throw new Refusal("not_found");
    ready = true;
    if (key) { wantsKey = true; $("key-button").hidden = false; }
    $("model").replaceChildren(...models.map((m) => new Option(m.name)));
    $("model").selectedIndex = Math.max(0, models.findIndex((m) => m.name === chosen));
    $("model").disabled = models.length < 2;
    fail(null);
    show();
    code();
    return true;
  } catch (error) {
    fail(error instanceof Refusal ? error : new Refusal("strange", error.message));
    if (isKeyFault(error)) askForKey(error.type);
    if (["loading", "offline", "draining"].includes(error.type)) again = setTimeout(async () => { if (await load()) translate(); }, 1000);
    return false;
  }
}

function show() {
  const m = model(), details = m.details || {}, network = details.architecture || {}, names = words.cards;
  document.title = m.name + " · s2s";
  const several = m.languages || [];
  $("pair").hidden = several.length === 0;
  for (const side of ["from", "to"]) {
    const chosen = $(side).value;
    $(side).replaceChildren(new Option(words.asModel, ""), ...several.map(({ code, tag }) => new Option(tag, code)));
    $(side).value = several.some(({ code }) => code === chosen) ? chosen : "";
  }
  const tag = (side) => several.find(({ code }) => code === $(side).value)?.tag;
  const [from, to] = [tag("from") ?? m.source_language, tag("to") ?? m.target_language];
  $("languages").textContent = several.length === 0 && (from || to) ? (from || words.any) + " → " + (to || words.any) : "";
  // For fonts, and for the voice of a screen reader.
  $("input").lang = from || "";
  $("output").lang = to || "";
  $("examples").replaceChildren(...(details.examples || []).map((text) => {
    const button = element("button", text);
    button.dir = "auto";
    button.lang = from || "";
    button.addEventListener("click", () => {
      const input = $("input");
      // As if it were typed, so that what was there before comes back with Ctrl+Z; not where that opens a keyboard over the page.
      if (!matchMedia("(pointer: coarse)").matches) { input.focus(); input.select(); document.execCommand("insertText", false, text); }
      if (input.value !== text) input.value = text;
      count();
      translate();
      code();
    });
    return button;
  }));
  $("examples").hidden = !$("examples").children.length;
  const side = (s) => s && words.side(s.symbols, s.unit, s.normalisation.join(", "), s.longest);
  const plain = (value) => value == null ? null : typeof value === "object" ? JSON.stringify(value).replace(/[{}"]/g, "").replace(/,/g, ", ").replace(/:/g, ": ") : String(value);
  const rows = [
    [names.name, m.name], [names.network, plain({ cell: network.cell, layers: network.layers, hidden: network.hidden, attention: network.attention })],
    [names.sourceInput, plain(network.source_input)], [names.targetInput, plain(network.target_input)],
    [names.source, side(details.source)], [names.target, side(details.target)], [names.decoding, plain(details.decoding)], [names.scores, plain(details.scores)],
    [names.pairs, details.training_pairs?.toLocaleString(document.documentElement.lang)], [names.licence, details.licence], [names.attribution, details.attribution],
    [names.graphs, (details.graphs || []).map((g) => `${g.file} (${g.sha256.slice(0, 12)})`).join(", ")],
    [names.weights, details.weights_sha256], [names.producer, details.producer],
  ];
  $("card").replaceChildren(...rows.filter(([, value]) => value).map(([name, value]) => {
    const row = element("tr"), head = element("th", name), cell = element("td", value);
    head.scope = "row";
    cell.dir = "auto";
    row.append(head, cell);
    return row;
  }));
  const roles = (details.graphs || []).map((g) => g.role), chosen = Math.max(0, $("graph").selectedIndex);
  $("graph").replaceChildren(new Option(words.network, m.name), ...roles.map((role) => new Option(words.graphOf(role), m.name + "." + role)));
  $("graph").selectedIndex = Math.min(chosen, roles.length);
  $("graphs").hidden = !roles.length;
  draw();
}

async function draw() {
  const name = $("graph").value;
  if (!name || !$("graphs").open) return;
  $("picture").alt = $("graph").selectedOptions[0].text + ", " + model().name;
  try {
    const answer = await ask(`v2/models/${encodeURIComponent(name)}/graph.svg`);
    URL.revokeObjectURL($("picture").src);
    $("picture").src = URL.createObjectURL(await answer.blob());
  } catch (error) { fail(error instanceof Refusal ? error : new Refusal("lost")); }
}

// ---- options

function parameters() {
  const form = new FormData($("options")), method = form.get("method"), chosen = {};
  for (const label of $("options").querySelectorAll("[data-for]")) label.hidden = !label.dataset.for.split(" ").includes(method);
  const number = (name) => { const text = form.get(name); if (text !== "" && text !== null) chosen[name] = Number(text); };
  ["max_new_tokens", "repetition_penalty", "no_repeat_ngram_size"].forEach(number);
  if (form.get("unknown")) chosen.unknown = form.get("unknown");
  if ($("from").value) chosen.source_language = $("from").value;
  if ($("to").value) chosen.target_language = $("to").value;
  const width = Number(form.get("width")) || 1;
  if (method === "beam") { chosen.num_beams = width; chosen.num_return_sequences = width; number("length_penalty"); }
  if (method === "sample") { chosen.do_sample = true; chosen.num_return_sequences = width; ["temperature", "top_k", "top_p", "seed"].forEach(number); }
  return chosen;
}

// ---- translation, line by line

function stop() {
  if (job) job.control.abort();
  busy(false);
}

function busy(on) {
  $("stop").disabled = !on;
  $("output").setAttribute("aria-busy", String(on));
}

async function translate() {
  if (composing) return;
  clearTimeout(timer);
  stop();
  if (!model()) return;
  fail(null);
  const lines = $("input").value.split("\n");
  if (!$("input").value.trim()) { clear(); return; }
  const asked = { ...parameters(), output: { scores: true, ...(model().has_attention ? { attention: true } : {}) } };
  const mine = job = { control: new AbortController(), lines, events: lines.map(() => null), started: performance.now(), took: null, name: model().name };
  $("output").classList.remove("empty");
  $("output").replaceChildren(...lines.map((line) => {
    const shown = element("p", "", line.trim() ? "busy" : "");
    shown.dir = "auto";
    return shown;
  }));
  $("copy").disabled = true;
  busy(true);
  let next = 0, refused = null;
  const worker = async () => {
    while (next < lines.length && !mine.control.signal.aborted) {
      const at = next++;
      if (!lines[at].trim()) continue;
      try { await translateLine(mine, at, asked); } catch (error) {
        if (error.name === "AbortError") return;
        const refusal = error instanceof Refusal ? error : new Refusal("lost");
        refused = refused ?? [refusal, at];
        $("output").children[at]?.classList.remove("busy");
        if (!OF_A_LINE.includes(refusal.type)) { mine.control.abort(); return; }
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, lines.length) }, worker));
  if (job !== mine) return;
  for (const shown of $("output").children) shown.classList.remove("busy");
  mine.took = performance.now() - mine.started;
  busy(false);
  $("copy").disabled = !made();
  report();
  if (refused) {
    const [refusal, at] = refused;
    fail(refusal, lines.length > 1 && OF_A_LINE.includes(refusal.type) ? at + 1 : 0);
    if (!made()) { clear(); job = null; }
    if (isKeyFault(refusal)) askForKey(refusal.type);
    if (refusal.type === "offline") again = setTimeout(async () => { if (await load()) translate(); }, 1000);
  } else say(made().slice(0, 500));
}

// What has been translated before with the same options is taken from there: while someone types, all lines but one are the same.
async function translateLine(mine, at, asked) {
  const body = JSON.stringify({ text_input: mine.lines[at], parameters: asked }), name = mine.name + "\n" + body;
  const shown = $("output").children[at];
  const set = (text) => { if (job === mine) shown.textContent = text; };
  let last = performance.now() - (kept.get(name)?.at ?? -KEPT_FOR) < KEPT_FOR ? kept.get(name).event : null;
  if (!last) {
    const answer = await ask(`v2/models/${encodeURIComponent(mine.name)}/generate_stream`, {
      method: "POST", headers: { "content-type": "application/json" }, signal: mine.control.signal, body,
    });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let waiting = "", made = "";
    while (!last) {
      const { done, value } = await reader.read();
      if (done) throw new Refusal("lost");
      waiting += value;
      let end;
      while ((end = waiting.indexOf("\n\n")) >= 0) {
        const data = waiting.slice(0, end).split("\n").find((line) => line.startsWith("data: "));
        waiting = waiting.slice(end + 2);
        if (!data) continue;
        const event = JSON.parse(data.slice(6));
        if (event.error) throw new Refusal(event.error_type, event.message);
        set(made += event.text_output);
        if (event.finish_reason) last = event;
      }
    }
    kept.delete(name);
    kept.set(name, { event: last, at: performance.now() });
    if (kept.size > MOST_KEPT) kept.delete(kept.keys().next().value);
  }
  mine.events[at] = last;
  set(last.generated_text ?? "");
  shown.classList.remove("busy");
  if (job === mine) report();
}

function made() { return job ? job.events.map((event) => event?.generated_text ?? "").join("\n").replace(/\n+$/, "") : ""; }

function clear() {
  stop();
  job = null;
  $("output").replaceChildren(element("p", words.appears));
  $("output").classList.add("empty");
  $("figures").textContent = "";
  $("notice").hidden = $("others").hidden = $("attention").hidden = true;
  $("copy").disabled = true;
  drawn = [];
}

// Figures of all lines; hypotheses and attention of the one that the cursor is in.
function report() {
  const events = job.events.filter(Boolean), sum = events.reduce((n, event) => n + event.generated_tokens, 0);
  $("figures").textContent = job.took == null ? "" : words.figures(sum, job.took.toFixed(0));
  const unknown = [...new Set(events.flatMap((event) => event.unknown || []))];
  const cut = job.events.flatMap((event, at) => event?.finish_reason === "length" ? [at + 1] : []);
  const notices = [];
  if (unknown.length) notices.push(words.unknown(unknown.slice(0, 20).map((symbol) => `“${symbol}”`).join(" ") + (unknown.length > 20 ? " …" : "")));
  if (cut.length) notices.push(words.cut(job.lines.length > 1 ? cut.slice(0, 10).join(", ") + (cut.length > 10 ? " …" : "") : ""));
  $("notice").textContent = notices.join(" ");
  $("notice").hidden = !notices.length;
  let at = $("input").value.slice(0, $("input").selectionStart).split("\n").length - 1;
  if (!job.events[at]) at = job.events.findIndex(Boolean);
  const several = job.lines.length > 1;
  [...$("output").children].forEach((line, i) => line.classList.toggle("current", several && i === at));
  for (const note of document.querySelectorAll(".of-line")) note.textContent = several ? words.ofLine(at + 1) : "";
  const event = job.events[at];
  if (drawn[0] === event && drawn[1] === words) return;
  drawn = [event, words];
  hypotheses(event);
  heat(event);
}

function hypotheses(event) {
  const all = event ? [{ ...event, text_output: event.generated_text }, ...(event.alternatives || [])] : [];
  $("others").hidden = all.length < 2;
  $("others").querySelector("tbody").replaceChildren(...all.map((one) => {
    const row = element("tr"), text = element("td", one.text_output);
    text.dir = "auto";
    text.lang = $("output").lang;
    row.append(element("td", one.score.toFixed(4), "number"), text, element("td", words.reasons[one.finish_reason] ?? one.finish_reason));
    return row;
  }));
}

function heat(event) {
  const weights = event?.attention || [];
  $("attention").hidden = !weights.length;
  $("heat").replaceChildren();
  if (!weights.length) return;
  const columns = event.source_symbols || weights[0].map(() => "");
  const large = weights.length * columns.length > MOST_WEIGHTS;
  $("heat-note").hidden = !large;
  $("heat-note").textContent = large ? words.tooLarge(weights.length, columns.length) : "";
  if (large) return;
  const table = element("table"), head = table.createTHead().insertRow(), body = table.createTBody();
  const label = (text, scope) => { const cell = element("th", text === " " ? "␣" : text); cell.scope = scope; return cell; };
  head.append(element("td"), ...columns.map((symbol) => label(symbol, "col")));
  weights.forEach((row, at) => {
    const line = body.insertRow();
    line.append(label((event.tokens || [])[at] ?? "■", "row"));
    row.slice(-columns.length).forEach((weight) => {
      const cell = line.insertCell();
      cell.style.background = `rgba(var(--heat), ${weight.toFixed(3)})`;
      cell.title = weight.toFixed(3);
    });
  });
  $("heat").replaceChildren(table);
}

// ---- the request as code

function code() {
  if (!$("request").open || !model()) return;
  const lines = $("input").value.split("\n").filter((line) => line.trim());
  const chosen = document.querySelector("input[name=code]:checked").value;
  const url = new URL(`v2/models/${encodeURIComponent(model().name)}/generate`, location.href).href;
  const all = CODE[chosen]({ url, lines: lines.length ? lines : [""], parameters: parameters(), key: wantsKey });
  $("code").textContent = all.length > MOST_CODE ? all.slice(0, MOST_CODE) + "\n…" : all;
  $("copy-code").onclick = () => copy(all, $("copy-code"));
  $("code-key").hidden = !wantsKey;
}

async function copy(text, button) {
  let done = true;
  try { await navigator.clipboard.writeText(text); } catch {
    // Over plain HTTP from another machine browsers give no clipboard; the old way still works there.
    const area = element("textarea", "", "unseen");
    area.value = text;
    document.body.append(area);
    area.select();
    done = document.execCommand("copy");
    area.remove();
    button.focus();
  }
  say(done ? words.copied : words.notCopied);
  if (!done) { $("notice").textContent = words.notCopied; $("notice").hidden = false; return; }
  button.textContent = words.copied;
  setTimeout(() => { button.textContent = words[button.dataset.text]; }, 1500);
}

// ---- what people do

function count() {
  const text = $("input").value;
  $("counted").textContent = text ? words.characters([...text].length) : "";
}

function soon() {
  clearTimeout(timer);
  count();
  // While an input method composes, the text holds letters that will not stay.
  if (composing) return;
  timer = setTimeout(() => { if ($("live").checked) translate(); code(); }, 200);
}

$("input").addEventListener("compositionstart", () => { composing = true; clearTimeout(timer); });
$("input").addEventListener("compositionend", () => { composing = false; soon(); });
$("input").addEventListener("input", (event) => { if (!event.isComposing) composing = false; soon(); });
document.addEventListener("selectionchange", () => { if (job && document.activeElement === $("input") && job.lines.length > 1) report(); });
$("options").addEventListener("input", () => { parameters(); soon(); });
for (const side of ["from", "to"]) $(side).addEventListener("change", () => { show(); soon(); });
$("options").addEventListener("submit", (event) => { event.preventDefault(); translate(); });
$("model").addEventListener("change", () => { show(); clear(); soon(); });
$("language").addEventListener("change", () => { remember("localStorage", "s2s.language", $("language").value); speak($("language").value); });
$("graphs").addEventListener("toggle", draw);
$("graph").addEventListener("change", draw);
$("request").addEventListener("toggle", code);
for (const choice of document.querySelectorAll("input[name=code]")) choice.addEventListener("change", code);
$("run").addEventListener("click", () => { kept.clear(); if (ready) translate(); else load().then((loaded) => { if (loaded) translate(); }); });
$("stop").addEventListener("click", stop);
$("copy").addEventListener("click", () => copy(made(), $("copy")));
for (const id of ["key-button", "error-key"]) $(id).addEventListener("click", () => askForKey(problem[0]?.type));
$("key-cancel").addEventListener("click", () => $("key-dialog").close());
$("key-form").addEventListener("submit", (event) => { event.preventDefault(); useKey(); });
addEventListener("keydown", (event) => {
  // Keys that an input method takes: 229 where a browser does not say so otherwise.
  if (event.isComposing || event.keyCode === 229 || $("key-dialog").open) return;
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); translate(); }
  if (event.key === "Escape") stop();
});

const chosenLanguage = given.get("lang") ?? remembered("localStorage", "s2s.language");
speak(Object.hasOwn(STRINGS, chosenLanguage) ? chosenLanguage : spoken(navigator.languages ?? []));
parameters();
// A link can carry a text: /#text=...
load().then(() => {
  if (given.has("graphs")) $("graphs").open = true;
  if (given.has("code")) $("request").open = true;
  if (given.get("method")) { $("options").elements.method.value = given.get("method"); $("decoding").open = true; parameters(); }
  if (given.get("text")) { $("input").value = given.get("text"); count(); translate(); }
});
