/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Telegram for the tests: telegram-test-api, written by others. It accepts any
 * bot token, so `Telegram.start` puts a gate before it that answers 401 to
 * any but the planted one, as the real API does, and keeps what the bot asked for.
 */
import http from "node:http";
import { loadCommonJs } from "./packages.mjs";
import { freePort, until } from "./util.mjs";

export class Telegram {
	static async start(token) {
		const TelegramServer = loadCommonJs("telegram-test-api");
		const self = new Telegram();

		self.token = token;
		self.requests = [];
		self.server = new TelegramServer({ port: await freePort(), host: "127.0.0.1", storeTimeout: 7200 });
		await self.server.start();
		self.gate = http.createServer((req, res) => self.#pass(req, res));
		await new Promise((ok) => self.gate.listen(0, "127.0.0.1", ok));
		self.url = "http://127.0.0.1:" + self.gate.address().port;
		return self;
	}

	#pass(req, res) {
		const found = /^\/bot([^/]+)\/(\w+)/.exec(req.url);
		const chunks = [];

		req.on("data", (d) => chunks.push(d));
		req.on("end", async () => {
			const body = Buffer.concat(chunks);
			const say = (status, json) => {
				res.writeHead(status, { "Content-Type": "application/json" });
				res.end(JSON.stringify(json));
			};

			if (!found || found[1] !== this.token) {
				this.requests.push({ method: found?.[2], refused: true, body: body.toString() });
				say(401, { ok: false, error_code: 401, description: "Unauthorized" });
				return;
			}
			this.requests.push({ method: found[2], url: req.url, headers: req.headers, body: body.toString() });
			/* the double knows no typing indicator and no command list; the real API answers true */
			if (["sendChatAction", "setMyCommands", "deleteMyCommands", "deleteWebhook"].includes(found[2])) {
				say(200, { ok: true, result: true });
				return;
			}
			const up = http.request(this.server.config.apiURL + req.url, {
				method: req.method,
				headers: { "content-type": req.headers["content-type"] || "application/json", "content-length": body.length },
			}, (down) => {
				res.writeHead(down.statusCode, { "Content-Type": "application/json" });
				down.pipe(res);
			});

			up.on("error", () => res.destroy());
			up.end(body);
		});
	}

	/* A person with a Telegram account of their own. */
	person(id, name) {
		const client = this.server.getClient(this.token, { userId: id, chatId: id, firstName: name, userName: name.toLowerCase(), timeout: 120000 });
		const self = this;

		return {
			id,
			send: (text) => client.sendMessage(client.makeMessage(text)),
			command: (text) => client.sendCommand(client.makeCommand(text)),
			/* all texts that the bot ever sent to this chat */
			texts: () => self.server.storage.botMessages.filter((u) => String(u.message.chat_id) === String(id)).map((u) => u.message.text),
			async hears(want, ms = 120000) {
				return until(`${name} hears ${want}`, ms, () => this.texts().find((t) => want instanceof RegExp ? want.test(t) : t.includes(want)));
			},
		};
	}

	sent(chat) {
		return this.server.storage.botMessages.filter((u) => chat === undefined || String(u.message.chat_id) === String(chat));
	}

	async stop() {
		this.gate.closeAllConnections();
		await new Promise((ok) => this.gate.close(ok));
		await this.server.stop();
	}
}
