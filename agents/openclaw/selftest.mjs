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

import { execFileSync, spawn } from "node:child_process";
import { appendFileSync, mkdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { crc32, deflateSync } from "node:zlib";

const OWNER = 555;
const PORT = 8377;
const GATEWAY = "http://127.0.0.1:18789";
const START_MS = 180_000;
const TURN_MS = 120_000;
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

// A grey picture of 64 by 64.
function tinyPng() {
  const chunk = (type, data) => {
    const body = Buffer.concat([Buffer.from(type), data]);
    const out = Buffer.alloc(body.length + 8);
    out.writeUInt32BE(data.length, 0);
    body.copy(out, 4);
    out.writeUInt32BE(crc32(body), body.length + 4);
    return out;
  };
  const head = Buffer.from([0, 0, 0, 64, 0, 0, 0, 64, 8, 0, 0, 0, 0]);
  const rows = Buffer.alloc(64 * 65, 128);
  for (let y = 0; y < 64; y++) rows[y * 65] = 0;
  return Buffer.concat([
    Buffer.from([137, 80, 78, 71, 13, 10, 26, 10]),
    chunk("IHDR", head),
    chunk("IDAT", deflateSync(rows)),
    chunk("IEND", Buffer.alloc(0)),
  ]);
}

// Enough of an Ogg page for what only looks at the beginning.
const tinyOgg = () => Buffer.concat([Buffer.from("OggS"), Buffer.alloc(24), Buffer.from("OpusHead"), Buffer.alloc(4096)]);

const call = (name, args) => ({ name, args });
const reminder = (name, message, ms) =>
  call("automations", {
    action: "add",
    job: {
      name,
      schedule: { kind: "at", at: () => new Date(Date.now() + ms).toISOString() },
      sessionTarget: "isolated",
      payload: { kind: "agentTurn", message },
      deleteAfterRun: true,
    },
  });

// say: what the person writes; send: or what else the person sends. steps: the tool calls of the model, one by one; then it answers
// with "done:" and the last tool result. want: what must be in the chat afterwards.
const TURNS = [
  { name: "text", tag: "text", say: "#text hello", steps: [], want: [/^done:/] },
  {
    name: "files and shell",
    tag: "files",
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
    tag: "pdf",
    say: "#pdf read the document",
    steps: [call("exec", { command: `pdftotext ${AGENT_DIR}/test.pdf - && file ${AGENT_DIR}/test.pdf` })],
    want: [/cloister pdf works[^]*PDF document/],
  },
  {
    name: "memory without embeddings",
    tag: "memory",
    say: "#memory what colour is the bicycle",
    steps: [call("memory_search", { query: "bicycle" })],
    want: [/heliotrope/],
  },
  {
    name: "reminder",
    tag: "remind",
    say: "#remind me of the pill",
    steps: [reminder("later", "#pill", 3_600_000), reminder("pill", "#pill tell the owner", 4000)],
    want: [/^done:/, /take your pill/],
  },
  {
    name: "voice in, voice out",
    tag: "voice",
    send: { voice: { file_id: "voice1", file_unique_id: "v1", duration: 1, mime_type: "audio/ogg" } },
    steps: [call("tts", { text: "spoken answer" })],
    want: [/^\[sendVoice\]|^\[sendAudio\]/],
  },
  {
    name: "picture in",
    tag: "look",
    send: {
      caption: "#look at this",
      photo: [{ file_id: "photo1", file_unique_id: "p1", width: 64, height: 64, file_size: 200 }],
    },
    steps: [],
    want: [/^done: a picture of \d+ bytes/],
  },
  {
    name: "picture out",
    tag: "draw",
    say: "#draw a grey square",
    steps: [call("image_generate", { prompt: "a grey square" })],
    want: [/^\[sendPhoto\]/],
  },
  {
    name: "document out",
    tag: "post",
    say: "#post the document",
    steps: [call("message", { action: "send", message: "here it is", media: `${AGENT_DIR}/test.pdf` })],
    want: [/^\[sendDocument\]/],
  },
  {
    name: "tool of the broker",
    tag: "mail",
    say: "#mail any news",
    steps: [call("cloister__mail_list", {})],
    want: [/two letters/],
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
    const tag = /#([a-z]+)\b/.exec(said);
    if (tag && (tag[1] === "pill" || TURNS.some((item) => item.tag === tag[1]))) {
      last = i;
      turn = tag[1];
    }
  });
  if (turn === "pill") return { text: "take your pill" };
  const script = TURNS.find((item) => item.tag === turn);
  if (!script) return { text: "NO_REPLY" };
  const results = messages.slice(last + 1).filter((message) => message.role === "tool");
  if (results.length < script.steps.length) {
    const step = script.steps[results.length];
    return { tool: { name: step.name, args: evaluate(step.args) } };
  }
  if (turn === "look") return { text: `done: a picture of ${pictureBytes(messages)} bytes` };
  const tail = results.length ? textOf(results.at(-1).content) : "hello";
  return { text: `done: ${tail.slice(0, 3000)}` };
}

