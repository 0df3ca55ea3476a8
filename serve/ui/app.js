// The page: settings, one run of all columns, colours, rewards, votes.

import * as api from "./api.js";
import { Column } from "./column.js";
import * as votes from "./votes.js";

const $ = (id) => document.getElementById(id);

const examples = [
  "Explain to a ten-year-old why the sky is blue.",
  "Write a short poem about a lighthouse keeper who collects clocks.",
  "My flight was cancelled and I need to be at a wedding tomorrow. What should I do first?",
  "Which is heavier, a kilogram of feathers or a kilogram of steel? Explain your answer.",
  "Write a polite e-mail that declines an invitation to a meeting.",
  "Give me three ideas for dinner with chickpeas and spinach.",
];
const rawExamples = ["Once upon a time", "Tell me a story about a dog.\n", "Tell me a story about a kite.\n", "One day, a girl named Lily found"];

// Settings in the link, by their short names.
const settings = {
  p: ["prompt"], a: ["alpha-number"], t: ["temperature"], tp: ["top-p"], m: ["max-tokens"], s: ["seed"],
  y: ["system"], c: ["colour"], b: ["blind"], r: ["raw"],
};

let info = null;
let columns = []; // in the order of the models
let shown = []; // in the order of the page
let runs = null; // { controller, id } of the run under way
let ran = null; // settings of the last run
let voted = false;

const blind = () => info.pair && $("blind").checked;
const names = { sft: "SFT", aligned: "Aligned", expo: "ExPO" };
const alpha = () => {
  const a = Number.parseFloat($("alpha-number").value);
  return Number.isFinite(a) ? a : 0;
};
const nameOf = (model) => (model === "expo" ? "expo@" + alpha() : model);

function say(text, error) {
  $("message").textContent = text;
  $("message").classList.toggle("error", Boolean(error));
}

function report(e) {
  if (e.name === "AbortError") return;
  if (e.status === 401) {
    if (!$("key-dialog").open) $("key-dialog").showModal();
    return;
  }
  say(e.message, true);
}

// ask is the request for a column, without its model.
function ask() {
  const n = (id) => ($(id).value === "" ? undefined : Number($(id).value));
  const common = { max_tokens: n("max-tokens"), temperature: n("temperature"), top_p: n("top-p"), seed: n("seed") };
  const prompt = $("prompt").value;
  if ($("raw").checked) return { path: "v1/completions", input: { prompt }, common, prompt };
  const messages = [{ role: "user", content: prompt }];
  if ($("system").value.trim()) messages.unshift({ role: "system", content: $("system").value });
  return { path: "v1/chat/completions", input: { messages }, common, prompt };
}

async function answer(c, q, signal) {
  c.clear();
  c.name = nameOf(c.model);
  c.busy(true);
  c.held = blind();
  titles();
  try {
    for await (const e of api.stream(q.path, { model: c.name, ...q.input, ...q.common, return_token_ids: true }, signal)) {
      for (const choice of e.choices) {
        c.add(choice.text ?? choice.delta.content ?? "", choice.token_ids ?? []);
        if (choice.finish_reason) c.finish = choice.finish_reason;
      }
      uncover();
      c.state(blind(), (performance.now() - c.started) / 1000);
    }
  } catch (e) {
    if (e.name !== "AbortError") {
      c.fail(e.message);
      if (e.status === 401) report(e);
    }
  } finally {
    c.busy(false);
    c.done = true;
    uncover();
    c.state(blind(), c.started ? (performance.now() - c.started) / 1000 : 0);
  }
}

// uncover shows blind answers only when all have begun: which one comes first
// must not tell which model it is.
function uncover() {
  if (columns.some((c) => !c.done && !c.text)) return;
  for (const c of columns) {
    if (c.held) {
      c.held = false;
      c.draw();
    }
  }
}

async function run(which) {
  if (runs) runs.controller.abort();
  const controller = new AbortController();
  const me = (runs = { controller });
  if (!which) {
    ran = ask();
    if (!ran.prompt.trim()) {
      say("There is no prompt.", true);
      $("prompt").focus();
      runs = null;
      return;
    }
    arrange();
  }
  const q = ran;
  keep();
  voted = false;
  ballot(false);
  $("stop").disabled = false;
  say("Answering …");
  const list = which || columns;
  for (const c of list) c.done = false;
  await Promise.all(list.map((c) => answer(c, q, controller.signal)));
  if (runs !== me) return;
  const stopped = controller.signal.aborted;
  try {
    // What was stopped is coloured all the same.
    await judge(q, stopped ? undefined : controller.signal);
    const any = columns.some((c) => c.ids.length);
    say(stopped ? "Stopped." : any ? "Finished." : "Nothing was answered.", !any && !stopped);
  } catch (e) {
    report(e);
  }
  if (runs !== me) return;
  runs = null;
  $("stop").disabled = true;
  ballot(true);
}

