/* SPDX-License-Identifier: Apache-2.0 */
/* The page, as people see it: in Chromium. */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { loadCommonJs, root } from "../lib/packages.mjs";

const FLAGS = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync".split(" ");

/* one Chromium a test; everything that it complains about is a failure */
function inChromium(name, fn, options = {}) {
	return {
		name,
		async fn(s) {
			const { chromium } = loadCommonJs("playwright-core");
			const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: FLAGS });
			const complaints = [], hosts = new Set();

			try {
				const open = async (more = {}) => {
					const page = await (await browser.newContext({ viewport: { width: 1000, height: 720 }, ...options, ...more })).newPage();

					page.on("pageerror", (e) => complaints.push(String(e)));
					page.on("console", (m) => m.type() === "error" && !/status of (401|403|404)|ERR_FAILED/.test(m.text()) && complaints.push(m.text()));
					page.on("request", (r) => hosts.add(new URL(r.url()).host));
					return page;
				};

				await fn(s, open);
				assert.deepEqual(complaints, []);
				assert.deepEqual([...hosts], [`127.0.0.1:${s.port}`], "the page asked another host");
			} finally {
				await browser.close();
			}
		},
	};
}

const url = (s, where) => `http://127.0.0.1:${s.port}${where}`;

async function enter(s, page, id) {
	await page.goto(url(s, "/i/" + await s.invite(id)));
	await page.getByRole("button", { name: "Open my conversation" }).click();
	await page.waitForURL(`**/c/${id}/`);
	await page.getByText("ready", { exact: true }).waitFor({ timeout: 60000 });
}

async function say(page, text) {
	await page.getByLabel("Message to your agent").fill(text);
	await page.keyboard.press("Enter");
}

const from = (page, who, text) => page.locator(`.msg.${who} .bubble`, { hasText: text });

