/* SPDX-License-Identifier: Apache-2.0 */
/* Our Bot API server does what the public description says: tests that stand on it can be believed. */
import assert from "node:assert/strict";
import { TelegramServer } from "../doubles/telegram-server/server.mjs";

export const tests = [];

/* test - one more of this file; its server ends with it */
function test(name, fn) {
  const ends = [];

  tests.push({ needs: "nothing", name: "Telegram double: " + name, async fn() {
    try {
      await fn({ after: (end) => ends.push(end) });
    } finally {
      for (const end of ends) await end();
    }
  } });
}

async function start(t) {
  const s = new TelegramServer({ token: "1:T" }), port = await s.listen();
  t.after(() => s.close());
  const post = async (path, body, headers = { "content-type": "application/json" }) => {
    const r = await fetch(`http://127.0.0.1:${port}${path}`, body === undefined ? {} :
      { method: "POST", headers, body: headers["content-type"] === "application/json" ? JSON.stringify(body) : body });
    return { status: r.status, doc: await r.json(), headers: r.headers };
  };
  return { s, port, post, bot: (m, b) => post(`/bot1:T/${m}`, b), control: (m, b) => post(`/control/${m}`, b) };
}

test("a wrong token is 401", async (t) => {
  const { post } = await start(t);
  const r = await post("/bot1:X/getMe");
  assert.equal(r.status, 401);
  assert.deepEqual(r.doc, { ok: false, error_code: 401, description: "Unauthorized" });
});

test("an update comes until its offset confirms it", async (t) => {
  const { bot, control } = await start(t);
  await control("say", { chat: 555, text: "hi", first_name: "Alice" });
  const one = await bot("getUpdates", { timeout: 0 }), again = await bot("getUpdates", { timeout: 0 });
  assert.equal(one.doc.result[0].message.text, "hi");
  assert.deepEqual(again.doc, one.doc);
  const none = await bot("getUpdates", { timeout: 0, offset: one.doc.result[0].update_id + 1 });
  assert.deepEqual(none.doc.result, []);
});

test("a long poll ends when something is said", async (t) => {
  const { bot, control } = await start(t);
  const poll = bot("getUpdates", { timeout: 20 });
  await new Promise((r) => setTimeout(r, 50));
  await control("say", { chat: 1, text: "now" });
  assert.equal((await poll).doc.result.length, 1);
});

test("what is sent is listed, and failures come when asked for", async (t) => {
  const { bot, control, post } = await start(t);
  await control("fail", { method: "sendMessage", status: 429, retry_after: 3 });
  const r = await bot("sendMessage", { chat_id: 5, text: "x" });
  assert.equal(r.status, 429);
  assert.equal(r.doc.parameters.retry_after, 3);
  assert.equal((await bot("sendMessage", { chat_id: 5, text: "y" })).doc.result.text, "y");
  const sent = (await post("/control/sent?chat=5")).doc;
  assert.deepEqual(sent.map((m) => m.params.text), ["y"]);
});

test("a file goes up, is listed and comes down again", async (t) => {
  const { bot, port, control } = await start(t);
  const form = new FormData();
  form.set("chat_id", "5");
  form.set("photo", "attach://p");
  form.set("p", new Blob(["PNG"]), "a.png");
  const r = await (await fetch(`http://127.0.0.1:${port}/bot1:T/sendPhoto`, { method: "POST", body: form })).json();
  assert.equal(r.ok, true);
  const f = await bot("getFile", { file_id: r.result.photo.at(-1).file_id });
  const back = await fetch(`http://127.0.0.1:${port}/file/bot1:T/${f.doc.result.file_path}`);
  assert.equal(await back.text(), "PNG");
  await control("media", { chat: 5, kind: "voice", data: Buffer.from("OGG").toString("base64"), mime: "audio/ogg" });
  const u = await bot("getUpdates", {});
  assert.equal(u.doc.result[0].message.voice.mime_type, "audio/ogg");
});
