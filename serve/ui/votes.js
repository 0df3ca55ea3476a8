// Votes: the ballot's outcome and the standings.

import * as api from "./api.js";

const percent = (x) => x.toFixed(1) + " %";

function bar(s) {
  const ns = "http://www.w3.org/2000/svg";
  const make = (name, attributes) => {
    const e = document.createElementNS(ns, name);
    for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
    return e;
  };
  const svg = make("svg", { viewBox: "-2 0 104 10", preserveAspectRatio: "none", "aria-hidden": "true" });
  svg.append(
    make("line", { class: "axis", x1: 0, x2: 100, y1: 5, y2: 5 }),
    make("line", { class: "axis", x1: 50, x2: 50, y1: 0, y2: 10 }),
    make("line", { class: "range", x1: s.interval[0], x2: s.interval[1], y1: 5, y2: 5 }),
    make("rect", { class: "dot", x: s.win_rate - 0.75, y: 1.5, width: 1.5, height: 7 }),
  );
  return svg;
}

export function show({ file, standings }) {
  document.getElementById("votes").hidden = standings.length === 0;
  document.getElementById("standings").replaceChildren(...standings.map((s) => {
    const tr = document.createElement("tr");
    for (const cell of [s.model, s.baseline, s.n, percent(s.win_rate), s.interval[0].toFixed(1) + "–" + percent(s.interval[1])]) {
      tr.append(Object.assign(document.createElement("td"), { textContent: cell }));
    }
    const chart = Object.assign(document.createElement("td"), { className: "bar" });
    chart.append(bar(s));
    tr.append(chart);
    return tr;
  }));
  const link = Object.assign(document.createElement("a"), { href: "#", textContent: "Download them as JSONL" });
  link.addEventListener("click", async (e) => {
    e.preventDefault();
    const url = URL.createObjectURL(new Blob([await api.text("api/votes.jsonl")], { type: "application/jsonl" }));
    Object.assign(document.createElement("a"), { href: url, download: "votes.jsonl" }).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  });
  const where = file ? "Kept in " + file + " where the server runs. " : "Kept in the server's memory only. ";
  document.getElementById("votes-file").replaceChildren(where, link, ", rows as alpaca_eval writes them.");
}

export const load = async () => show(await api.get("api/votes"));

// cast sends a vote; best is an index into columns or null.
export async function cast(instruction, columns, best) {
  show(await api.post("api/votes", {
    instruction,
    outputs: columns.map((c) => ({ generator: c.name, output: c.text })),
    best,
  }));
}
