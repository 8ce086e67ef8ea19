/* SPDX-License-Identifier: Apache-2.0 */
#include "http/http.h"

#include "http/table.h"

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
		return (c | 0x20) - 'a' + 10;
	return -1;
}

static bool unreserved(int c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       c == '-' || c == '.' || c == '_' || c == '~';
}

/* Return: NULL or what is wrong with the byte that "%hh" at @p means */
static const char *encoded(const char *p, size_t n)
{
	if (n < 3 || hex_value(p[1]) < 0 || hex_value(p[2]) < 0)
		return "a broken % in the path";
	int v = hex_value(p[1]) * 16 + hex_value(p[2]);

	if (v == '/' || v == '\\' || v == '%' || v == ';')
		return "an encoded separator in the path";
	if (v < 0x20 || v == 0x7f)
		return "an encoded control character in the path";
	if (unreserved(v))
		return "an encoded plain character in the path";
	return NULL;
}

const char *http_path_strict(struct span path)
{
	size_t seg = 1;

	if (path.n == 0 || path.p[0] != '/')
		return "the path does not begin with /";
	for (size_t i = 1; i <= path.n; i++) {
		char c = i < path.n ? path.p[i] : '/';

		if (c == '/') {
			size_t n = i - seg;
			const char *s = path.p + seg;

			if (n == 0 && i < path.n)
				return "an empty segment in the path";
			if ((n == 1 && s[0] == '.') || (n == 2 && s[0] == '.' && s[1] == '.'))
				return "a dot segment in the path";
			seg = i + 1;
			continue;
		}
		if (!(http_class[(uint8_t)c] & HTTP_C_TARGET) || c == '?' || c == '\\' || c == ';')
			return "a character that paths here do not have";
		if (c == '%') {
			const char *why = encoded(path.p + i, path.n - i);

			if (why)
				return why;
			i += 2;
		}
	}
	return NULL;
}
