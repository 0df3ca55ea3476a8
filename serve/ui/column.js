// A column shows one model's answer.

const number = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2, signDisplay: "negative" });

export class Column {
  constructor(model, label) {
    this.model = model; // sft, aligned, expo, or the name of a single model
    this.label = label;
    this.element = document.getElementById("column").content.firstElementChild.cloneNode(true);
    this.part = (c) => this.element.querySelector("." + c);
    this.answer = this.part("answer");
    this.best = this.part("best");
    this.element.dataset.model = model;
    this.answer.addEventListener("keydown", (e) => this.walk(e));
    this.answer.addEventListener("mouseover", (e) => {
      const i = [...this.answer.children].indexOf(e.target);
      if (this.tokens && i >= 0) this.show(i);
    });
    this.clear();
  }

  clear() {
    this.text = "";
    this.ids = [];
    this.name = ""; // what the server was asked for
    this.finish = "";
    this.tokens = null;
    this.logprobs = null;
    this.rewardValue = null;
    this.held = false;
    this.at = -1;
    this.started = 0;
    this.answer.textContent = "";
    this.part("token").textContent = "";
    this.part("reward").hidden = true;
    this.part("state").textContent = "";
    this.element.classList.remove("won");
  }

  // title names the column; blind columns are letters.
  title(text, detail) {
    const h = this.element.querySelector("h2");
    h.textContent = text;
    if (detail) {
      const small = document.createElement("small");
      small.textContent = " " + detail;
      h.append(small);
    }
    this.answer.setAttribute("aria-label", "Answer of " + text);
  }

  busy(on) {
    this.element.setAttribute("aria-busy", String(on));
  }

  add(text, ids) {
    if (!this.started) this.started = performance.now();
    this.text += text;
    this.ids.push(...ids);
    if (!this.held) this.draw();
  }

  draw() {
    if (!this.tokens) this.answer.textContent = this.text;
  }

  state(blind, took) {
    if (blind) {
      this.part("state").textContent = this.finish ? "finished" : "";
      return;
    }
    const n = this.ids.length;
    const words = [n + (n === 1 ? " token" : " tokens")];
    if (took > 0.2 && n > 1) words.push((n / took).toFixed(n / took < 10 ? 1 : 0) + " per second");
    if (this.finish === "length") words.push("cut off at the limit");
    this.part("state").textContent = words.join(", ");
  }

  fail(message) {
    const p = document.createElement("span");
    p.className = "failed";
    p.textContent = message;
    this.answer.append(p);
  }

  // compare takes what each model thinks of the tokens.
  compare(tokens, logprobs) {
    this.tokens = tokens;
    this.logprobs = logprobs;
    this.answer.replaceChildren(...tokens.map((t) => {
      const s = document.createElement("span");
      s.textContent = t;
      return s;
    }));
  }

  // differences are how much likelier a finds each token than b, as logarithms.
  differences(a, b) {
    if (!this.tokens || !b) return [];
    return this.tokens.map((_, i) => this.logprobs[a][i] - this.logprobs[b][i]);
  }

  // paint colours each token by that, full at a given difference.
  paint(a, b, full) {
    if (!this.tokens) return;
    const d = this.differences(a, b);
    [...this.answer.children].forEach((s, i) => {
      s.classList.remove("more", "less");
      const w = Math.min(Math.abs(d[i]) / full, 1) * 0.6;
      if (!(w > 0.02)) return;
      s.classList.add(d[i] > 0 ? "more" : "less");
      s.style.setProperty("--w", w.toFixed(3));
    });
  }

  walk(e) {
    if (!this.tokens || (e.key !== "ArrowLeft" && e.key !== "ArrowRight") || e.ctrlKey || e.altKey || e.metaKey) return;
    e.preventDefault();
    this.show(Math.max(0, Math.min(this.tokens.length - 1, this.at + (e.key === "ArrowRight" ? 1 : -1))));
  }

  show(i) {
    const spans = this.answer.children;
    if (spans[this.at]) spans[this.at].classList.remove("here");
    this.at = i;
    spans[i].classList.add("here");
    const names = { sft: "SFT", aligned: "aligned", expo: "ExPO" };
    const each = Object.entries(this.logprobs).map(([m, l]) => (names[m] || "log p") + " " + number.format(l[i]));
    this.part("token").textContent = JSON.stringify(this.tokens[i]) + "  " + each.join("  ");
  }

  reward(value, best) {
    this.rewardValue = value;
    const p = this.part("reward");
    p.hidden = value === null;
    if (value === null) return;
    p.replaceChildren("Reward ", Object.assign(document.createElement("b"), { textContent: number.format(value) }), best ? " (highest)" : "");
  }
}