// The size of the last picture in the conversation, as a data URL.
function pictureBytes(messages) {
  const parts = messages.flatMap((message) => (Array.isArray(message.content) ? message.content : []));
  const url = parts.findLast((part) => part.type === "image_url")?.image_url.url ?? "";
  return /^data:image\//.test(url) ? url.length : "no";
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
    case "sendVoice":
    case "sendAudio":
    case "sendPhoto":
    case "sendDocument":
      sent.push(`[${method}]`);
      if (!new RegExp(`name="chat_id"\\r\\n\\r\\n${OWNER}\\r`).test(body.raw)) fail(`${method} to another chat`);
      onSent();
      return ok({ message_id: 1000 + sent.length, date: now(), chat, from: bot });
    case "getFile":
      return ok({ file_id: body.file_id, file_unique_id: "u", file_path: `files/${body.file_id}` });
    default:
      return ok(true);
  }
}

function json(res, status, value) {
  if (res.destroyed) return;
  res.writeHead(status, { "content-type": "application/json" });
  res.end(JSON.stringify(value));
}

function say(content) {
  const id = nextUpdate++;
  updates.push({ update_id: id, message: { message_id: id, date: now(), chat, from: person, ...content } });
}

function bytes(res, type, body) {
  res.writeHead(200, { "content-type": type, "content-length": body.length });
  res.end(body);
}

// The least of an MCP server that speaks Streamable HTTP without sessions.
function mcp(body, res) {
  const ok = (result) => json(res, 200, { jsonrpc: "2.0", id: body.id, result });
  switch (body.method) {
    case "initialize":
      return ok({
        protocolVersion: body.params.protocolVersion,
        capabilities: { tools: {} },
        serverInfo: { name: "cloister", version: "1" },
      });
    case "tools/list":
      return ok({
        tools: ["mail_list", "reply"].map((name) => ({
          name,
          description: `${name} of the broker`,
          inputSchema: { type: "object", properties: {} },
        })),
      });
    case "tools/call":
      return ok({ content: [{ type: "text", text: "two letters" }] });
    default:
      res.writeHead(202);
      return res.end();
  }
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
    if (/^\/telegram\/file\/bot[^/]+\/files\/voice1$/.test(req.url)) return bytes(res, "audio/ogg", tinyOgg());
    if (/^\/telegram\/file\/bot[^/]+\/files\/photo1$/.test(req.url)) return bytes(res, "image/png", tinyPng());
    if (req.url === "/mcp" && req.method === "POST") return mcp(body, res);
    if (req.url === "/v1/audio/transcriptions") return json(res, 200, { text: "#voice spoken words" });
    if (req.url === "/v1/audio/speech") return bytes(res, "audio/ogg", tinyOgg());
    if (req.url === "/v1/images/generations")
      return json(res, 200, { created: 1, data: [{ b64_json: tinyPng().toString("base64") }] });
    // As the broker answers a tenant without this route; memory search must go on without.
    if (req.url === "/v1/embeddings")
      return json(res, 403, { error: { message: "no route for embeddings", type: "route_denied" } });
    return json(res, 404, { error: { message: `no such path: ${req.url}` } });
  });
});

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// The gateway's own port says that it is ready.
async function readyz() {
  for (let i = 0; i < 60; i++) {
    const res = await fetch(`${GATEWAY}/readyz`).catch(() => undefined);
    if (res?.status === 200) return;
    await sleep(500);
  }
  fail("/readyz does not say ready");
}

// The OpenAI-compatible front of the gateway, in the same conversation as the chat.
async function front() {
  const res = await fetch(`${GATEWAY}/v1/chat/completions`, {
    method: "POST",
    headers: {
      authorization: "Bearer selftest",
      "content-type": "application/json",
      "x-openclaw-session-key": `agent:main:telegram:direct:${OWNER}`,
    },
    body: JSON.stringify({ model: "openclaw", messages: [{ role: "user", content: "#text hello" }] }),
  });
  const body = await res.json();
  const text = body.choices?.[0]?.message?.content ?? JSON.stringify(body);
  if (!text.startsWith("done:")) fail(`front: ${text.slice(0, 300)}`);
  console.log("selftest: front: ok");
}

// The schedule reader sees a reminder that has not run yet.
async function nextDue() {
  const due = Number(execFileSync("next-due", { encoding: "utf8" }));
  if (!(due > Date.now() + 3_000_000 && due < Date.now() + 4_000_000)) fail(`next-due: ${due}`);
  console.log("selftest: schedule reader: ok");
}

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
  await new Promise((resolve) => server.listen(PORT, "127.0.0.1", resolve));

  const [command, ...args] = process.argv.slice(2);
  await within(START_MS, "the agent did not ask for messages", (done) => {
    polled = done;
    child = spawn(command, args, { stdio: ["ignore", "inherit", "inherit"] });
    child.on("exit", (code, signal) => ending || fail(`the agent ended: ${code ?? signal}`));
  });
  console.log(`selftest: ready after ${since()} s`);
  await readyz();
  // Only now: the agent must come up in an empty workspace.
  mkdirSync(`${AGENT_DIR}/memory`, { recursive: true });
  writeFileSync(`${AGENT_DIR}/test.pdf`, tinyPdf());
  writeFileSync(`${AGENT_DIR}/MEMORY.md`, "# Facts\n\nThe bicycle of the owner is heliotrope.\n");

  for (const turn of TURNS) {
    const from = sent.length;
    const t0 = Date.now();
    await within(TURN_MS, turn.name, (done) => {
      onSent = () => {
        const texts = sent.slice(from);
        if (turn.want.every((want) => texts.some((text) => want.test(text)))) done();
      };
      say(turn.send ?? { text: turn.say });
    });
    console.log(`selftest: ${turn.name}: ok, ${((Date.now() - t0) / 1000).toFixed(1)} s`);
  }

  await front();
  await nextDue();

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
