/* SPDX-License-Identifier: Apache-2.0 */
/* The broker alone: official SDKs and evil upstreams, without any sandbox. */
import assert from "node:assert/strict";
import fs from "node:fs";
import https from "node:https";
import os from "node:os";
import path from "node:path";
import { Broker, RawUpstream } from "../lib/broker.mjs";
import { load } from "../lib/packages.mjs";
import { Model } from "../lib/model.mjs";
import { run, sleep, until } from "../lib/util.mjs";

const KEY = "sk-planted-7d1f0c9b2a84";
const policy = (extra = {}) => ({ model: { route: "openai", id: "gpt-4.1-mini" }, routes: ["openai"], budget: {}, ...extra });
const CHAT = { model: "gpt-4.1-mini", messages: [{ role: "user", content: "please: say hello" }] };
const json = (text, status = "200 OK", more = "") =>
	`HTTP/1.1 ${status}\r\nContent-Type: application/json\r\n${more}Content-Length: ${Buffer.byteLength(text)}\r\n\r\n${text}`;

/* a broker with one route "openai" to @url */
async function brokerTo(url, { extra = {}, pol = policy(), key = KEY, dir } = {}) {
	const b = await Broker.start({ dir });

	if (key)
		assert.equal((await b.secret("openai", key)).status, 200);
	await b.must("route.put", { name: "openai", kind: "openai", upstream: url, secret: "openai", ...extra });
	await b.tenants(pol);
	return b;
}

/* run @fn with a raw upstream and a broker before it */
async function withUpstream(answer, options, fn) {
	const up = await RawUpstream.start(answer);
	const b = await brokerTo(up.url, options);

	try {
		await fn(b, up);
	} finally {
		await b.stop();
		await up.stop();
	}
}

const test = (name, fn) => ({ name: "broker: " + name, needs: "nothing", fn });

