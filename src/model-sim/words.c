/* SPDX-License-Identifier: Apache-2.0 */
#include "model-sim/words.h"

#include <string.h>
#include <strings.h>

bool words_find(struct span s, const char *needle, size_t *at)
{
	size_t n = strlen(needle);

	for (size_t i = 0; i + n <= s.n; i++)
		if (strncasecmp(s.p + i, needle, n) == 0) {
			*at = i;
			return true;
		}
	return false;
}

struct span words_from(struct span s, size_t at)
{
	return (struct span){ s.p + at, s.n - at };
}

static bool blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

struct span words_trim(struct span s)
{
	while (s.n && blank(s.p[0]))
		s = words_from(s, 1);
	while (s.n && blank(s.p[s.n - 1]))
		s.n--;
	return s;
}

bool words_any(struct span s, const char *const *cues, size_t n)
{
	size_t at;

	for (size_t i = 0; i < n; i++)
		if (words_find(s, cues[i], &at))
			return true;
	return false;
}

/* The prefix @w as a whole word or phrase: cut off, blanks after it too. */
static bool take(struct span *s, const char *w)
{
	size_t n = strlen(w);

	if (s->n < n || strncasecmp(s->p, w, n) != 0)
		return false;
	if (s->n > n && w[n - 1] != ':' && !blank(s->p[n]) && !strchr("!?.,:;`\"'", s->p[n]))
		return false;
	*s = words_trim(words_from(*s, n));
	return true;
}

static bool take_any(struct span *s, const char *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (take(s, list[i]))
			return true;
	return false;
}

static struct span polite(struct span s)
{
	static const char *const skip[] = { "please", "can you", "could you", "would you", "now", "and", "then" };

	s = words_trim(s);
	while (take_any(&s, skip, CL_ARRAY_LEN(skip)))
		;
	return s;
}

bool words_starts_any(struct span s, const char *const *cues, size_t n)
{
	s = polite(s);
	return take_any(&s, cues, n);
}

/* Without the quotes or backticks that enclose all of it. */
static struct span unquote(struct span s)
{
	s = words_trim(s);
	while (s.n >= 2 && strchr("\"'`", s.p[0]) && s.p[s.n - 1] == s.p[0])
		s = (struct span){ s.p + 1, s.n - 2 };
	return s;
}

/* A file name at the start of @s, which is cut off; something with a dot or a
 * slash and no other punctuation at its end. */
static bool take_file(struct span *s, struct span *file)
{
	static const char *const skip[] = { "the", "a", "my", "new", "file", "called", "named", "text" };
	struct span f = *s;
	size_t n = 0;
	bool mark = false;

	while (take_any(&f, skip, CL_ARRAY_LEN(skip)))
		;
	while (f.n && strchr("\"'`", f.p[0]))
		f = words_from(f, 1);
	while (n < f.n && (strchr("._/-", f.p[n]) || (f.p[n] >= '0' && f.p[n] <= '9') ||
			   (f.p[n] >= 'a' && f.p[n] <= 'z') || (f.p[n] >= 'A' && f.p[n] <= 'Z')))
		n++;
	struct span rest = words_from(f, n);

	while (n && f.p[n - 1] == '.')
		n--;
	for (size_t i = 0; i < n; i++)
		mark |= f.p[i] == '/' || f.p[i] == '.';
	if (!mark || n < 3 || n > 200)
		return false;
	*file = (struct span){ f.p, n };
	while (rest.n && strchr("\"'`", rest.p[0]))
		rest = words_from(rest, 1);
	*s = words_trim(rest);
	return true;
}

/* "X into FILE" at the end of @s: the last such place counts. */
static bool into_file(struct span s, struct span *file, struct span *text)
{
	static const char *const preps[] = { " into ", " to ", " in " };

	for (size_t i = s.n; i-- > 0; ) {
		for (size_t k = 0; k < CL_ARRAY_LEN(preps); k++) {
			size_t n = strlen(preps[k]);
			struct span rest;

			if (i + n > s.n || strncasecmp(s.p + i, preps[k], n) != 0)
				continue;
			rest = words_trim(words_from(s, i + n));
			if (!take_file(&rest, file))
				continue;
			*text = unquote((struct span){ s.p, i });
			return text->n > 0;
		}
	}
	return false;
}

