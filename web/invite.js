/* SPDX-License-Identifier: Apache-2.0 */
"use strict";

/*
 * A one-time link. Opening it changes nothing, so that a messenger's link
 * preview cannot use it up; the button presents the code.
 */
const form = document.getElementById("form");
const button = document.getElementById("open");
const error = document.getElementById("error");

function say(text) {
	error.textContent = text;
	error.hidden = false;
}

form.addEventListener("submit", async (event) => {
	event.preventDefault();
	button.disabled = true;
	error.hidden = true;
	try {
		const res = await fetch(location.pathname, {
			method: "POST",
			headers: { "Content-Type": "application/json" },
			body: "{}",
		});
		const got = await res.json().catch(() => ({}));

		if (res.ok && /^\/c\/[a-z0-9-]+\/$/.test(got.page || "")) {
			location.replace(got.page);
			return;
		}
		if (res.status === 403 || res.status === 404) {
			document.getElementById("title").textContent = "This link does not work any more";
			document.getElementById("text").hidden = true;
			button.hidden = true;
			say("It was used already, has expired, or is incomplete. Ask whoever sent it to you for a new one.");
			return;
		}
		say("The service could not open your conversation just now. Please try again in a moment.");
	} catch {
		say("The service cannot be reached. Check your connection and try again.");
	}
	button.disabled = false;
});
