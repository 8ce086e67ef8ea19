/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The model of the tests: aimock (written by others; answers 401 to any key
 * but the planted one) behind a tap that keeps the raw bytes of each
 * connection, because aimock's journal hides the very header that matters.
 *
 * What it answers follows from what the person wrote after "please:":
 *   say TEXT                 TEXT
 *   keep TEXT in FILE        writes FILE, reads it, says what was read
 *   run COMMAND              runs COMMAND in a shell, says what came out
 *   tell CHAT TEXT           sends TEXT to the chat id CHAT, says what the tool said
 *   wait MS say TEXT         TEXT after MS milliseconds
 * and "heard: …" otherwise.
 */
import net from "node:net";
import { load } from "./packages.mjs";

const textOf = (m) => typeof m.content === "string" ? m.content :
	(m.content || []).map((part) => part.text || "").join("\n");

/* The last thing the person asked for, and the results of tools since then. */
function asked(messages) {
	for (let i = messages.length - 1; i >= 0; i--) {
		const text = messages[i].role === "user" ? textOf(messages[i]) : "";
		/* OpenClaw adds a message with context, which may quote earlier turns */
		const found = !text.startsWith("<<<BEGIN_OPENCLAW") && [...text.matchAll(/please: ?([^\n]*)/g)].at(-1);

		if (found)
			return { words: found[1].trim(), results: messages.slice(i + 1).filter((m) => m.role === "tool").map(textOf) };
	}
	const people = messages.filter((m) => m.role === "user").map(textOf).filter((t) => !t.startsWith("<<<BEGIN_OPENCLAW"));

	return { words: "", results: [], last: people.at(-1) || "" };
}

const call = (name, args) => ({ toolCalls: [{ name, arguments: JSON.stringify(args) }] });

export function answer(messages) {
	const { words, results, last } = asked(messages);
	let m;

	if ((m = /^say (.*)$/.exec(words)))
		return { content: m[1] };
	if ((m = /^wait \d+ say (.*)$/.exec(words)))
		return { content: m[1] };
	if ((m = /^keep (.*) in (\S+)$/.exec(words))) {
		if (results.length === 0)
			return call("write", { path: m[2], content: m[1] + "\n" });
		if (results.length === 1)
			return call("read", { path: m[2] });
		return { content: "The file says: " + results[1].trim() };
	}
	if ((m = /^run (.*)$/.exec(words))) {
		if (results.length === 0)
			return call("exec", { command: m[1] });
		return { content: "The shell said: " + results[0].trim() };
	}
	if ((m = /^tell (\S+) (.*)$/.exec(words))) {
		if (results.length === 0)
			return call("message", { action: "send", channel: "telegram", target: m[1], message: m[2] });
		return { content: "The tool said: " + results[0].trim() };
	}
	return { content: "heard: " + (words || last).slice(0, 200) };
}

/* A TCP relay that remembers what went up each connection. */
class Tap {
	constructor(port) {
		this.up = [];
		this.sockets = new Set();
		this.server = net.createServer((from) => {
			const to = net.connect(port, "127.0.0.1");
			const seen = [];

			this.up.push(seen);
			for (const s of [from, to]) {
				this.sockets.add(s);
				s.on("error", () => { from.destroy(); to.destroy(); });
				s.on("close", () => { this.sockets.delete(s); from.destroy(); to.destroy(); });
			}
			from.on("data", (bytes) => seen.push(bytes));
			from.pipe(to);
			to.pipe(from);
		});
	}

	listen(port = 0) {
		return new Promise((ok, bad) => this.server.once("error", bad).listen(port, "127.0.0.1", () => {
			this.port = this.server.address().port;
			ok(this);
		}));
	}

	/* everything that was sent up, one Buffer a connection */
	connections() {
		return this.up.map((seen) => Buffer.concat(seen));
	}

	close() {
		for (const s of this.sockets)
			s.destroy();
		return new Promise((ok) => this.server.close(ok));
	}
}

export class Model {
	static async start(key) {
		const { LLMock } = await load("@copilotkit/aimock");
		const self = new Model();

		self.key = key;
		self.mock = new LLMock({ port: 0, host: "127.0.0.1", auth: { apiKeys: [key] }, journalMaxEntries: 5000, logLevel: "silent" });
		self.mock.on({ endpoint: "chat" }, async (req) => {
			const wait = /^wait (\d+) /.exec(asked(req.messages).words);

			if (wait)
				await new Promise((ok) => setTimeout(ok, Number(wait[1])));
			return answer(req.messages);
		});
		await self.mock.start();
		self.tap = await new Tap(self.mock.port).listen();
		self.url = "http://127.0.0.1:" + self.tap.port;
		return self;
	}

	/* requests that reached the model: [{ path, status, body, headers }] */
	calls() {
		return this.mock.getRequests().map((r) => ({ path: r.path, status: r.response.status, headers: r.headers, body: JSON.stringify(r.body) }));
	}

	chats() {
		return this.calls().filter((c) => c.path.endsWith("/chat/completions"));
	}

	async stop() {
		await this.tap.close();
		await this.mock.stop();
	}
}
