// SPDX-License-Identifier: Apache-2.0
// A Telegram Bot API server for tests, made after the public description of the Bot API.
// No dependencies. `node server.mjs [--port N] [--token T[,T2]] [--bot name]` prints one line
// {"port":N,"token":"..."} when it listens on 127.0.0.1.
//
// Bot side:    /bot<token>/<method> (query, form, JSON or multipart), /file/bot<token>/<file_path>
// Control side (tests only), JSON in and out:
//   POST /control/say       {"chat":555,"text":"hi","first_name":"Alice"}  -> {"update_id","message_id"}
//   POST /control/media     {"chat":555,"kind":"voice","data":base64,"mime","name","caption"} -> the same
//   POST /control/press     {"chat":555,"message_id":5,"data":"yes"}
//   POST /control/update    {…} any update without update_id
//   POST /control/fail      {"method":"sendMessage","status":429,"times":1,"retry_after":2,"after":false,"hang":false}
//                           "after": it is carried out and then answered with the failure
//   POST /control/token     {"token":"new"}  the only one that is right from now on
//   GET  /control/sent[?chat=555]   everything that was sent, in order
//   GET  /control/calls     every call: {at_ms, method, params, status}
//   POST /control/reset     forget all
import http from "node:http";
import { randomBytes } from "node:crypto";
import { pathToFileURL } from "node:url";

const SEND_KINDS = { sendPhoto: "photo", sendDocument: "document", sendVoice: "voice", sendAudio: "audio", sendVideo: "video",
  sendAnimation: "animation", sendVideoNote: "video_note", sendSticker: "sticker" };
const BODY_MAX = 64 * 1024 * 1024;

class ApiError extends Error {
  constructor(code, description, parameters) {
    super(description);
    this.code = code;
    this.parameters = parameters;
  }
}

function parseMultipart(body, type) {
  const m = /boundary=(?:"([^"]+)"|([^;]+))/.exec(type);
  if (!m) throw new ApiError(400, "Bad Request: no boundary");
  const mark = Buffer.from("--" + (m[1] ?? m[2]).trim());
  const params = {}, files = {};
  let at = body.indexOf(mark);
  while (at >= 0) {
    at += mark.length;
    if (body.subarray(at, at + 2).toString() === "--") break;
    const headEnd = body.indexOf("\r\n\r\n", at);
    const next = body.indexOf(Buffer.concat([Buffer.from("\r\n"), mark]), headEnd + 2);
    if (headEnd < 0 || next < 0) throw new ApiError(400, "Bad Request: broken multipart");
    const head = body.subarray(at, headEnd).toString();
    const name = /name="([^"]*)"/i.exec(head)?.[1] ?? "";
    const filename = /filename="?([^"\r\n]*)"?/i.exec(head)?.[1];
    const data = body.subarray(headEnd + 4, next);
    if (filename !== undefined) files[name] = { filename, data: Buffer.from(data) };
    else params[name] = data.toString();
    at = next + 2;
  }
  return { params, files };
}

