/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The real broker alone, with broker_driver in the place of cloisterd, api and
 * ledger: tenants alice (1) and bob (2), each behind a listener of its own.
 */
import { spawn } from "node:child_process";
import fs from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { build } from "./packages.mjs";
import { until } from "./util.mjs";

const UID = 64999;

export class Broker {
	static async start({ dir } = {}) {
		const self = new Broker();

		self.dir = dir || fs.mkdtempSync(path.join(os.tmpdir(), "cloister-broker-"));
		fs.chmodSync(self.dir, 0o700);
		fs.chownSync(self.dir, UID, UID);
		self.lines = [];
		self.answers = [];
		self.err = "";
		self.p = spawn(path.join(build, "tests/unit/broker_driver"), [path.join(build, "src/broker/cloister-broker"), self.dir, String(UID)],
			{ stdio: ["pipe", "pipe", "pipe"] });
		self.p.stderr.on("data", (d) => self.err += d);
		let rest = "";

		self.p.stdout.on("data", (d) => {
			const parts = (rest + d).split("\n");

			rest = parts.pop();
			for (const line of parts) {
				self.lines.push(line);
				const m = /^(\d+) (\{.*)$/.exec(line);

				if (m && self.answers.length)
					self.answers.shift()({ status: Number(m[1]), body: JSON.parse(m[2]) });
			}
		});
		self.ended = new Promise((ok) => self.p.on("close", ok));
		const [, a, b, pid] = (await until("the broker is ready: " + self.err, 20000,
			() => self.lines.find((l) => l.startsWith("ready ")), 20)).split(" ").map(Number);

		self.ports = [a, b];
		self.pid = pid;
		return self;
	}

	raw(line) {
		return new Promise((ok) => {
			this.answers.push(ok);
			this.p.stdin.write(line + "\n");
		});
	}

	async call(method, body = {}) {
		return this.raw(method + " " + JSON.stringify(body));
	}

	async must(method, body) {
		const r = await this.call(method, body);

		if (r.status !== 200)
			throw new Error(`${method}: ${r.status} ${JSON.stringify(r.body)}`);
		return r.body;
	}

	secret(name, value) {
		return this.raw(`secret ${name} ${value}`);
	}

	/* both tenants with the same policy; keeps their tokens */
	async tenants(policy, generation = 1) {
		const ids = ["alice", "bob"];

		this.tokens = [];
		for (const i of [0, 1])
			this.tokens.push((await this.must("tenant.put", { no: i + 1, id: ids[i], generation, policy })).tokens.api);
		await this.must("sync.end");
	}

	url(i) {
		return `http://127.0.0.1:${this.ports[i]}`;
	}

	records(kind) {
		return this.lines.filter((l) => l.startsWith("record " + kind + " "));
	}

	/* one POST, whole answer as text; never throws for a status */
	async post(i, where, body, { token = this.tokens[i], headers = {} } = {}) {
		const r = await fetch(this.url(i) + where, { method: "POST", redirect: "manual", body: typeof body === "string" ? body : JSON.stringify(body),
			headers: { "content-type": "application/json", ...(token ? { authorization: "Bearer " + token } : {}), ...headers } });

		return { status: r.status, headers: r.headers, text: await r.text() };
	}

	/* bytes in, everything that came back until the end of the connection (or @ms) */
	talk(i, bytes, ms = 2000) {
		return new Promise((ok) => {
			const s = net.connect(this.ports[i], "127.0.0.1", () => s.write(bytes));
			const got = [];
			const end = () => { s.destroy(); ok(Buffer.concat(got).toString("latin1")); };

			s.on("data", (d) => got.push(d));
			s.on("end", end);
			s.on("error", end);
			s.setTimeout(ms, end);
		});
	}

	async stop({ keep = false } = {}) {
		this.p.stdin.end();
		await this.ended;
		if (!keep)
			fs.rmSync(this.dir, { recursive: true, force: true });
	}
}

/*
 * An upstream of raw bytes: @answer(request text, connection) is called once a
 * whole request (head and Content-Length body) arrived. Keeps all it saw.
 */
export class RawUpstream {
	static async start(answer) {
		const self = new RawUpstream();

		self.requests = [];
		self.sockets = new Set();
		self.server = net.createServer((c) => {
			let seen = "";

			self.sockets.add(c);
			c.on("close", () => self.sockets.delete(c));
			c.on("error", () => {});
			c.setEncoding("latin1");
			c.on("data", (d) => {
				seen += d;
				for (;;) {
					const at = seen.indexOf("\r\n\r\n");

					if (at < 0)
						return;
					const size = Number(/^content-length: (\d+)/im.exec(seen.slice(0, at))?.[1] || 0);

					if (seen.length < at + 4 + size)
						return;
					const request = seen.slice(0, at + 4 + size);

					seen = seen.slice(request.length);
					self.requests.push(request);
					answer(request, c);
				}
			});
		});
		await new Promise((ok) => self.server.listen(0, "127.0.0.1", ok));
		self.url = "http://127.0.0.1:" + self.server.address().port;
		return self;
	}

	stop() {
		for (const s of this.sockets)
			s.destroy();
		return new Promise((ok) => this.server.close(ok));
	}
}