bool words_write(struct span s, struct span *file, struct span *text)
{
	static const char *const verbs[] = { "write", "save", "put", "store", "note" };
	static const char *const create[] = { "create", "make", "write" };
	static const char *const with[] = { "with", "containing", "that says", "the", "content", "text", ":" };
	struct span t = polite(s), u = t;

	if (take_any(&t, verbs, CL_ARRAY_LEN(verbs)) && into_file(t, file, text))
		return true;
	if (!take_any(&u, create, CL_ARRAY_LEN(create)) || !take_file(&u, file))
		return false;
	struct span before = u;

	while (take_any(&u, with, CL_ARRAY_LEN(with)))
		;
	*text = unquote(u);
	return text->n > 0 && text->n < before.n + 1 && before.p != u.p;
}

bool words_read(struct span s, struct span *file)
{
	static const char *const verbs[] = { "read", "show", "open", "print", "cat", "what is in", "what's in",
					     "what does" };
	static const char *const skip[] = { "me", "back" };
	struct span t = polite(s);

	if (!take_any(&t, verbs, CL_ARRAY_LEN(verbs)))
		return false;
	while (take_any(&t, skip, CL_ARRAY_LEN(skip)))
		;
	return take_file(&t, file);
}

bool words_run(struct span s, struct span *command)
{
	static const char *const verbs[] = { "run", "exec", "execute" };
	static const char *const skip[] = { "the command", "command", ":" };
	struct span t = polite(s);

	if (!take_any(&t, verbs, CL_ARRAY_LEN(verbs)))
		return false;
	(void)take_any(&t, skip, CL_ARRAY_LEN(skip));
	*command = unquote(t);
	return command->n > 0;
}

bool words_remember(struct span s, struct span *what)
{
	static const char *const cues[] = { "remember that", "remember:", "remember this:", "remember",
					    "keep in mind that", "note that" };
	struct span t = polite(s);

	if (!take_any(&t, cues, CL_ARRAY_LEN(cues)))
		return false;
	while (t.n && strchr(":, ", t.p[0]))
		t = words_from(t, 1);
	*what = unquote(t);
	return what->n > 0;
}

/* "in 5 minutes" at the start of @s, cut off. */
static bool take_delay(struct span *s, int64_t *in_s)
{
	static const struct { const char *name; uint32_t s; } units[] = {
		{ "seconds", 1 }, { "second", 1 }, { "secs", 1 }, { "sec", 1 }, { "s", 1 },
		{ "minutes", 60 }, { "minute", 60 }, { "mins", 60 }, { "min", 60 }, { "m", 60 },
		{ "hours", 3600 }, { "hour", 3600 }, { "h", 3600 }, { "days", 86400 }, { "day", 86400 },
	};
	struct span t = *s;
	uint32_t n = 1;
	size_t digits = 0;

	if (!take(&t, "in"))
		return false;
	while (digits < t.n && t.p[digits] >= '0' && t.p[digits] <= '9')
		digits++;
	if (digits) {
		if (num_parse_u32((struct span){ t.p, digits }, 366 * 86400, &n))
			return false;
		t = words_trim(words_from(t, digits));
	} else if (!take(&t, "a") && !take(&t, "an") && !take(&t, "one")) {
		return false;
	}
	for (size_t i = 0; i < CL_ARRAY_LEN(units); i++)
		if (take(&t, units[i].name)) {
			int64_t v = (int64_t)n * units[i].s;

			if (v < 1 || v > 366LL * 86400)
				return false;
			*in_s = v;
			*s = t;
			return true;
		}
	return false;
}

bool words_remind(struct span s, int64_t *in_s, struct span *what)
{
	static const char *const to[] = { "to", "that", "about", "of", ",", ":" };
	struct span t = polite(s), u;

	if (!take(&t, "remind me"))
		return false;
	u = t;
	if (take_delay(&u, in_s)) {
		(void)take_any(&u, to, CL_ARRAY_LEN(to));
		*what = words_trim(u);
	} else {
		/* "to X in 5 minutes": the last "in" that a delay follows, and only that */
		size_t i = t.n;

		(void)take_any(&t, to, CL_ARRAY_LEN(to));
		for (i = t.n; i-- > 1; ) {
			u = words_from(t, i);
			if (blank(t.p[i - 1]) && take_delay(&u, in_s))
				break;
		}
		if (i == 0 || i > t.n)
			return false;
		*what = words_trim((struct span){ t.p, i });
	}
	while (what->n && strchr(".!", what->p[what->n - 1]))
		what->n--;
	return what->n > 0;
}

void words_shell_quote(struct span s, const char *prefix, struct buf *out)
{
	(void)buf_add_ch(out, '\'');
	(void)buf_add_str(out, prefix);
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] == '\'')
			(void)buf_add_str(out, "'\\''");
		else
			(void)buf_add_ch(out, s.p[i] == '\n' ? ' ' : s.p[i]);
	}
	(void)buf_add_ch(out, '\'');
}
