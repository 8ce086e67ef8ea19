/* SPDX-License-Identifier: Apache-2.0 */
/* The main job: a person's message is answered by their own agent, for two at once. */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";

const word = (who) => who + Math.random().toString(36).slice(2, 10);
export const spoken = { alice: [], bob: [] };	/* later tests look for these where they must not be */

const secret = (who) => {
	const w = word(who);

	spoken[who].push(w);
	return w;
};

let people = null;

export async function telegramPeople(s) {
	if (people)
		return people;
	const alice = s.telegram.person(70001, "Alice"), bob = s.telegram.person(70002, "Bob");

	await alice.command("/start " + await s.invite("alice", "telegram"));
	await bob.command("/start " + await s.invite("bob", "telegram"));
	await Promise.all([alice.hears(/./), bob.hears(/./)]);
	people = { alice, bob };
	return people;
}

export const tests = [
	{
		name: "alice and bob are each answered by their own agent, at the same time",
		async fn(s) {
			const a = secret("alice"), b = secret("bob");

			await Promise.all([
				s.web.alice.asks("please: say " + a, a),
				s.web.bob.asks("please: say " + b, b),
			]);
		},
	},
	{
		name: "with a tool call in between: the agent writes a file into its workspace and reads it back",
		async fn(s) {
			const a = secret("alice"), b = secret("bob");
			const [ra, rb] = await Promise.all([
				s.web.alice.asks(`please: keep ${a} in diary-alice.txt`, a),
				s.web.bob.asks(`please: keep ${b} in diary-bob.txt`, b),
			]);

			assert.match(ra.text, /The file says/);
			assert.match(rb.text, /The file says/);
			const seen = await s.ok(["exec", "alice", "--", "/bin/sh", "-c", "cat $(find /workspace -name diary-alice.txt)"]);

			assert.equal(seen.trim(), a);
			const other = await s.ok(["exec", "bob", "--", "/bin/sh", "-c", "find / -name 'diary-alice*' 2>/dev/null; true"]);

			assert.equal(other.trim(), "");
		},
	},
	{
		name: "the same over the Telegram Bot API, one bot for both, each bound by a one-time invitation",
		async fn(s) {
			const { alice, bob } = await telegramPeople(s);
			const a = secret("alice"), b = secret("bob");

			await Promise.all([
				alice.send("please: say " + a).then(() => alice.hears(a)),
				bob.send(`please: keep ${b} in tg-bob.txt`).then(() => bob.hears(b)),
			]);
			assert.ok(!alice.texts().some((t) => t.includes(b)), "alice was sent bob's words");
			assert.ok(!bob.texts().some((t) => t.includes(a)), "bob was sent alice's words");
		},
	},
	{
		name: "a chat that nobody invited gets a polite refusal and reaches no agent",
		async fn(s) {
			const stranger = s.telegram.person(79999, "Mallory");
			const w = word("mallory"), calls = s.model.chats().length;

			await stranger.send("please: say " + w);
			const said = await stranger.hears(/./, 30000);

			assert.ok(!said.includes(w));
			assert.ok(!/alice|bob/i.test(said), "the refusal names somebody: " + said);
			await stranger.command("/start wrong-code-wrong-code");
			await new Promise((ok) => setTimeout(ok, 3000));
			assert.ok(!s.model.chats().slice(calls).some((c) => c.body.includes(w)), "a stranger's words reached a model");
		},
	},
	{
		name: "an invitation works once",
		async fn(s) {
			const code = await s.invite("alice"), b = s.web.alice;

			assert.equal((await b.ask("GET", "/i/" + code)).status, 200, "looking at the link");
			assert.equal((await b.ask("GET", "/i/" + code)).status, 200, "looking does not use it up");
			assert.equal((await b.ask("POST", "/i/" + code, "{}")).status, 200);
			assert.equal((await b.ask("POST", "/i/" + code, "{}")).status, 403);
			assert.ok([403, 404].includes((await b.ask("POST", "/i/" + "A".repeat(code.length), "{}")).status));
		},
	},
	{
		name: "a session opens its own conversation only",
		async fn(s) {
			const { alice, bob } = s.web;
			const cookie = { cookie: bob.cookie };

			assert.equal((await alice.ask("GET", "/c/alice/history?after=0&limit=10", undefined, cookie)).status, 401);
			assert.equal((await alice.ask("POST", "/c/alice/send", JSON.stringify({ text: "x", client_id: "c1" }), cookie)).status, 401);
			assert.equal((await alice.ask("GET", "/c/alice/history?after=0&limit=10", undefined, { cookie: "cloister=none" })).status, 401);
			assert.equal((await alice.ask("GET", "/c/alice/events", undefined, cookie)).status, 401);
		},
	},
	{
		name: "another web page cannot speak in the owner's name",
		async fn(s) {
			const b = s.web.alice, body = JSON.stringify({ text: "please: say no", client_id: "c2" });
			const before = (await b.history()).messages.length;

			for (const headers of [{ origin: "http://evil.example" }, { "content-type": "text/plain" }, { host: "evil.example" }]) {
				const got = await b.ask("POST", "/c/alice/send", body, headers);

				assert.ok(got.status >= 400 && got.status < 500, `${JSON.stringify(headers)}: ${got.status}`);
			}
			assert.equal((await b.history()).messages.length, before);
		},
	},
	{
		name: "the same client_id twice is one message",
		async fn(s) {
			const b = s.web.alice, w = secret("alice");
			const body = JSON.stringify({ text: "please: say " + w, client_id: "twice-" + w });
			const first = await b.ask("POST", "/c/alice/send", body), second = await b.ask("POST", "/c/alice/send", body);

			assert.equal(first.json.message_id, second.json.message_id);
			await b.hears(w, first.json.message_id);
			const mine = (await b.history()).messages.filter((m) => m.from === "owner" && m.text.includes(w));

			assert.equal(mine.length, 1);
		},
	},
	{
		name: "cloister chat talks to the same agent",
		async fn(s) {
			const w = secret("bob");

			assert.match(await s.ok(["chat", "bob", "please: say " + w], { ms: 200000 }), new RegExp(w));
		},
	},
	{
		name: "one person's words are nowhere in the other's sandbox, conversation or model calls",
		async fn(s) {
			for (const [me, other] of [["alice", "bob"], ["bob", "alice"]]) {
				const words = spoken[other];

				assert.ok(words.length >= 3);
				const said = JSON.stringify((await s.web[me].history()).messages);
				const inside = await s.exec(me, ["/bin/sh", "-c", "tar -c --ignore-failed-read -C / workspace tmp etc 2>/dev/null; true"], { binary: true });

				assert.ok(inside.out.length > 10000, "the archive is empty");
				for (const w of words) {
					assert.ok(!said.includes(w), `${other}'s ${w} in ${me}'s conversation`);
					assert.ok(!inside.out.includes(w), `${other}'s ${w} in ${me}'s sandbox`);
				}
				/* and on the host: the directory of that tenant */
				const no = (await s.json(["tenant", "show", me])).no;
				const dir = path.join(s.dir, "var/lib/cloister/tenants", String(no));

				for (const f of fs.readdirSync(dir, { recursive: true, withFileTypes: true })) {
					if (!f.isFile())
						continue;
					const bytes = fs.readFileSync(path.join(f.parentPath, f.name));

					for (const w of words)
						assert.ok(!bytes.includes(w), `${other}'s ${w} in ${f.parentPath}/${f.name}`);
				}
			}
			for (const c of s.model.calls())
				assert.ok(!(spoken.alice.some((w) => c.body.includes(w)) && spoken.bob.some((w) => c.body.includes(w))),
					"one model call has words of both");
		},
	},
];