export const tests = [
	inChromium("two people chat with their agents at the same time, a tool call in between", async (s, open) => {
		const alice = await open(), bob = await open();

		await Promise.all([enter(s, alice, "alice"), enter(s, bob, "bob")]);
		await Promise.all([say(alice, "please: keep page-apple in page.txt"), say(bob, "please: keep page-pear in page.txt")]);
		await Promise.all([
			from(alice, "agent", "The file says: page-apple").waitFor({ timeout: 120000 }),
			from(bob, "agent", "The file says: page-pear").waitFor({ timeout: 120000 }),
		]);
		assert.equal(await from(alice, "agent", "page-pear").count(), 0);
		assert.equal(await from(bob, "agent", "page-apple").count(), 0);
		await say(alice, "please: say You are welcome! The notes are in `page.txt`, and nobody but you can read them.");
		await from(alice, "agent", "You are welcome").waitFor({ timeout: 120000 });
		if (process.env.CLOISTER_TEST_PICTURE)
			await alice.screenshot({ path: path.join(root, "docs/page.png") });
	}),
	inChromium("what was said is there after a reload, once and in order", async (s, open) => {
		const page = await open();

		await enter(s, page, "alice");
		await say(page, "please: say reload-one");
		await from(page, "agent", "reload-one").waitFor({ timeout: 120000 });
		await page.reload();
		await from(page, "agent", "reload-one").waitFor();
		assert.equal(await from(page, "owner", "reload-one").count(), 1);
		const ids = await page.locator(".msg").evaluateAll((all) => all.map((e) => Number(e.dataset.id)));

		assert.deepEqual(ids, [...ids].sort((a, b) => a - b));
	}),
	inChromium("words of people and agents never become markup", async (s, open) => {
		const page = await open();
		const evil = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script><b>bold</b>";

		await enter(s, page, "alice");
		/* as code: from anything else OpenClaw itself takes the tags away */
		await say(page, "please: say `" + evil + "`");
		await from(page, "agent", "onerror").waitFor({ timeout: 120000 });
		assert.equal(await page.locator(".bubble img, .bubble script, .bubble b").count(), 0);
		assert.notEqual(await page.title(), "owned");
	}),
	inChromium("when the answer to a message is lost on the way, the page sends it again and it is there once", async (s, open) => {
		const page = await open();

		await enter(s, page, "bob");
		await page.route("**/send", async (route) => {
			await route.fetch();
			await route.abort();
		}, { times: 1 });
		await say(page, "please: say through-the-gap");
		await from(page, "agent", "through-the-gap").waitFor({ timeout: 120000 });
		assert.equal(await from(page, "owner", "through-the-gap").count(), 1);
		await page.reload();
		await from(page, "agent", "through-the-gap").waitFor();
		assert.equal(await from(page, "owner", "through-the-gap").count(), 1);
	}),
	inChromium("a used, a wrong and no link: human words", async (s, open) => {
		const page = await open(), code = await s.invite("alice");

		await page.goto(url(s, "/"));
		await page.getByText("open the personal link").waitFor();
		await page.goto(url(s, "/i/" + code));
		await page.getByRole("button").click();
		await page.waitForURL("**/c/alice/");
		const other = await open();

		await other.goto(url(s, "/i/" + code));
		await other.getByRole("button").click();
		await other.getByText("does not work any more").waitFor();
		await other.goto(url(s, "/c/alice/"));
		await other.getByText("not signed in to this conversation").waitFor();
	}),
	inChromium("alice's and bob's pages are open in one browser at once", async (s, open) => {
		const page = await open();

		await enter(s, page, "alice");
		const second = await page.context().newPage();

		await enter(s, second, "bob");
		await say(page, "please: say tab-alice");
		await say(second, "please: say tab-bob");
		await from(page, "agent", "tab-alice").waitFor({ timeout: 120000 });
		await from(second, "agent", "tab-bob").waitFor({ timeout: 120000 });
		assert.equal(await from(page, "agent", "tab-bob").count(), 0);
	}),
	inChromium("on a phone, in the dark: nothing is wider than the screen, the box stays in view", async (s, open) => {
		const page = await open({ viewport: { width: 360, height: 640 }, colorScheme: "dark", isMobile: true, hasTouch: true });

		await enter(s, page, "alice");
		await say(page, "please: say " + "very-long-word-without-any-break-".repeat(6));
		await from(page, "agent", "very-long-word").waitFor({ timeout: 120000 });
		const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);

		assert.ok(wide <= 0, `${wide} px too wide`);
		const box = await page.getByLabel("Message to your agent").boundingBox();

		assert.ok(box.y + box.height <= 640 && box.y > 320);
		const lightness = await page.evaluate(() => getComputedStyle(document.body).backgroundColor.match(/\d+/g).reduce((a, b) => a + Number(b), 0));

		assert.ok(lightness < 200, "it is not dark");
	}),
	inChromium("with the keyboard alone, and named for a screen reader", async (s, open) => {
		const page = await open();

		await page.goto(url(s, "/i/" + await s.invite("bob")));
		await page.keyboard.press("Tab");
		await page.keyboard.press("Enter");
		await page.waitForURL("**/c/bob/");
		await page.keyboard.type("please: say typed-only");
		await page.keyboard.press("Shift+Enter");
		await page.keyboard.press("Enter");
		await from(page, "agent", "typed-only").waitFor({ timeout: 120000 });
		await page.getByRole("log", { name: "Conversation" }).waitFor();
		await page.getByRole("textbox", { name: "Message to your agent" }).waitFor();
		assert.equal(await page.getByRole("status").count(), 1);
	}),
	{
		name: "every answer of the page's address has the headers that keep other pages out",
		async fn(s) {
			const b = s.web.alice;

			for (const where of ["/", "/c/alice/", "/i/x", "/a/chat.js", "/a/style.css", "/nothing-here", "/c/alice/history?after=0&limit=1"]) {
				const { headers } = await b.ask("GET", where);

				assert.match(headers["content-security-policy"] || "", /default-src 'none'/, where);
				assert.match(headers["content-security-policy"], /frame-ancestors 'none'/, where);
				assert.equal(headers["x-content-type-options"], "nosniff", where);
				assert.equal(headers["access-control-allow-origin"], undefined, where);
			}
			for (const where of ["/a/../chat.html", "/a/%2e%2e/run", "/a/.hidden.js", "/a//etc/passwd", "/a/chat.html/.."])
				assert.ok((await b.ask("GET", where)).status >= 400, where);
			assert.ok(!fs.readFileSync(path.join(root, "web/chat.html"), "utf8").includes("http"), "the page names another host");
		},
	},
];
