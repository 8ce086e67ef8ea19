/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The conversation of the real broker, without sandboxes: agents are grammY and
 * Telegraf from npm, the messenger is our Bot API server. Each person gets
 * exactly their own, in order, once; also when the broker is killed in between.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import readline from "node:readline";
import { TelegramServer } from "../doubles/telegram-server/server.mjs";
import { build, loadCommonJs } from "../lib/packages.mjs";
import { sleep, until } from "../lib/util.mjs";

const UID = 65534, TOKEN = "123456:messenger-test";
const policy = { model: { route: "openai", id: "m" }, routes: [], budget: { calls_per_hour: 60, tokens_per_day: 1000 }, hosts: [], media: {} };

/* A broker alone: broker_driver plays cloisterd, api and ledger. */
class Broker {
	static async start(dir, root) {
		const self = new Broker();

		self.waiting = [];
		self.events = [];
		self.records = [];
		self.child = spawn(path.join(build, "tests/unit/broker_driver"), [path.join(build, "bin/cloister-broker"), dir, String(UID)],
			{ stdio: ["pipe", "pipe", "inherit"] });
		self.done = new Promise((ok) => self.child.once("exit", ok));
		readline.createInterface({ input: self.child.stdout }).on("line", (l) => self.#line(l));
		await until("the broker is ready", 10000, () => self.ready);
		await self.call("secret telegram " + TOKEN);
		await self.call("channel.put", { name: "telegram", kind: "telegram", api_root: root, secret: "telegram" });
		self.tokens = [];
		for (const [no, id] of [[1, "alice"], [2, "bob"]])
			self.tokens.push((await self.call("tenant.put", { no, id, generation: 1, policy })).tokens.bot);
		await self.call("sync.end", {});
		return self;
	}

	#line(line) {
		const m = /^(\d+) (.*)$/.exec(line);

		if (line.startsWith("ready "))
			this.ready = line.split(" ").slice(1).map(Number);
		else if (line.startsWith("event "))
			this.events.push(line.slice(6));
		else if (line.startsWith("record "))
			this.records.push(line.slice(7));
		else if (m)
			this.waiting.shift()?.(m);
	}

	async call(method, body, want = 200) {
		const answer = new Promise((ok) => this.waiting.push(ok));

		this.child.stdin.write(method + (body === undefined ? "" : " " + JSON.stringify(body)) + "\n");
		const [, status, json] = await answer;

		assert.equal(Number(status), want, `${method.split(" ")[0]}: ${json}`);
		return JSON.parse(json || "null");
	}

	root(no) {
		return `http://127.0.0.1:${this.ready[no - 1]}/telegram`;
	}

	async kill() {
		process.kill(this.ready[2], "SIGKILL");
		this.child.stdin.end();
		await this.done;
	}

	async stop() {
		this.child.stdin.end();
		await this.done;
	}
}

/* world - the messenger with two bound persons; @fn gets it, and everything ends afterwards */
async function world(fn) {
	const dir = fs.mkdtempSync(path.join(os.tmpdir(), "cl-messenger-"));
	fs.chownSync(dir, UID, UID);
	const w = { telegram: new TelegramServer({ token: TOKEN, bot: "house_bot" }), stops: [] };

	try {
		w.api = `http://127.0.0.1:${await w.telegram.listen()}`;
		w.broker = await Broker.start(dir, w.api);
		w.again = async () => { w.broker = await Broker.start(dir, w.api); };
		w.say = (chat, text) => w.telegram.control("say", null, { chat, text, first_name: "P" + chat });
		w.sent = (chat) => w.telegram.sent.filter((m) => m.chat_id === chat);
		w.texts = (chat) => w.sent(chat).map((m) => m.params.text).filter((t) => t && !t.includes("connected"));
		for (const [no, chat] of [[1, 555], [2, 666]]) {
			const invite = await until("the bot's name is known", 5000, () => w.broker.call("invite.new", { no, channel: "telegram" }));

			assert.match(invite.url, /^https:\/\/t\.me\/house_bot\?start=[a-z2-7]{26}$/);
			w.say(chat, "/start " + invite.code);
		}
		await until("both are welcome", 5000, () => w.telegram.sent.length === 2);
		await fn(w);
	} finally {
		for (const stop of w.stops)
			await stop();
		await w.broker?.stop();
		await w.telegram.close();
		fs.rmSync(dir, { recursive: true, force: true });
	}
}

