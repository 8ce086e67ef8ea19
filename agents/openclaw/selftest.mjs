// Runs the gateway once inside the built image, in a jail without a network, and has
// one conversation with it. build-image calls this to fill the compile cache and to
// refuse an image that does not work.
//
// How this works: this program plays the broker on 127.0.0.1:8377 (model and Bot API),
// starts the command given as arguments, waits until it asks for messages, and plays
// the TURNS one after another. The model answers by script: the text of a turn says which
// tool calls to make. What the agent sends to the chat is the result that is checked.
//
// usage: node selftest.mjs COMMAND [ARG...]      TRACE=FILE keeps every request as JSON lines

import { spawn } from "node:child_process";
import { appendFileSync, mkdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";

const OWNER = 555;
const PORT = 8377;
const START_MS = 180_000;
const TURN_MS = 30_000;
const AGENT_DIR = "/workspace/agent";

// A PDF of one page with the words "cloister pdf works".
function tinyPdf() {
  const text = "BT /F1 24 Tf 20 100 Td (cloister pdf works) Tj ET";
  const objects = [
    "<</Type/Catalog/Pages 2 0 R>>",
    "<</Type/Pages/Kids[3 0 R]/Count 1>>",
    "<</Type/Page/Parent 2 0 R/MediaBox[0 0 400 200]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
    `<</Length ${text.length}>>stream\n${text}\nendstream`,
    "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
  ];
  let pdf = "%PDF-1.4\n";
  const offsets = objects.map((body, i) => {
    const at = pdf.length;
    pdf += `${i + 1} 0 obj\n${body}\nendobj\n`;
    return at;
  });
  const xref = pdf.length;
  pdf += `xref\n0 6\n0000000000 65535 f \n`;
  for (const at of offsets) pdf += `${String(at).padStart(10, "0")} 00000 n \n`;
  return `${pdf}trailer<</Size 6/Root 1 0 R>>\nstartxref\n${xref}\n%%EOF\n`;
}

const call = (name, args) => ({ name, args });

// say: what the person writes. steps: the tool calls of the model, one by one; then it answers
// with "done:" and the last tool result. want: what must be in the chat afterwards.
const TURNS = [
  { name: "text", say: "#text hello", steps: [], want: [/^done:/] },
  {
    name: "files and shell",
    say: "#files write, read and run something",
    steps: [
      call("write", { path: "note.txt", content: "the gate is open\n" }),
      call("read", { path: "note.txt" }),
      call("exec", { command: "id -u; cat note.txt; python3 -c 'print(6*7)'; git --version; date +%Z" }),
    ],
    want: [/1000[^]*the gate is open[^]*42[^]*git version/],
  },
  {
    name: "document",
    say: "#pdf read the document",
    steps: [call("exec", { command: `pdftotext ${AGENT_DIR}/test.pdf - && file ${AGENT_DIR}/test.pdf` })],
    want: [/cloister pdf works[^]*PDF document/],
  },
  {
    name: "memory without embeddings",
    say: "#memory what colour is the bicycle",
    steps: [call("memory_search", { query: "bicycle" })],
    want: [/heliotrope/],
  },
  {
    name: "reminder",
    say: "#remind me of the pill",
    steps: [
      call("automations", {
        action: "add",
        job: {
          name: "pill",
          schedule: { kind: "at", at: () => new Date(Date.now() + 4000).toISOString() },
          sessionTarget: "isolated",
          payload: { kind: "agentTurn", message: "#pill tell the owner" },
          deleteAfterRun: true,
        },
      }),
    ],
    want: [/^done:/, /take your pill/],
  },
];

const trace = process.env.TRACE;
const started = Date.now();
const since = () => ((Date.now() - started) / 1000).toFixed(1);
const sent = [];
let updates = [];
let nextUpdate = 1;
let polled = () => {};
let onSent = () => {};

function record(entry) {
  if (trace) appendFileSync(trace, `${JSON.stringify({ t: since(), ...entry })}\n`);
}

function textOf(content) {
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) return "";
  return content.map((part) => part.text ?? "").join("\n");
}

const evaluate = (value) => {
  if (typeof value === "function") return value();
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, evaluate(item)]));
};

// The scripted model: which turn is it, and how many tools have answered since.
function think(body) {
  const messages = body.messages ?? [];
  let last = -1;
  let turn;
  messages.forEach((message, i) => {
    if (message.role !== "user") return;
    const said = textOf(message.content);
    // OpenClaw adds a message with context, which may quote earlier turns.
    if (said.startsWith("<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>")) return;
    const tag = /#(text|files|pdf|memory|remind|pill)\b/.exec(said);
    if (tag) {
      last = i;
      turn = tag[1];
    }
  });
  if (turn === "pill") return { text: "take your pill" };
  const script = TURNS.find((item) => item.say.startsWith(`#${turn}`));
  if (!script) return { text: "NO_REPLY" };
  const results = messages.slice(last + 1).filter((message) => message.role === "tool");
  if (results.length < script.steps.length) {
    const step = script.steps[results.length];
    return { tool: { name: step.name, args: evaluate(step.args) } };
  }
  const tail = results.length ? textOf(results.at(-1).content) : "hello";
  return { text: `done: ${tail.slice(0, 3000)}` };
}