export const tests = [
	test("the official SDKs work unchanged, and the key arrives exactly once a call", async () => {
		const { default: OpenAI } = await load("openai");
		const { default: Anthropic } = await load("@anthropic-ai/sdk");
		const model = await Model.start(KEY);
		const b = await brokerTo(model.url, { pol: policy({ routes: ["openai", "anthropic"], models: ["claude-x"] }) });

		try {
			await b.must("route.put", { name: "anthropic", kind: "anthropic", upstream: model.url, secret: "openai" });
			const ai = new OpenAI({ apiKey: b.tokens[0], baseURL: b.url(0) + "/v1", maxRetries: 0 });
			const plain = await ai.chat.completions.create(CHAT);

			assert.equal(plain.choices[0].message.content, "hello");
			let text = "", chunks = 0;

			for await (const c of await ai.chat.completions.create({ ...CHAT, stream: true, stream_options: { include_usage: true } })) {
				text += c.choices[0]?.delta?.content || "";
				chunks++;
			}
			assert.equal(text, "hello");
			assert.ok(chunks > 1);
			const tool = await ai.chat.completions.create({ ...CHAT, messages: [{ role: "user", content: "please: run ls" }],
				tools: [{ type: "function", function: { name: "exec", parameters: { type: "object", properties: {} } } }] });

			assert.equal(tool.choices[0].message.tool_calls[0].function.name, "exec");
			const claude = new Anthropic({ apiKey: b.tokens[0], baseURL: b.url(0) + "/anthropic", maxRetries: 0 });
			const message = await claude.messages.create({ model: "claude-x", max_tokens: 50, messages: CHAT.messages });

			assert.equal(message.content[0].text, "hello");
			const stream = await claude.messages.stream({ model: "claude-x", max_tokens: 50, messages: CHAT.messages }).finalText();

			assert.equal(stream, "hello");
			const up = model.tap.connections().map((x) => x.toString("latin1"));
			const calls = model.calls();

			assert.equal(calls.length, 5);
			assert.ok(calls.every((c) => c.status === 200));
			assert.equal(up.reduce((n, x) => n + x.split(KEY).length - 1, 0), 5);
			assert.ok(!up.some((x) => x.includes("sk-cloister-") || /x-stainless/i.test(x)));
			assert.equal(b.records("request.allowed").length, 5);
			await until("each call is settled", 2000, () => b.records("request.done").length === 5, 20);
		} finally {
			await b.stop();
			await model.stop();
		}
	}),

	test("a token of another tenant, of another start, or none is refused without a word upstream", () =>
		withUpstream((r, c) => c.write(json("{}")), {}, async (b, up) => {
			const [alice, bob] = b.tokens;

			for (const token of [bob, alice.slice(0, -1) + (alice.endsWith("A") ? "B" : "A"), "sk-other", KEY, ""]) {
				const r = await b.post(0, "/v1/chat/completions", CHAT, { token });

				assert.equal(r.status, 401, token);
				assert.equal(JSON.parse(r.text).error.rule, "token");
			}
			assert.equal((await b.post(0, "/v1/chat/completions", CHAT, { token: alice, headers: { "x-api-key": bob } })).status, 401);
			await b.must("tenant.put", { no: 1, id: "alice", generation: 2, policy: policy() });
			assert.equal((await b.post(0, "/v1/chat/completions", CHAT, { token: alice })).status, 401);
			assert.equal(up.requests.length, 0);
			assert.ok(b.records("boundary").some((l) => l.includes('event="token" severity="high"')));
			assert.equal((await b.post(1, "/v1/chat/completions", CHAT)).status, 200);
		})),

	test("a request that two parsers could read differently never reaches the upstream", () =>
		withUpstream((r, c) => c.write(json("{}")), {}, async (b, up) => {
			const head = (more, line = "POST /v1/chat/completions HTTP/1.1") =>
				`${line}\r\nHost: x\r\nAuthorization: Bearer ${b.tokens[0]}\r\nContent-Type: application/json\r\n${more}`;
			const body = JSON.stringify(CHAT);
			const bad = [
				head(`Content-Length: ${body.length}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`),
				head(`Content-Length: ${body.length}\r\nContent-Length: 5\r\n\r\n${body}`),
				head(`Content-Length: +${body.length}\r\n\r\n${body}`),
				head(`Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n`),
				head(`Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n`),
				head(`Transfer-Encoding: chunked\r\n\r\n5;ext=1\r\n${body}\r\n0\r\n\r\n`),
				head(`X: a\n\r\n`), head(`X: a\r\n b\r\n\r\n`), head(`X : a\r\n\r\n`), head("X: \0\r\n\r\n"),
				head(`Content-Length: 0\r\n\r\n`, "POST http://evil/v1/chat/completions HTTP/1.1"),
				head(`Content-Length: 0\r\n\r\n`, "POST /v1/../telegram/x HTTP/1.1"),
				head(`Content-Length: 0\r\n\r\n`, "POST /v1/%2e%2e/x HTTP/1.1"),
				head(`Content-Length: 0\r\n\r\n`, "POST /v1/chat%2fcompletions HTTP/1.1"),
				head(`Content-Length: 0\r\n\r\n`, "POST /v1//chat/completions HTTP/1.1"),
				head(`Content-Length: 0\r\n\r\n`, "POST //v1/chat/completions HTTP/1.1"),
				head(`Content-Length: 0\r\n\r\n`, "POST /v1/chat/completions;x HTTP/1.1"),
				head(`Content-Length: ${body.length}\r\n\r\n${body}`, "POST /v1/chat/completions HTTP/1.0"),
				head(`Content-Length: ${body.length}\r\nContent-Encoding: gzip\r\n\r\n${body}`),
				head(`Content-Length: ${body.length}\r\nContent-Type: text/plain\r\n\r\n${body}`),
				"CONNECT api.openai.com:443 HTTP/1.1\r\nHost: api.openai.com:443\r\n\r\n",
			];

			for (const text of bad) {
				const got = await b.talk(0, text.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"), 500);

				assert.match(got, /^HTTP\/1\.1 (4\d\d|50[15]) /, JSON.stringify(text));
				assert.equal(got.match(/^HTTP\/1\.1 \d/gm).length, 1, "two answers to " + JSON.stringify(text));
			}
			const bodies = ['{"model":"gpt-4.1-mini","model":"x"}', '{"model":"gpt-4.1-mini","m\\u006fdel":"x"}', '{"model":"gpt-4.1-mini"} x',
				'\ufeff{"model":"gpt-4.1-mini"}', '{"model":"gpt-4.1-mini","a":"\\ud800"}', '{"model":"gpt-4.1-mini","a":1e999}',
				"[".repeat(100) + "]".repeat(100), '{"model":"gpt-4.1-mini",}', "{'model':1}"];

			for (const text of bodies)
				assert.equal((await b.post(0, "/v1/chat/completions", text)).status, 400, text);
			for (const more of [{ model: "gpt-5" }, { tools: [{ type: "web_search" }] }, { mcp_servers: [{ url: "http://evil" }] },
				{ messages: [{ role: "user", content: [{ type: "image_url", image_url: { url: "http://evil/?x" } }] }] }])
				assert.equal((await b.post(0, "/v1/chat/completions", { ...CHAT, ...more })).status, 403, JSON.stringify(more));
			assert.equal((await b.post(0, "/v1/files", {})).status, 403);
			assert.equal((await b.post(0, "/r/other/x", {})).status, 403);
			assert.equal(up.requests.length, 0);
			assert.equal((await b.post(0, "/v1/chat/completions", CHAT)).status, 200);
			assert.equal(up.requests.length, 1);
		})),

	test("the client's own credentials and hop-by-hop headers stay here", () =>
		withUpstream((r, c) => c.write(json("{}")), {}, async (b, up) => {
			const r = await b.talk(0, `POST /v1/chat/completions HTTP/1.1\r\nHost: evil.example\r\nAuthorization: Bearer ${b.tokens[0]}\r\n` +
				"Content-Type: application/json\r\nCookie: a=b\r\nProxy-Authorization: x\r\nX-Forwarded-For: 1.2.3.4\r\nOpenAI-Organization: evil\r\n" +
				`Connection: close, authorization\r\nX-Tenant: bob\r\nAccept-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n${JSON.stringify(CHAT).length.toString(16)}\r\n${JSON.stringify(CHAT)}\r\n0\r\nX-Trailer: y\r\n\r\n`);

			assert.match(r, /^HTTP\/1\.1 200 /);
			const got = up.requests[0].toLowerCase();

			for (const word of ["cookie", "proxy-", "x-forwarded", "evil", "x-tenant", "gzip", "chunked", "trailer", "sk-cloister-", "connection:"])
				assert.ok(!got.includes(word), word + " in " + got);
			assert.equal(got.split(KEY).length, 2);
			assert.ok(got.includes(`\r\nauthorization: bearer ${KEY}\r\n`));
			assert.ok(up.requests[0].endsWith(JSON.stringify(CHAT)));
		})),

	test("a credential that the upstream gives back is blanked, byte by byte and in each encoding", () => {
		const forms = [KEY, Buffer.from(KEY).toString("base64"), Buffer.from("x" + KEY).toString("base64url"), Buffer.from("xy" + KEY + "z").toString("base64"),
			Buffer.from(KEY).toString("hex"), [...KEY].reverse().join("")];

		return withUpstream(async (r, c) => {
			const text = "data: " + forms.join(" and ") + " end\n\n";

			c.setNoDelay(true);
			c.write(`HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Request-Id: ${KEY}\r\nX-Debug: ${KEY}\r\nTransfer-Encoding: chunked\r\n\r\n`);
			for (const ch of text) {
				c.write(`1\r\n${ch}\r\n`);
				await new Promise((ok) => setImmediate(ok));
			}
			c.write("0\r\nX-Trailer: " + KEY + "\r\n\r\n");
		}, {}, async (b) => {
			const r = await b.post(0, "/v1/chat/completions", CHAT);

			assert.equal(r.status, 200);
			assert.ok(r.text.startsWith("data: ***") && r.text.endsWith(" end\n\n"), r.text);
			assert.equal(r.text.match(/[*]{8,}/g).length, forms.length);
			assert.ok(!r.text.includes("planted") && ![...r.headers].some(([, v]) => v.includes(KEY)));
			await until("it is recorded", 2000, () => b.records("boundary").some((l) => l.includes('event="echo"')), 20);
			assert.ok(!b.lines.some((l) => l.includes(KEY)) && !b.err.includes(KEY));
		});
	}),

	test("redirects, wrong keys, compression and garbage become clean errors", () => {
		const answers = {
			redirect: "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/steal\r\nContent-Length: 0\r\n\r\n",
			key: json(JSON.stringify({ error: { message: "Incorrect API key provided: sk-plan***2a84" } }), "401 Unauthorized"),
			gzip: "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
			garbage: "SSH-2.0-OpenSSH\r\n\r\n", lf: "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
			both: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
			twice: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
			switch: "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", many: "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(20),
			early: "",
		};
		const want = { redirect: [502, "upstream.redirect"], key: [401, "upstream.key"], gzip: [502, "upstream.encoding"] };

		return withUpstream((r, c) => {
			const which = /"user":"(\w+)"/.exec(r)[1];

			if (which === "early")
				c.destroy();
			else
				c.write(answers[which]);
		}, {}, async (b, up) => {
			for (const which of Object.keys(answers)) {
				const r = await b.post(0, "/v1/chat/completions", { ...CHAT, user: which });
				const [status, rule] = want[which] || [502, "upstream.failed"];
				const e = JSON.parse(r.text).error;

				assert.equal(r.status, status, which + ": " + r.text);
				assert.equal(e.rule, rule, which);
				assert.ok(!r.text.includes("2a84") && !r.headers.get("location"));
				const why = await b.must("why", { id: e.id });

				assert.equal(why.rule, rule);
			}
			assert.equal(up.requests.length, Object.keys(answers).length, "nothing was tried twice");
		});
	}),

	test("bytes behind an answer end the connection: the next caller gets its own answer", () => {
		let n = 0;

		return withUpstream((r, c) => c.write(json(`{"n":${++n}}`) + (n === 1 ? json('{"n":"smuggled"}') : "")), {}, async (b, up) => {
			for (const want of [1, 2, 3])
				assert.equal((await b.post(want % 2, "/v1/chat/completions", CHAT)).text, `{"n":${want}}`);
			assert.equal(up.requests.length, 3);
		});
	}),

	test("a stream that breaks off is cut for the agent as well, never ended as if whole", () =>
		withUpstream((r, c) => {
			c.write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n5\r\ndata:\r\n");
			setTimeout(() => c.destroy(), 50);
		}, {}, async (b) => {
			await assert.rejects(b.post(0, "/v1/chat/completions", CHAT), /terminated|fetch failed|other side closed/);
			await until("it is settled", 2000, () => b.records("request.done").length === 1, 20);
		})),

	test("an upstream that is not there is said in words, with what to try", async () => {
		const up = await RawUpstream.start(() => {});
		const url = up.url;

		await up.stop();
		const b = await brokerTo(url);

		try {
			const r = await b.post(0, "/v1/chat/completions", CHAT);

			assert.equal(r.status, 502);
			assert.match(JSON.parse(r.text).error.reason, /cannot be reached \(connect: Connection refused\)/);
			assert.equal(JSON.parse(r.text).error.fix, "cloister route test openai");
			await b.must("route.put", { name: "openai", kind: "openai", upstream: "https://name.invalid", secret: "openai" });
			assert.match((await b.post(0, "/v1/chat/completions", CHAT)).text, /resolve: /);
			await b.must("route.put", { name: "openai", kind: "openai", upstream: "https://localhost:1", secret: "openai" });
			assert.match((await b.post(0, "/v1/chat/completions", CHAT)).text, /address: the name points to a private address/);
			assert.equal((await b.call("route.put", { name: "openai", upstream: "http://example.com", secret: "openai" })).status, 422);
		} finally {
			await b.stop();
		}
	}),

	test("TLS is verified: a pinned CA is used, any other certificate is refused before a byte is sent", async () => {
		const dir = fs.mkdtempSync(path.join(os.tmpdir(), "cloister-tls-"));
		const made = await run("openssl", ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=test",
			"-addext", "subjectAltName=DNS:localhost", "-keyout", path.join(dir, "key"), "-out", path.join(dir, "cert")]);

		assert.equal(made.code, 0, made.err);
		const cert = fs.readFileSync(path.join(dir, "cert"), "utf8"), seen = [];
		const server = https.createServer({ key: fs.readFileSync(path.join(dir, "key")), cert }, (q, s) => {
			seen.push(q.headers.authorization);
			s.end('{"ok":true}');
		});

		await new Promise((ok) => server.listen(0, "127.0.0.1", ok));
		const at = (host) => `https://${host}:${server.address().port}`;
		const b = await brokerTo(at("localhost"), { extra: { private: true, ca: cert } });

		try {
			for (let i = 0; i < 3; i++)
				assert.equal((await b.post(0, "/v1/chat/completions", CHAT)).text, '{"ok":true}');
			assert.deepEqual(seen, Array(3).fill("Bearer " + KEY));
			for (const [url, more] of [[at("localhost"), {}], [at("127.0.0.1"), { ca: cert }]]) {
				await b.must("route.put", { name: "openai", kind: "openai", upstream: url, secret: "openai", private: true, ...more });
				const e = JSON.parse((await b.post(0, "/v1/chat/completions", CHAT)).text).error;

				assert.match(e.reason, /tls: its certificate is not trusted/);
			}
			assert.equal(seen.length, 3);
		} finally {
			await b.stop();
			server.closeAllConnections();
			server.close();
			fs.rmSync(dir, { recursive: true, force: true });
		}
	}),

	test("without the key the agent is told what the operator must do; with it, it works at once", () =>
		withUpstream((r, c) => c.write(json("{}")), { key: "" }, async (b, up) => {
			const r = await b.post(0, "/v1/chat/completions", CHAT);

			assert.equal(r.status, 503);
			assert.equal(JSON.parse(r.text).error.fix, "cloister secret set openai");
			assert.equal(up.requests.length, 0);
			await b.secret("openai", KEY);
			assert.equal((await b.post(0, "/v1/chat/completions", CHAT)).status, 200);
			await b.secret("openai", KEY + "-rotated");
			assert.equal((await b.post(0, "/v1/chat/completions", CHAT)).status, 200);
			assert.ok(up.requests[0].includes(`Bearer ${KEY}\r\n`) && up.requests[1].includes(`Bearer ${KEY}-rotated\r\n`));
			await b.must("secret.rm", { name: "openai" });
			assert.equal((await b.post(0, "/v1/chat/completions", CHAT)).status, 503);
		})),

	test("an agent in a loop cannot fill the ledger with refusals", () =>
		withUpstream((r, c) => c.write(json("{}")), {}, async (b) => {
			for (let i = 0; i < 10; i++)
				await Promise.all(Array.from({ length: 40 }, () => b.post(0, "/v1/files", {})));
			const n = b.records("request.denied").length;

			assert.ok(n >= 120 && n <= 240, String(n));	/* at most two minutes touch the test */
			assert.equal((await b.must("stats")).denied, 400);
		})),

	test("a live credential that an agent sends is stopped", () =>
		withUpstream((r, c) => c.write(json("{}")), {}, async (b, up) => {
			for (const text of [KEY, Buffer.from("ab" + KEY).toString("base64"), Buffer.from(KEY).toString("hex")])
				assert.equal(JSON.parse((await b.post(0, "/v1/chat/completions", { ...CHAT, user: text })).text).error.rule, "leak");
			assert.equal(up.requests.length, 0);
			assert.ok(b.records("boundary").some((l) => l.includes('severity="critical"')));
		})),

	test("a budget is refused before the call and survives kill -9", async () => {
		const { default: OpenAI } = await load("openai");
		const up = await RawUpstream.start((r, c) => c.write(json('{"choices":[],"usage":{"prompt_tokens":30,"completion_tokens":20}}')));
		const pol = policy({ budget: { calls_per_hour: 5, tokens_per_day: 100000 } });
		let b = await brokerTo(up.url, { pol });
		const dir = b.dir;

		try {
			const all = await Promise.all(Array.from({ length: 9 }, () => b.post(0, "/v1/chat/completions", CHAT)));

			assert.equal(all.filter((r) => r.status === 200).length, 5);
			assert.equal(all.filter((r) => r.status === 429).length, 4);
			assert.equal(up.requests.length, 5);
			const ai = new OpenAI({ apiKey: b.tokens[0], baseURL: b.url(0) + "/v1" });

			await assert.rejects(ai.chat.completions.create(CHAT), OpenAI.RateLimitError);
			assert.equal((await b.post(1, "/v1/chat/completions", CHAT)).status, 200, "bob's budget is his own");
			assert.ok(all.every((r) => r.status === 200 || Number(r.headers.get("retry-after")) > 0));
			await sleep(500);
			process.kill(b.pid, "SIGKILL");
			await b.stop({ keep: true });
			b = await brokerTo(up.url, { pol, dir });
			assert.equal((await b.post(0, "/v1/chat/completions", CHAT)).status, 429);
			await b.tenants(policy({ budget: { calls_per_hour: 100, tokens_per_day: 280 } }));
			assert.equal((await b.post(0, "/v1/chat/completions", { ...CHAT, max_tokens: 500 })).status, 429, "what it may cost counts before");
			const small = await b.post(0, "/v1/chat/completions", { model: CHAT.model });

			assert.equal(small.status, 200, small.text);
			assert.equal(up.requests.length, 7);
		} finally {
			await b.stop();
			await up.stop();
		}
	}),

	test("a client that leaves ends its call, and a slow reader holds only its own", () => {
		let closed = 0;

		return withUpstream((r, c) => {
			c.on("close", () => closed++);
			if (r.includes('"user":"big"')) {
				c.write("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n");
				const piece = "10000\r\n" + "x".repeat(65536) + "\r\n";
				const more = () => { while (!c.destroyed && c.write(piece)); };

				c.on("drain", more);
				more();
			} else if (!r.includes('"user":"hang"')) {
				c.write(json("{}"));
			}
		}, {}, async (b, up) => {
			const stop = new AbortController();
			const hang = fetch(b.url(0) + "/v1/chat/completions", { method: "POST", signal: stop.signal, body: JSON.stringify({ ...CHAT, user: "hang" }),
				headers: { "content-type": "application/json", authorization: "Bearer " + b.tokens[0] } }).catch(() => {});

			await until("the call is there", 2000, () => up.requests.length === 1, 10);
			stop.abort();
			await hang;
			await until("it ended upstream", 2000, () => closed === 1, 10);
			const big = await fetch(b.url(0) + "/v1/chat/completions", { method: "POST", body: JSON.stringify({ ...CHAT, user: "big" }),
				headers: { "content-type": "application/json", authorization: "Bearer " + b.tokens[0] } });

			await sleep(500);
			const rss = Number(/VmRSS:\s+(\d+)/.exec(await (await import("node:fs/promises")).readFile(`/proc/${b.pid}/status`, "utf8"))[1]);

			assert.ok(rss < 64 * 1024, `the broker buffers what nobody reads: ${rss} KB`);
			assert.equal((await b.post(1, "/v1/chat/completions", CHAT)).status, 200);
			await big.body.cancel();
			await until("the slow one ended", 3000, () => closed >= 2, 10);
		});
	}),
];
