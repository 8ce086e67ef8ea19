/* SPDX-License-Identifier: Apache-2.0 */
"use strict";

/*
 * One conversation. How this works: `history?after=N` is the only source of
 * messages; `events` (server-sent) merely says "look again", and a timer looks
 * too, so that a missed event costs seconds and never a message. What was typed
 * is shown at once and keeps a client_id: sending it again after a broken
 * connection cannot make two messages of it. Text only ever becomes text
 * nodes; code fences become <pre> by createElement.
 */
const $ = (id) => document.getElementById(id);
const TEXT_MAX = 65536;		/* bytes of one message */
const LOOK_MS = 1500;		/* between looks without events */
const CALM_MS = 10000;		/* with them */
const words = {
	running: "ready",
	starting: "waking up…",
	resetting: "starting afresh…",
	dormant: "asleep; wakes when you write",
	created: "not started yet",
	stopped: "switched off",
	failed: "has a problem; the operator has been told",
	deleted: "gone",
	unknown: "connecting…",
};

const base = location.pathname.replace(/[^/]*$/, "");
const who = (/^\/c\/([a-z0-9-]+)\//.exec(location.pathname) || [])[1] || "you";
const shown = new Map();	/* message id -> element */
const waiting = new Map();	/* client_id -> { text, el, tries } */
const kept = new Map();		/* messages that waited for the agent when last seen */
let last = 0;			/* highest id seen */
let lastDay = "";
let agent = "unknown";
let signedOut = false;
let live = false;		/* events are coming */
let looking = false, again = false;
let timer = 0;

$("name").textContent = who + "’s agent";
document.title = who + "’s agent · Cloister";

/* ---- showing ---- */

function notice(text, bad) {
	const el = $("notice");

	if (el.textContent !== text)
		el.textContent = text;
	el.classList.toggle("bad", Boolean(bad));
	el.hidden = !text;
}

function addInline(parent, text) {
	for (const [i, part] of text.split(/`([^`\n]+)`/).entries()) {
		if (!part)
			continue;
		if (i % 2) {
			const code = document.createElement("code");

			code.textContent = part;
			parent.append(code);
		} else {
			parent.append(part);
		}
	}
}

/* Text with ``` fences and `code`; nothing else has a meaning. */
function fill(bubble, text) {
	bubble.replaceChildren();
	for (const [i, part] of text.split(/^```[^\n]*\n([\s\S]*?)^```[ \t]*$\n?/m).entries()) {
		if (!part)
			continue;
		if (i % 2) {
			const pre = document.createElement("pre");
			const code = document.createElement("code");

			code.textContent = part.replace(/\n$/, "");
			pre.tabIndex = 0;
			pre.append(code);
			bubble.append(pre);
		} else {
			addInline(bubble, part);
		}
	}
}

function clock(ms) {
	return new Date(ms).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
}

function dayLine(ms) {
	const day = new Date(ms).toLocaleDateString([], { weekday: "long", day: "numeric", month: "long" });
	const today = new Date().toLocaleDateString([], { weekday: "long", day: "numeric", month: "long" });

	if (day === lastDay)
		return;
	lastDay = day;
	const li = document.createElement("li");

	li.className = "day";
	li.textContent = day === today ? "Today" : day;
	$("log").append(li);
}

function bubbleFor(from, text) {
	const li = document.createElement("li");
	const said = document.createElement("span");
	const bubble = document.createElement("div");
	const meta = document.createElement("div");

	li.className = "msg " + (from === "owner" ? "owner" : "agent");
	said.className = "off-screen";
	said.textContent = from === "owner" ? "You: " : "Agent: ";
	bubble.className = "bubble";
	fill(bubble, text);
	meta.className = "meta";
	li.append(said, bubble, meta);
	return li;
}

function metaText(li, text, bad) {
	const meta = li.querySelector(".meta");

	meta.textContent = text;
	meta.classList.toggle("bad", Boolean(bad));
	return meta;
}

function stateText(m) {
	if (m.from !== "owner")
		return clock(m.at_ms);
	if (m.state === "failed")
		return clock(m.at_ms) + " · could not be delivered";
	if (m.state === "waiting" && agent !== "running")
		return clock(m.at_ms) + " · kept safe until your agent is awake";
	return clock(m.at_ms);
}

function show(m) {
	let li = shown.get(m.id);

	/* the answer to our POST and the history race: know our own message by either */
	for (const [cid, w] of waiting) {
		if (!li && m.from === "owner" && (w.id === m.id || m.client_id === cid ||
		    (!w.id && !m.client_id && w.text === m.text))) {
			li = w.el;
			waiting.delete(cid);
			shown.set(m.id, li);
		}
	}
	if (!li) {
		dayLine(m.at_ms);
		li = bubbleFor(m.from, m.text);
		shown.set(m.id, li);
		$("log").append(li);
	} else if (!li.dataset.id) {
		/* ours: keep the order of the conversation */
		dayLine(m.at_ms);
		$("log").append(li);
	}
	li.dataset.id = m.id;
	if (m.from === "owner" && m.state === "waiting")
		kept.set(m.id, m);
	metaText(li, stateText(m), m.state === "failed");
	for (const w of waiting.values())
		$("log").append(w.el);
}

function atEnd() {
	const s = $("scroll");

	return s.scrollHeight - s.scrollTop - s.clientHeight < 120;
}

function toEnd() {
	$("scroll").scrollTop = $("scroll").scrollHeight;
}

function showState(state) {
	agent = Object.hasOwn(words, state) ? state : "unknown";
	for (const [id, m] of agent === "running" ? kept : []) {
		metaText(shown.get(id), clock(m.at_ms));
		kept.delete(id);
	}
	$("state").dataset.state = agent;
	if ($("state").textContent !== words[agent])
		$("state").textContent = words[agent];
}

/* ---- looking ---- */

function signOut() {
	signedOut = true;
	showState("unknown");
	$("state").textContent = "not signed in";
	notice("This browser is not signed in to this conversation. Open your personal link; if it was used already, ask for a new one.", true);
	$("send").disabled = true;
	$("text").disabled = true;
}

async function history() {
	for (;;) {
		const res = await fetch(base + "history?after=" + last + "&limit=200", { cache: "no-store" });

		if (res.status === 401) {
			signOut();
			return;
		}
		if (!res.ok)
			throw new Error("history " + res.status);
		const got = await res.json();
		const end = atEnd();

		if (typeof got.agent === "string")
			showState(got.agent);
		for (const m of got.messages) {
			show(m);
			last = Math.max(last, m.id);
		}
		$("typing").hidden = !got.typing;
		$("empty").hidden = shown.size + waiting.size > 0;
		if (end && (got.messages.length || got.typing))
			toEnd();
		if (!got.messages.length || got.messages.length < 200)
			break;
	}
	if (agent === "failed" || agent === "stopped")
		notice(agent === "stopped" ?
			"Your agent is switched off at the moment. What you write is kept and delivered when it is back." :
			"Your agent has a problem at the moment. What you write is kept and delivered when it is back.");
	else if (agent === "starting" || agent === "resetting")
		notice("Your agent is waking up; this takes about half a minute. What you write is kept until then.");
	else
		notice("");
}

async function look() {
	if (signedOut)
		return;
	if (looking) {
		again = true;
		return;
	}
	looking = true;
	clearTimeout(timer);
	do {
		again = false;
		try {
			await history();
		} catch {
			notice("The service cannot be reached. Trying again…", true);
		}
	} while (again && !signedOut);
	looking = false;
	if (!signedOut) {
		const busy = !$("typing").hidden || agent !== "running";

		timer = setTimeout(look, live && !busy ? CALM_MS : LOOK_MS);
	}
}

function listen() {
	const events = new EventSource(base + "events");

	events.onopen = () => { live = true; look(); };
	events.onmessage = () => look();
	events.onerror = () => { live = false; };
}

/* ---- sending ---- */

function newId() {
	const bytes = crypto.getRandomValues(new Uint8Array(16));

	return Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
}

function failed(cid, why) {
	const w = waiting.get(cid);

	if (!w)
		return;
	const meta = metaText(w.el, why + " ", true);
	const retry = document.createElement("button");

	retry.type = "button";
	retry.className = "plain";
	retry.textContent = "Try again";
	retry.addEventListener("click", () => { w.tries = 0; post(cid); $("text").focus(); });
	meta.append(retry);
}

async function post(cid) {
	const w = waiting.get(cid);

	if (!w)
		return;
	metaText(w.el, "sending…");
	try {
		const res = await fetch(base + "send", {
			method: "POST",
			headers: { "Content-Type": "application/json" },
			body: JSON.stringify({ text: w.text, client_id: cid }),
		});

		if (res.ok) {
			w.id = (await res.json()).message_id;
			metaText(w.el, "sent");
			look();
			return;
		}
		if (res.status === 401) {
			signOut();
			failed(cid, "Not sent: you are not signed in.");
			return;
		}
		if (res.status === 413 || res.status === 400) {
			failed(cid, res.status === 413 ? "Not sent: the message is too long." :
				"Not sent: the message was not accepted.");
			return;
		}
		if (res.status === 429) {
			failed(cid, "Not sent: too many messages at once. Wait a moment.");
			return;
		}
	} catch {
		/* the connection broke: the same client_id makes another try safe */
	}
	if (++w.tries < 5)
		setTimeout(post, 800 * w.tries, cid);
	else
		failed(cid, "Not sent: the service cannot be reached.");
}

function send(text) {
	const cid = newId();
	const el = bubbleFor("owner", text);

	waiting.set(cid, { text, el, tries: 0, id: 0 });
	$("log").append(el);
	$("empty").hidden = true;
	toEnd();
	post(cid);
}

/* ---- the box ---- */

function grow() {
	const t = $("text");

	t.style.height = "auto";
	t.style.height = t.scrollHeight + 2 + "px";
	$("send").disabled = signedOut || !t.value.trim();
}

$("compose").addEventListener("submit", (event) => {
	event.preventDefault();
	const text = $("text").value.trim();

	if (!text || signedOut)
		return;
	if (new TextEncoder().encode(text).length > TEXT_MAX) {
		notice("This message is too long (more than 64 KB). Please shorten it or send it in parts.", true);
		return;
	}
	$("text").value = "";
	grow();
	send(text);
});

$("text").addEventListener("input", grow);
$("text").addEventListener("keydown", (event) => {
	if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
		event.preventDefault();
		$("compose").requestSubmit();
	}
});
for (const b of $("tries").querySelectorAll("button"))
	b.addEventListener("click", () => send(b.textContent));
document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
window.addEventListener("online", look);

grow();
listen();
look().then(toEnd);
$("text").focus();