function sse(res, model, delta, finish) {
  const head = { id: "chatcmpl-1", object: "chat.completion.chunk", created: 1, model };
  const send = (chunk) => res.write(`data: ${JSON.stringify({ ...head, ...chunk })}\n\n`);
  res.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-cache" });
  send({ choices: [{ index: 0, delta: { role: "assistant", ...delta }, finish_reason: null }] });
  send({ choices: [{ index: 0, delta: {}, finish_reason: finish }] });
  send({ choices: [], usage: { prompt_tokens: 10, completion_tokens: 5, total_tokens: 15 } });
  res.end("data: [DONE]\n\n");
}

function model(body, res) {
  const answer = think(body);
  if (answer.text !== undefined) return sse(res, body.model, { content: answer.text }, "stop");
  const tool = {
    index: 0,
    id: `call_${Date.now()}`,
    type: "function",
    function: { name: answer.tool.name, arguments: JSON.stringify(answer.tool.args) },
  };
  return sse(res, body.model, { tool_calls: [tool] }, "tool_calls");
}

const chat = { id: OWNER, type: "private", first_name: "Owner" };
const person = { id: OWNER, is_bot: false, first_name: "Owner" };
const bot = { id: 8377, is_bot: true, first_name: "Agent", username: "cloister_bot" };
const now = () => Math.floor(Date.now() / 1000);

async function telegram(method, body, res) {
  const ok = (result) => json(res, 200, { ok: true, result });
  switch (method) {
    case "getMe":
      return ok({ ...bot, can_join_groups: false, can_read_all_group_messages: false });
    case "getUpdates": {
      const offset = Number(body.offset ?? 0);
      polled();
      const until = Date.now() + Number(body.timeout ?? 0) * 1000;
      for (;;) {
        updates = updates.filter((update) => update.update_id >= offset);
        if (updates.length || Date.now() >= until || res.destroyed) return ok(updates);
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    }
    case "sendMessage":
      sent.push(String(body.text));
      if (Number(body.chat_id) !== OWNER) fail(`a message to chat ${body.chat_id}`);
      onSent();
      return ok({ message_id: 1000 + sent.length, date: now(), chat, from: bot, text: body.text });
    default:
      return ok(true);
  }
}

function json(res, status, value) {
  if (res.destroyed) return;
  res.writeHead(status, { "content-type": "application/json" });
  res.end(JSON.stringify(value));
}

function say(text) {
  const id = nextUpdate++;
  updates.push({ update_id: id, message: { message_id: id, date: now(), chat, from: person, text } });
}

const server = createServer((req, res) => {
  const parts = [];
  req.on("data", (part) => parts.push(part));
  req.on("end", async () => {
    const raw = Buffer.concat(parts).toString();
    let body = {};
    try {
      const type = req.headers["content-type"] ?? "";
      if (type.includes("x-www-form-urlencoded")) body = Object.fromEntries(new URLSearchParams(raw));
      else body = raw ? JSON.parse(raw) : {};
    } catch {
      body = { raw: raw.slice(0, 2000) };
    }
    record({ method: req.method, url: req.url, headers: req.headers, body });
    const telegramCall = /^\/telegram\/bot[^/]+\/(\w+)$/.exec(req.url);
    if (telegramCall) return telegram(telegramCall[1], body, res);
    if (req.url === "/v1/chat/completions") return model(body, res);
    // As the broker answers a tenant without this route; memory search must go on without.
    if (req.url === "/v1/embeddings")
      return json(res, 403, { error: { message: "no route for embeddings", type: "route_denied" } });
    return json(res, 404, { error: { message: `no such path: ${req.url}` } });
  });
});

function within(ms, what, start) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`timeout: ${what}`)), ms);
    start((value) => {
      clearTimeout(timer);
      resolve(value);
    });
  });
}

let child;
let ending = false;
function fail(reason) {
  console.error(`selftest: ${reason}`);
  for (const text of sent) console.error(`  sent: ${text.slice(0, 200)}`);
  child?.kill("SIGKILL");
  process.exit(1);
}

async function main() {
  mkdirSync(`${AGENT_DIR}/memory`, { recursive: true });
  writeFileSync(`${AGENT_DIR}/test.pdf`, tinyPdf());
  writeFileSync(`${AGENT_DIR}/MEMORY.md`, "# Facts\n\nThe bicycle of the owner is heliotrope.\n");
  await new Promise((resolve) => server.listen(PORT, "127.0.0.1", resolve));

  const [command, ...args] = process.argv.slice(2);
  await within(START_MS, "the agent did not ask for messages", (done) => {
    polled = done;
    child = spawn(command, args, { stdio: ["ignore", "inherit", "inherit"] });
    child.on("exit", (code, signal) => ending || fail(`the agent ended: ${code ?? signal}`));
  });
  console.log(`selftest: ready after ${since()} s`);

  for (const turn of TURNS) {
    const from = sent.length;
    const t0 = Date.now();
    await within(TURN_MS, turn.name, (done) => {
      onSent = () => {
        const texts = sent.slice(from);
        if (turn.want.every((want) => texts.some((text) => want.test(text)))) done();
      };
      say(turn.say);
    });
    console.log(`selftest: ${turn.name}: ok, ${((Date.now() - t0) / 1000).toFixed(1)} s`);
  }

  // A regular end makes Node write its compile cache.
  ending = true;
  await within(60_000, "the agent did not stop", (done) => {
    child.on("exit", done);
    child.kill("SIGTERM");
  });
  server.closeAllConnections();
  server.close();
}

main().catch((error) => fail(error.message));