// judge asks what each model thinks of each answer, and for the rewards.
async function judge(q, signal) {
  const done = columns.filter((c) => c.ids.length);
  const models = columns.map((c) => c.name);
  await Promise.all(done.map(async (c) => {
    const r = await api.post("api/compare", { model: c.name, ...q.input, token_ids: c.ids, models }, signal);
    const byModel = {};
    columns.forEach((o, i) => (byModel[o.model] = r.logprobs[models[i]]));
    c.compare(r.tokens, byModel);
  }));
  paint();
  if (!info.reward) return;
  const reference = done.length ? done[0].text : "";
  await Promise.all(done.map(async (c) => {
    const r = await api.post("api/reward", { ...q.input, response: c.text, ended: c.finish === "stop", reference }, signal);
    c.rewardValue = r.reward;
  }));
  rewards();
}

function rewards() {
  const best = Math.max(...columns.map((c) => c.rewardValue ?? -Infinity));
  for (const c of columns) c.reward(hidden() ? null : c.rewardValue, columns.length > 1 && c.rewardValue === best);
}

// hidden is whether names and what would give them away are not shown now.
const hidden = () => blind() && !voted;

function paint() {
  const [a, b] = hidden() || !info.pair ? [] : $("colour").value.split("-");
  // Pairs differ by little or by much: nearly all of what is there fits the scale.
  const all = columns.flatMap((c) => c.differences(a, b)).map(Math.abs).sort((x, y) => x - y);
  const full = Math.max(all[Math.floor(0.95 * all.length)] || 0, 0.05);
  for (const c of columns) c.paint(a, b, full);
  $("legend").hidden = !b || !all.length;
  if (b) {
    $("legend-less").textContent = "less likely to " + names[a];
    $("legend-more").textContent = `more likely to ${names[a]} than to ${names[b]}; full colour at ${full.toFixed(2)} in log-probability`;
  }
}

// arrange puts the columns in order, or in none.
function arrange() {
  shown = [...columns];
  if (blind()) {
    for (let i = shown.length - 1; i > 0; i--) {
      const k = crypto.getRandomValues(new Uint32Array(1))[0] % (i + 1);
      [shown[i], shown[k]] = [shown[k], shown[i]];
    }
  }
  $("columns").replaceChildren(...shown.map((c) => c.element));
}

function titles() {
  shown.forEach((c, i) => {
    const letter = "ABC"[i];
    const name = names[c.model] || c.model;
    const detail = c.model === "expo" ? "α = " + (c.name ? c.name.slice(5) : alpha()) : "";
    if (blind() && !voted) c.title(letter);
    else c.title((blind() ? letter + ": " : "") + name, detail);
    // In blind mode the element must not tell the model either.
    if (blind() && !voted) delete c.element.dataset.model;
    else c.element.dataset.model = c.model;
    c.best.textContent = (blind() && !voted ? letter : name) + " is best";
  });
}

function ballot(open) {
  const may = open && blind() && !voted && columns.every((c) => c.text);
  $("ballot").hidden = !may && !voted;
  $("draw").hidden = !may;
  for (const c of columns) c.best.hidden = !may;
  if (!voted) $("verdict").textContent = may ? "Which answer is best?" : "";
}

async function vote(c) {
  if (voted || $("draw").hidden) return;
  voted = true;
  try {
    await votes.cast(ran.prompt, columns, c ? columns.indexOf(c) : null);
  } catch (e) {
    voted = false;
    report(e);
    return;
  }
  if (c) c.element.classList.add("won");
  titles();
  columns.forEach((o) => o.state(false, 0));
  rewards();
  paint();
  ballot(true);
  $("verdict").textContent = c ? `Your vote: ${names[c.model]}.` : "Your vote: no difference.";
  $("run").focus();
}

// link is the address of this page with its settings.
function link() {
  const h = new URLSearchParams();
  for (const [k, [id]] of Object.entries(settings)) {
    const e = $(id);
    const v = e.type === "checkbox" ? (e.checked ? "1" : "") : e.value;
    if (v !== "" || (id === "colour" && v === "")) h.set(k, v);
  }
  return location.origin + location.pathname + "#" + h;
}

const keep = () => history.replaceState(null, "", link());

