/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A complete Cloister in a scratch directory: real programs, real agents, the
 * model and the messenger being doubles written by others.
 *
 * How this works: `Stack.start()` makes DIR below /var/tmp, writes
 * configuration, starts `cloister up`, plants the credentials, creates the
 * tenants. Everything that it starts is remembered and ended by `stop()`.
 */
import { spawn } from "node:child_process";
import crypto from "node:crypto";
import fs from "node:fs";
import http from "node:http";
import path from "node:path";
import { build } from "./packages.mjs";
import { Model } from "./model.mjs";
import { Telegram } from "./telegram.mjs";
import { freePort, run, sleep, until } from "./util.mjs";

export const CLI = path.join(build, "cloister");
/* never the ids of a service, or of another run of the tests, on this machine */
export const UID_BASE = 800000 + 1000 * (process.pid % 90);

const secretText = (prefix) => prefix + crypto.randomBytes(24).toString("hex");

/* One `cloister up` in one directory. */
export class Service {
	constructor(dir, { yaml = "", routes = {}, args = [] } = {}) {
		this.dir = dir;
		this.args = args;
		this.logs = "";
		fs.mkdirSync(path.join(dir, "etc/cloister/routes"), { recursive: true, mode: 0o755 });
		fs.mkdirSync(path.join(dir, "etc/cloister/tenants"), { recursive: true, mode: 0o755 });
		if (yaml !== null)
			fs.writeFileSync(path.join(dir, "etc/cloister/cloister.yaml"), yaml, { mode: 0o644 });
		for (const [name, text] of Object.entries(routes))
			fs.writeFileSync(path.join(dir, `etc/cloister/routes/${name}.yaml`), text, { mode: 0o644 });
	}

	static scratch() {
		const dir = fs.mkdtempSync("/var/tmp/cloister-test-");

		fs.chmodSync(dir, 0o755);
		return dir;
	}

	cli(args, opt = {}) {
		return run(CLI, ["--dir", this.dir, ...args], opt);
	}

	/* cli, but a failure is an exception that says what was printed */
	async ok(args, opt = {}) {
		const got = await this.cli(args, opt);

		if (got.code !== 0)
			throw new Error(`cloister ${args.join(" ")}: exit ${got.code}: ${(got.err || String(got.out)).trim().slice(-600)}`);
		return got.out;
	}

	async json(args, opt = {}) {
		return JSON.parse(await this.ok([...args, "--json"], opt));
	}

	begin() {
		this.port ??= 0;
		this.ended = null;
		this.up = spawn(CLI, ["--dir", this.dir, "up", ...this.args], { stdio: ["ignore", "pipe", "pipe"], detached: true });
		this.end = new Promise((ok) => this.up.on("close", (code, signal) => {
			this.ended = code ?? signal;
			ok(this.ended);
		}));
		this.log = fs.openSync(path.join(this.dir, "up.log"), "a");
		for (const s of [this.up.stdout, this.up.stderr])
			s.on("data", (d) => {
				this.logs = (this.logs + d).slice(-200000);
				fs.writeSync(this.log, d);
			});
	}

	async start(ms = 30000) {
		this.begin();
		await until("cloister up serves", ms, async () => {
			if (this.ended !== null)
				throw Object.assign(new Error(`up ended with ${this.ended}: ${this.logs.trim().slice(-800)}`), { final: true });
			return (await this.cli(["status"])).code === 0;
		}, 200);
	}

	/* SIGTERM, as Ctrl-C and systemd do it; returns the exit code */
	async stop(ms = 60000) {
		if (!this.up || this.ended !== null)
			return this.ended;
		this.up.kill("SIGTERM");
		const got = await Promise.race([this.end, sleep(ms).then(() => "late")]);

		if (got === "late") {
			this.up.kill("SIGKILL");
			throw new Error(`up did not end within ${ms / 1000} s after SIGTERM`);
		}
		fs.closeSync(this.log);
		return got;
	}