/* echo - an agent on grammY that repeats what its person says */
function echo(w, no, seen = []) {
	const { Bot, InputFile } = loadCommonJs("grammy");
	const bot = new Bot(w.broker.tokens[no - 1], { client: { apiRoot: w.broker.root(no) } });

	bot.catch(() => {});
	bot.on("message:voice", async (ctx) => {
		const file = await ctx.getFile();
		const data = await (await fetch(`${w.broker.root(no).replace("/telegram", "/telegram/file")}/bot${w.broker.tokens[no - 1]}/${file.file_path}`)).text();

		await ctx.replyWithPhoto(new InputFile(Buffer.from("a picture of " + data), "a b.png"), { caption: "heard <b>" + data + "</b>", parse_mode: "HTML" });
	});
	bot.on("message:text", async (ctx) => {
		seen.push(ctx.msg.text);
		await ctx.reply(`<b>${ctx.msg.text}</b>`, { parse_mode: "HTML" });
	});
	bot.start().catch(() => {});
	w.stops.push(() => bot.stop().catch(() => {}));
	return { bot, seen };
}

const nothing = "nothing";

export const tests = [
	{
		needs: nothing,
		name: "grammY, unchanged: two persons on one bot each get their own, in order; voice in, picture out",
		fn: () => world(async (w) => {
			const a = echo(w, 1), b = echo(w, 2);

			for (let i = 0; i < 4; i++) {
				w.say(555, "a" + i);
				w.say(666, "b" + i);
			}
			await until("all answers are there", 20000, () => w.texts(555).length >= 4 && w.texts(666).length >= 4);
			assert.deepEqual(a.seen, ["a0", "a1", "a2", "a3"]);
			assert.deepEqual(b.seen, ["b0", "b1", "b2", "b3"]);
			assert.deepEqual(w.texts(555), a.seen);
			assert.deepEqual(w.texts(666), b.seen);
			assert.ok(w.telegram.sent.every((m) => m.params.parse_mode === undefined && m.params.link_preview_options?.is_disabled));
			w.telegram.control("media", null, { chat: 555, kind: "voice", mime: "audio/ogg", data: Buffer.from("OGG-1").toString("base64") });
			const photo = await until("the picture", 10000, () => w.sent(555).find((m) => m.method === "sendPhoto"));

			assert.equal(Buffer.from(photo.file, "base64").toString(), "a picture of OGG-1");
			assert.equal(photo.params.caption, "heard OGG-1");
			assert.equal(w.sent(666).filter((m) => m.method === "sendPhoto").length, 0);
		}),
	},
	{
		needs: nothing,
		name: "Telegraf, unchanged: text, document, group of pictures, edit, delete",
		fn: () => world(async (w) => {
			const { Telegraf } = loadCommonJs("telegraf");
			const bot = new Telegraf(w.broker.tokens[0], { telegram: { apiRoot: w.broker.root(1) + "/" } });
			let failed = null;

			bot.on("text", async (ctx) => {
				const m = await ctx.replyWithHTML("<i>one</i>");

				await ctx.replyWithDocument({ source: Buffer.from("DOC"), filename: "d.txt" }, { caption: "paper" });
				await ctx.replyWithMediaGroup(["P1", "P2"].map((p) => ({ type: "photo", media: { source: Buffer.from(p) } })));
				await ctx.telegram.editMessageText(ctx.chat.id, m.message_id, undefined, "two");
				await ctx.telegram.deleteMessage(ctx.chat.id, m.message_id);
			});
			bot.catch((e) => { failed = e; });
			bot.launch().catch(() => {});
			w.stops.push(() => bot.stop());
			w.say(555, "go");
			await until("the last of them", 20000, () => failed || w.sent(555).some((m) => m.method === "deleteMessage"));
			assert.equal(failed, null);
			assert.deepEqual(w.sent(555).slice(1).map((m) => m.method),
				["sendMessage", "sendDocument", "sendPhoto", "sendPhoto", "editMessageText", "deleteMessage"]);
		}),
	},
	{
		needs: nothing,
		name: "kill -9 of the broker between messages: nothing is lost, nothing comes twice",
		fn: () => world(async (w) => {
			const said = [];
			let a = echo(w, 1);

			for (let round = 0; round < 3; round++) {
				for (let i = 0; i < 3; i++) {
					said.push(`r${round}m${i}`);
					w.say(555, said.at(-1));
				}
				await sleep(700 * round + 150);	/* another moment each time */
				const before = a.seen;

				await w.broker.kill();
				await w.stops.pop()();
				await w.again();
				a = echo(w, 1, before);
			}
			await until("all answers, or marked as of unknown fate", 30000, async () => {
				const { messages } = await w.broker.call("chat.history", { no: 1, limit: 200 });
				const mine = messages.filter((m) => m.from === "agent" && !m.notice);

				return said.every((s) => mine.some((m) => m.text === s)) && mine.every((m) => ["sent", "unknown", "failed"].includes(m.state));
			});
			const { messages } = await w.broker.call("chat.history", { no: 1, limit: 200 });

			assert.deepEqual(messages.filter((m) => m.from === "owner").map((m) => m.text), said);
			/* each message that the agent sent: at most once at the messenger, and exactly once when it says "sent" */
			const arrived = w.texts(555);

			for (const text of new Set(said)) {
				const mine = messages.filter((m) => m.from === "agent" && m.text === text);
				const n = arrived.filter((t) => t === text).length;

				assert.ok(n <= mine.length && n >= mine.filter((m) => m.state === "sent").length, `${text}: ${n} of ${mine.length}`);
			}
		}),
	},
	{
		needs: nothing,
		name: "a send to anyone else, a foreign token, a foreign file: refused, recorded, and nothing leaves",
		fn: () => world(async (w) => {
			const post = async (no, token, method, body) => {
				const r = await fetch(`${w.broker.root(no)}/bot${token}/${method}`,
					{ method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });

				return { status: r.status, ...(await r.json()) };
			};
			const before = w.telegram.sent.length, [alice, bob] = w.broker.tokens;

			for (const chat_id of [666, "666", "@bob", -1001, "1001 ", 1001.5])
				assert.equal((await post(1, alice, "sendMessage", { chat_id, text: "for bob" })).status, 403, String(chat_id));
			for (const body of [{ chat_id: 1001, from_chat_id: 666, message_id: 1 }])
				assert.equal((await post(1, alice, "forwardMessage", body)).rule, "conversation.recipient");
			assert.equal((await post(1, bob, "getMe", {})).status, 401);
			assert.equal((await post(1, alice, "sendMessage", { chat_id: 1001, text: `my token: ${TOKEN}` })).rule, "conversation.leak");
			const back = Buffer.from(TOKEN).toString("base64");

			assert.equal((await post(1, alice, "sendMessage", { chat_id: 1001, text: `my token: ${back}` })).rule, "conversation.leak");
			await until("the notice to the owner", 5000, () => w.texts(555).some((t) => t.includes("was stopped")));
			assert.ok(w.telegram.sent.slice(before).every((m) => !JSON.stringify(m).includes("for bob") && !JSON.stringify(m).includes(TOKEN)));
			assert.equal(w.sent(666).length, 1);	/* the welcome */
			const denied = w.broker.records.filter((r) => r.includes("conversation.recipient"));

			assert.ok(denied.length >= 7 && denied.every((r) => r.includes("tenant=alice")), denied.join("\n"));
		}),
	},
	{
		needs: nothing,
		name: "the messenger limits, fails and hangs up: waited for, told to the agent, never sent twice",
		fn: () => world(async (w) => {
			const { Api } = loadCommonJs("grammy");
			const api = new Api(w.broker.tokens[0], { apiRoot: w.broker.root(1) });

			w.say(555, "hello");
			await until("the message is stored", 5000, async () => (await w.broker.call("chat.history", { no: 1 })).messages.length === 1);
			w.telegram.control("fail", null, { method: "sendMessage", status: 429, retry_after: 1 });
			await api.sendMessage(1001, "after a while");
			assert.deepEqual(w.texts(555), ["after a while"]);
			w.telegram.control("fail", null, { method: "sendMessage", status: 500 });
			await assert.rejects(api.sendMessage(1001, "lost"), /502/);
			await sleep(1500);
			w.telegram.control("fail", null, { method: "sendMessage", hang: true, after: true });
			await assert.rejects(api.sendMessage(1001, "who knows"), /502/);
			await sleep(2500);
			assert.deepEqual(w.texts(555), ["after a while", "who knows"]);
			const { messages } = await w.broker.call("chat.history", { no: 1 });

			assert.deepEqual(messages.filter((m) => m.from === "agent").map((m) => m.state), ["sent", "failed", "unknown"]);
		}),
	},
];
