// Requests to the server that this page came from.

let key = sessionStorage.getItem("expo-key") || "";

export function setKey(k) {
  key = k;
  sessionStorage.setItem("expo-key", k);
}

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function request(path, options) {
  const headers = { ...(options.body ? { "Content-Type": "application/json" } : {}), ...(key ? { Authorization: "Bearer " + key } : {}) };
  let r;
  try {
    r = await fetch(path, { ...options, headers });
  } catch (e) {
    if (e.name === "AbortError") throw e;
    throw new ApiError(0, "The server does not answer. Is it still running?");
  }
  if (r.ok) return r;
  let message = r.status + " " + r.statusText;
  try {
    message = (await r.json()).error.message;
  } catch {
    // The status has to do.
  }
  throw new ApiError(r.status, message);
}

export const get = async (path) => (await request(path, {})).json();
export const post = async (path, body, signal) => (await request(path, { method: "POST", body: JSON.stringify(body), signal })).json();
export const text = async (path) => (await request(path, {})).text();

// stream posts a request and gives each event of the answer.
export async function* stream(path, body, signal) {
  const r = await request(path, { method: "POST", body: JSON.stringify({ ...body, stream: true }), signal });
  const reader = r.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new ApiError(0, "The server ended in the middle of the answer.");
    rest += value;
    for (let at; (at = rest.indexOf("\n\n")) >= 0; rest = rest.slice(at + 2)) {
      const data = rest.slice(0, at).replace(/^data: /, "");
      if (data === "[DONE]") return;
      const event = JSON.parse(data);
      if (event.error) throw new ApiError(500, event.error.message);
      yield event;
    }
  }
}