	/* all that descends from `up`, sandboxes included: by parent, never by name alone */
	tree() {
		const mine = new Set([this.up.pid]);
		const procs = processes();
		let grown;

		do {
			grown = false;
			for (const p of procs)
				if (!mine.has(p.pid) && mine.has(p.ppid)) {
					mine.add(p.pid);
					grown = true;
				}
		} while (grown);
		return procs.filter((p) => mine.has(p.pid));
	}

	/* pid of one of our programs */
	pid(name) {
		return this.tree().find((p) => p.name === name.slice(0, 15))?.pid;
	}

	rm() {
		fs.rmSync(this.dir, { recursive: true, force: true });
	}
}

export function processes() {
	const all = [];

	for (const d of fs.readdirSync("/proc")) {
		if (!/^\d+$/.test(d))
			continue;
		try {
			const stat = fs.readFileSync(`/proc/${d}/stat`, "utf8");
			const close = stat.lastIndexOf(")");

			all.push({
				pid: Number(d),
				name: stat.slice(stat.indexOf("(") + 1, close),
				ppid: Number(stat.slice(close + 2).split(" ")[1]),
				uid: fs.statSync(`/proc/${d}`).uid,
			});
		} catch {
			/* it ended meanwhile */
		}
	}
	return all;
}

/* What a tenant's owner does in a browser, without one. */
export class Browser {
	constructor(port, id) {
		this.port = port;
		this.id = id;
		this.cookie = "";
	}

	ask(method, where, body, headers = {}) {
		return new Promise((ok, bad) => {
			const req = http.request({
				host: "127.0.0.1", port: this.port, method, path: where,
				headers: {
					...(this.cookie && { cookie: this.cookie }),
					...(body !== undefined && { "content-type": "application/json", "content-length": Buffer.byteLength(body) }),
					...headers,
				},
			}, (res) => {
				const chunks = [];

				res.on("data", (d) => chunks.push(d));
				res.on("end", () => {
					const text = Buffer.concat(chunks).toString();
					let json = null;

					try {
						json = JSON.parse(text);
					} catch {
						/* a page */
					}
					ok({ status: res.statusCode, headers: res.headers, text, json });
				});
			});

			req.on("error", bad);
			req.end(body);
		});
	}

	async open(code) {
		const got = await this.ask("POST", "/i/" + code, "{}");

		if (got.status !== 200)
			throw new Error(`invitation: ${got.status} ${got.text.slice(0, 300)}`);
		this.cookie = got.headers["set-cookie"][0].split(";")[0];
		return got;
	}

	async send(text) {
		const got = await this.ask("POST", `/c/${this.id}/send`, JSON.stringify({ text, client_id: crypto.randomUUID() }));

		if (got.status !== 200)
			throw new Error(`send: ${got.status} ${got.text.slice(0, 300)}`);
		return got.json.message_id;
	}

	async history(after = 0) {
		const got = await this.ask("GET", `/c/${this.id}/history?after=${after}&limit=200`);

		if (got.status !== 200)
			throw new Error(`history: ${got.status} ${got.text.slice(0, 300)}`);
		return got.json;
	}

	/* the agent's first message after message number @after that contains @want */
	async hears(want, after = 0, ms = 120000) {
		return until(`${this.id} hears ${want}`, ms, async () =>
			(await this.history(after)).messages.find((m) => m.from === "agent" && m.text.includes(want)), 250);
	}

	async asks(text, want, ms) {
		return this.hears(want, await this.send(text), ms);
	}
}

export class Stack {
	static async start({ tenants = ["alice", "bob"], say = () => {} } = {}) {
		const self = new Stack();

		self.say = say;
		self.keys = { model: secretText("sk-planted-"), telegram: "4242:" + secretText("planted") };
		try {
			await self.#start(tenants);
		} catch (e) {
			await self.stop().catch(() => {});
			throw e;
		}
		return self;
	}