function restore() {
  const h = new URLSearchParams(location.hash.slice(1));
  for (const [k, [id]] of Object.entries(settings)) {
    if (!h.has(k)) continue;
    const e = $(id);
    if (e.type === "checkbox") e.checked = h.get(k) === "1";
    else e.value = h.get(k);
  }
}

// turn moves the dial to what the number says.
function turn() {
  const range = $("alpha");
  const a = alpha();
  range.min = Math.min(-1, Math.floor(a));
  range.max = Math.max(2, Math.ceil(a));
  range.value = a;
  range.setAttribute("aria-valuetext", "α = " + a);
  const at = (x) => ((x - range.min) / (range.max - range.min)) * 100;
  $("at-sft").style.left = at(-1) + "%";
  $("at-aligned").style.left = at(0) + "%";
  const c = columns.find((o) => o.model === "expo");
  if (c && !c.name) titles();
}

// turned answers again with the model at the new α.
function turned() {
  keep();
  const c = columns.find((o) => o.model === "expo");
  if (!ran || !c || c.name === nameOf("expo")) return;
  if (blind()) {
    say("α changed; run again to compare.");
    return;
  }
  run(runs ? null : [c]);
}

async function start() {
  info = await api.get("api/info");
  document.body.classList.toggle("single", !info.pair);
  $("about").textContent = info.pair ? "SFT, aligned, and what lies beyond: θ = θ_aligned + α(θ_aligned − θ_SFT)" : info.models[0].name;
  document.title = info.pair ? "expo" : "expo: " + info.models[0].name;
  columns = info.models.map((m) => new Column(m.name, names[m.name] || m.name));
  const chat = info.models.every((m) => m.chat);
  $("raw").checked = !chat;
  const context = Math.min(...info.models.map((m) => m.context));
  $("max-tokens").max = context;
  $("max-tokens").value = Math.min(256, Math.ceil(context / 2));
  $("alpha-number").value = info.alpha;
  restore();
  if (!chat) {
    $("raw").checked = true;
    $("raw").disabled = true;
    $("system").disabled = true;
    say("The model has no chat template: it goes on with the prompt as it stands.");
  }
  $("examples").length = 1;
  for (const e of chat ? examples : rawExamples) $("examples").add(new Option(e.trim(), e));
  arrange();
  turn();
  titles();
  if (info.pair) await votes.load();
  document.body.dataset.ready = "1";
}

$("ask").addEventListener("submit", (e) => {
  e.preventDefault();
  run();
});
$("stop").addEventListener("click", () => runs && runs.controller.abort());
$("examples").addEventListener("change", (e) => {
  if (e.target.value) $("prompt").value = e.target.value;
  e.target.selectedIndex = 0;
  $("prompt").focus();
});
$("alpha").addEventListener("input", () => {
  $("alpha-number").value = Number.parseFloat(Number($("alpha").value).toFixed(4));
  $("alpha").setAttribute("aria-valuetext", "α = " + $("alpha-number").value);
});
$("alpha").addEventListener("change", turned);
$("alpha-number").addEventListener("change", () => {
  turn();
  turned();
});
$("colour").addEventListener("change", () => {
  paint();
  keep();
});
$("blind").addEventListener("change", () => {
  if (runs) runs.controller.abort();
  runs = null;
  $("stop").disabled = true;
  voted = false;
  for (const c of columns) c.clear();
  ran = null;
  ballot(false);
  arrange();
  titles();
  paint();
  keep();
});
$("draw").addEventListener("click", () => vote(null));
$("columns").addEventListener("click", (e) => {
  const c = shown.find((o) => o.best === e.target);
  if (c) vote(c);
});
$("link").addEventListener("click", async () => {
  keep();
  try {
    await navigator.clipboard.writeText(link());
    say("The link is in the clipboard.");
  } catch {
    say("The link is in the address bar.");
  }
});
$("key-form").addEventListener("submit", () => {
  api.setKey($("key").value);
  $("key").value = "";
  start().catch(report);
});
document.addEventListener("keydown", (e) => {
  if (e.key === "Enter" && (e.ctrlKey || e.metaKey)) {
    e.preventDefault();
    run();
  } else if (e.key === "Escape" && runs && !$("key-dialog").open) {
    runs.controller.abort();
  } else if (/^[0-3]$/.test(e.key) && !e.target.closest("input, textarea, select") && !e.ctrlKey && !e.altKey && !e.metaKey && info && info.pair) {
    vote(e.key === "0" ? null : shown[Number(e.key) - 1]);
  }
});
window.addEventListener("hashchange", () => {
  if (!info) return;
  restore();
  turn();
  titles();
});

start().catch(report);