function parseParams(req, url, body) {
  const params = Object.fromEntries(url.searchParams), type = req.headers["content-type"] ?? "";
  let files = {};
  if (body.length && type.startsWith("application/json")) Object.assign(params, JSON.parse(body.toString()));
  else if (body.length && type.startsWith("multipart/form-data")) {
    const r = parseMultipart(body, type);
    Object.assign(params, r.params);
    files = r.files;
  } else if (body.length) Object.assign(params, Object.fromEntries(new URLSearchParams(body.toString())));
  for (const [k, v] of Object.entries(params)) // documents may come as strings
    if (typeof v === "string" && /^[[{]/.test(v)) {
      try { params[k] = JSON.parse(v); } catch { /* plain text that looks like it */ }
    }
  return { params, files };
}

export class TelegramServer {
  constructor({ token = "123456:TEST", bot = "cloister_test_bot" } = {}) {
    this.tokens = new Set(String(token).split(","));
    this.bot = { id: 123456, is_bot: true, first_name: "Test", username: bot };
    this.reset();
  }

  reset() {
    this.updates = [];
    this.nextUpdate = this.nextUpdate ?? 1;
    this.nextMessage = this.nextMessage ?? 1;
    this.polls = [];
    this.sent = [];
    this.calls = [];
    this.messages = new Map();
    this.files = new Map();
    this.failures = [];
    this.chats = new Map();
    this.commands = [];
  }

  // ---- what people do ---------------------------------------------------------------------

  chat(id) { return { id, type: "private", first_name: this.chats.get(id) ?? "Person" }; }
  person(id) { return { id, is_bot: false, first_name: this.chats.get(id) ?? "Person", language_code: "en" }; }

  push(update) {
    const u = { update_id: this.nextUpdate++, ...update };
    this.updates.push(u);
    for (const p of this.polls.splice(0)) p();
    return u;
  }

  fromPerson(chat, fields, first_name) {
    if (first_name) this.chats.set(chat, first_name);
    const message = { message_id: this.nextMessage++, from: this.person(chat), chat: this.chat(chat),
      date: Math.floor(Date.now() / 1000), ...fields };
    this.messages.set(`${chat}:${message.message_id}`, message);
    return { update_id: this.push({ message }).update_id, message_id: message.message_id };
  }

  store(data, ext = "bin") {
    const file_id = randomBytes(18).toString("base64url"), file_path = `files/file_${this.files.size}.${ext}`;
    this.files.set(file_id, { file_id, file_unique_id: file_id.slice(0, 8), file_size: data.length, file_path, data });
    return this.files.get(file_id);
  }

  mediaFields(kind, file, mime, name) {
    const f = { file_id: file.file_id, file_unique_id: file.file_unique_id, file_size: file.file_size };
    if (kind === "photo") return [{ ...f, width: 90, height: 90 }, { ...f, width: 320, height: 320 }];
    return { ...f, ...(mime && { mime_type: mime }), ...(name && { file_name: name }),
      ...(/voice|audio|video/.test(kind) && { duration: 1 }) };
  }

  control(path, url, body) {
    switch (path) {
      case "say": return this.fromPerson(body.chat, { text: body.text, ...body.extra }, body.first_name);
      case "media": {
        const ext = { photo: "jpg", voice: "oga", audio: "mp3", video: "mp4" }[body.kind] ?? "bin";
        const file = this.store(Buffer.from(body.data ?? "", "base64"), ext);
        return this.fromPerson(body.chat, { [body.kind]: this.mediaFields(body.kind, file, body.mime, body.name),
          ...(body.caption && { caption: body.caption }) }, body.first_name);
      }
      case "press": {
        const message = this.messages.get(`${body.chat}:${body.message_id}`);
        return this.push({ callback_query: { id: randomBytes(8).toString("hex"), from: this.person(body.chat), message,
          chat_instance: "1", data: body.data } });
      }
      case "update": return this.push(body);
      case "fail": this.failures.push({ times: 1, status: 500, ...body }); return {};
      case "token": this.tokens = new Set([body.token]); return {};
      case "reset": this.reset(); return {};
      case "sent": {
        const chat = url.searchParams.get("chat");
        return this.sent.filter((m) => !chat || String(m.chat_id) === chat);
      }
      case "calls": return this.calls;
      default: throw new ApiError(404, "no such control");
    }
  }

  // ---- the bot side ---------------------------------------------------------------------------

  chatOf(p) {
    const id = Number(p.chat_id);
    if (p.chat_id === undefined) throw new ApiError(400, "Bad Request: chat_id is empty");
    if (!Number.isSafeInteger(id) || id === 0) throw new ApiError(400, "Bad Request: chat not found");
    return id;
  }

  fileOf(kind, p, files) {
    const v = p[kind], part = typeof v === "string" && v.startsWith("attach://") ? v.slice(9) : kind;
    if (files[part]) return { file: this.store(files[part].data, "bin"), name: files[part].filename };
    if (this.files.has(v)) return { file: this.files.get(v) };
    throw new ApiError(400, `Bad Request: there is no ${kind} in the request`);
  }

  add(method, chat, fields, p, extra = {}) {
    const message = { message_id: this.nextMessage++, from: this.bot, chat: this.chat(chat), date: Math.floor(Date.now() / 1000),
      ...fields, ...(p.reply_markup && { reply_markup: p.reply_markup }) };
    this.messages.set(`${chat}:${message.message_id}`, message);
    this.sent.push({ method, chat_id: chat, message_id: message.message_id, params: p, ...extra });
    return message;
  }

  existing(chat, id) {
    const m = this.messages.get(`${chat}:${id}`);
    if (!m) throw new ApiError(400, "Bad Request: message to edit not found");
    return m;
  }

  async getUpdates(p, req) {
    const offset = Number(p.offset ?? 0), limit = Math.min(Number(p.limit ?? 100), 100);
    if (this.polls.length) for (const q of this.polls.splice(0)) q(true);
    if (offset > 0) this.updates = this.updates.filter((u) => u.update_id >= offset);
    const take = () => this.updates.filter((u) => !p.allowed_updates?.length ||
      p.allowed_updates.some((k) => k in u)).slice(0, limit);
    if (take().length === 0 && Number(p.timeout ?? 0) > 0) {
      const conflict = await new Promise((resolve) => {
        const timer = setTimeout(resolve, Number(p.timeout) * 1000);
        const wake = (v) => { clearTimeout(timer); resolve(v); };
        this.polls.push(wake);
        req.socket.once("close", () => { this.polls = this.polls.filter((q) => q !== wake); wake(); });
      });
      if (conflict) throw new ApiError(409, "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running");
    }
    return take();
  }

  call(method, p, files, req) {
    const kind = SEND_KINDS[method];
    if (kind) {
      const chat = this.chatOf(p), { file, name } = this.fileOf(kind, p, files);
      return this.add(method, chat, { [kind]: this.mediaFields(kind, file, undefined, name),
        ...(p.caption && { caption: p.caption }) }, p, { file: file.data.toString("base64"), filename: name });
    }
    switch (method) {
      case "getMe": return this.bot;
      case "getUpdates": return this.getUpdates(p, req);
      case "deleteWebhook": case "setWebhook": case "answerCallbackQuery": case "sendChatAction": case "setMessageReaction":
      case "setChatMenuButton":
        if ("chat_id" in p) this.chatOf(p);
        return true;
      case "getWebhookInfo": return { url: "", has_custom_certificate: false, pending_update_count: this.updates.length };
      case "setMyCommands": this.commands = p.commands ?? []; return true;
      case "deleteMyCommands": this.commands = []; return true;
      case "getMyCommands": return this.commands;
      case "sendMessage": {
        const chat = this.chatOf(p);
        if (typeof p.text !== "string" || !p.text.trim()) throw new ApiError(400, "Bad Request: message text is empty");
        if (p.text.length > 4096) throw new ApiError(400, "Bad Request: message is too long");
        return this.add(method, chat, { text: p.text, ...(p.entities && { entities: p.entities }) }, p);
      }
      case "sendLocation":
        return this.add(method, this.chatOf(p), { location: { latitude: Number(p.latitude), longitude: Number(p.longitude) } }, p);
      case "editMessageText": case "editMessageCaption": case "editMessageReplyMarkup": {
        const chat = this.chatOf(p), m = this.existing(chat, p.message_id);
        if (p.text !== undefined) m.text = p.text;
        if (p.caption !== undefined) m.caption = p.caption;
        this.sent.push({ method, chat_id: chat, message_id: m.message_id, params: p });
        return m;
      }
      case "deleteMessage": {
        const chat = this.chatOf(p);
        if (!this.messages.delete(`${chat}:${p.message_id}`)) throw new ApiError(400, "Bad Request: message to delete not found");
        this.sent.push({ method, chat_id: chat, message_id: Number(p.message_id), params: p });
        return true;
      }
      case "getFile": {
        const f = this.files.get(p.file_id);
        if (!f) throw new ApiError(400, "Bad Request: invalid file_id");
        return { file_id: f.file_id, file_unique_id: f.file_unique_id, file_size: f.file_size, file_path: f.file_path };
      }
      case "getChat": return this.chat(this.chatOf(p));
      case "getChatMember": return { status: "member", user: this.person(Number(p.user_id)) };
      default: throw new ApiError(404, "Not Found: method not found");
    }
  }

  failure(method) {
    const i = this.failures.findIndex((f) => (!f.method || f.method === method) && f.times > 0);
    if (i < 0) return null;
    const f = this.failures[i];
    if (--f.times === 0) this.failures.splice(i, 1);
    return f;
  }

  async bot_call(req, res, url, token, method, body) {
    const record = { at_ms: Date.now(), method, params: {}, status: 200 };
    this.calls.push(record);
    try {
      if (!this.tokens.has(token)) throw new ApiError(401, "Unauthorized");
      const { params, files } = parseParams(req, url, body);
      record.params = params;
      const f = this.failure(method);
      const fail = () => {
        if (f.hang) return req.socket.destroy();
        throw new ApiError(f.status, f.description ?? (f.status === 429 ? `Too Many Requests: retry after ${f.retry_after ?? 1}` :
          f.status >= 500 ? "Internal Server Error" : f.status === 401 ? "Unauthorized" : "Forbidden"),
        f.status === 429 ? { retry_after: f.retry_after ?? 1 } : undefined);
      };
      if (f && !f.after) return fail();
      const result = await this.call(method, params, files, req);
      if (f) return fail();
      return this.json(res, 200, { ok: true, result });
    } catch (e) {
      const code = e.code >= 400 ? e.code : 500;
      record.status = code;
      return this.json(res, code, { ok: false, error_code: code, description: String(e.message),
        ...(e.parameters && { parameters: e.parameters }) });
    }
  }

  json(res, status, value) {
    if (res.destroyed) return;
    const text = JSON.stringify(value);
    res.writeHead(status, { "content-type": "application/json", "content-length": Buffer.byteLength(text) });
    res.end(text);
  }

  async handle(req, res) {
    const url = new URL(req.url, "http://localhost"), parts = [];
    let size = 0;
    for await (const piece of req) {
      size += piece.length;
      if (size > BODY_MAX) return this.json(res, 413, { ok: false, error_code: 413, description: "Request Entity Too Large" });
      parts.push(piece);
    }
    const body = Buffer.concat(parts);
    let m;
    if ((m = /^\/control\/(\w+)$/.exec(url.pathname))) {
      try {
        return this.json(res, 200, this.control(m[1], url, body.length ? JSON.parse(body.toString()) : {}));
      } catch (e) {
        return this.json(res, e.code >= 400 ? e.code : 400, { error: String(e.message) });
      }
    }
    if ((m = /^\/file\/bot([^/]+)\/(.+)$/.exec(url.pathname))) {
      this.calls.push({ at_ms: Date.now(), method: "(file)", params: { path: m[2] }, status: 200 });
      const file = [...this.files.values()].find((f) => f.file_path === m[2]);
      if (!this.tokens.has(m[1]) || !file) return this.json(res, 404, { ok: false, error_code: 404, description: "Not Found" });
      res.writeHead(200, { "content-type": "application/octet-stream", "content-length": file.data.length });
      return res.end(file.data);
    }
    if ((m = /^\/bot([^/]+)\/(\w+)$/.exec(url.pathname))) return this.bot_call(req, res, url, m[1], m[2], body);
    return this.json(res, 404, { ok: false, error_code: 404, description: "Not Found" });
  }

  listen(port = 0) {
    this.server = http.createServer((req, res) => {
      this.handle(req, res).catch(() => res.destroy());
    });
    return new Promise((resolve) => this.server.listen(port, "127.0.0.1", () => resolve(this.server.address().port)));
  }

  close() {
    for (const p of this.polls.splice(0)) p();
    this.server.closeAllConnections();
    return new Promise((resolve) => this.server.close(resolve));
  }
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const arg = (name, otherwise) => {
    const i = process.argv.indexOf(`--${name}`);
    return i > 0 ? process.argv[i + 1] : otherwise;
  };
  const token = arg("token", "123456:TEST");
  const server = new TelegramServer({ token, bot: arg("bot", "cloister_test_bot") });
  const port = await server.listen(Number(arg("port", "0")));
  console.log(JSON.stringify({ port, token }));
  for (const s of ["SIGINT", "SIGTERM"]) process.on(s, () => process.exit(0));
}