	async #start(tenants) {
		this.model = await Model.start(this.keys.model);
		this.telegram = await Telegram.start(this.keys.telegram);
		this.port = await freePort();
		this.service = new Service(Service.scratch(), {
			yaml: [
				`listen: "127.0.0.1:${this.port}"`,
				`uid_base: ${UID_BASE}`,
				"model:",
				"  route: aimock",
				"  id: test-model",
				/* many turns in little time: no test here is about budgets */
				"classes:",
				"  standard:",
				"    budget: { calls_per_hour: 10000, tokens_per_day: 1000000000 }",
				"channels:",
				"  telegram:",
				`    api_root: "${this.telegram.url}"`,
				"    secret: telegram",
				"",
			].join("\n"),
			routes: {
				aimock: [
					"name: aimock",
					"kind: openai",
					`upstream: "${this.model.url}"`,
					"private: true",
					"secret: aimock",
					"inject:",
					"  header: Authorization",
					'  prefix: "Bearer "',
					"allow:",
					...["chat/completions", "embeddings"].flatMap((p) => ["  - method: POST", `    path: /v1/${p}`]),
					"",
				].join("\n"),
				"aimock-messages": [
					"name: aimock-messages",
					"kind: anthropic",
					`upstream: "${this.model.url}"`,
					"private: true",
					"secret: aimock",
					"inject:",
					"  header: x-api-key",
					"",
				].join("\n"),
			},
			args: ["--model-listen", "off"],
		});
		this.dir = this.service.dir;
		this.say(`starting in ${this.dir}, page on port ${this.port}`);
		await this.service.start();
		await this.service.ok(["secret", "set", "aimock"], { input: this.keys.model + "\n" });
		await this.service.ok(["secret", "set", "telegram"], { input: this.keys.telegram + "\n" });
		for (const id of tenants)
			await this.service.ok(["tenant", "create", id]);
		const t0 = Date.now();

		await Promise.all(tenants.map((id) => this.service.ok(["tenant", "start", id, "--wait", "180"], { ms: 200000 })));
		this.say(`${tenants.join(" and ")} ready after ${((Date.now() - t0) / 1000).toFixed(1)} s`);
		this.web = {};
		for (const id of tenants)
			this.web[id] = await this.signIn(id);
	}

	cli(...args) { return this.service.cli(...args); }
	ok(...args) { return this.service.ok(...args); }
	json(...args) { return this.service.json(...args); }

	async invite(id, channel = "web") {
		const got = await this.service.json(["invite", id, "--channel", channel]);

		return got.code;
	}

	async signIn(id) {
		const b = new Browser(this.port, id);

		await b.open(await this.invite(id));
		return b;
	}

	/* run a command inside as the agent's own user */
	exec(id, argv, opt = {}) {
		return this.service.cli(["exec", id, "--", ...argv], opt);
	}

	/* python inside; what it prints, or an exception with what it said */
	async python(id, code, opt = {}) {
		const got = await this.exec(id, ["python3", "-c", code], opt);

		if (got.code !== 0)
			throw new Error(`inside ${id}: exit ${got.code}: ${got.err.slice(-800)}`);
		return got.out;
	}

	/* javascript inside, by the agent's own Node */
	async node(id, code, opt = {}) {
		const got = await this.exec(id, ["/opt/agent/bin/node", "--input-type=module", "-e", code], opt);

		if (got.code !== 0)
			throw new Error(`inside ${id}: exit ${got.code}: ${got.err.slice(-800)}`);
		return got.out;
	}

	async stop() {
		try {
			await this.service?.stop();
		} finally {
			await this.telegram?.stop();
			await this.model?.stop();
			if (process.env.CLOISTER_TEST_KEEP)
				this.say(`kept: ${this.dir}`);
			else
				this.service?.rm();
		}
	}
}
